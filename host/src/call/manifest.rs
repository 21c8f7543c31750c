//! The checked manifest of a plugin. A release with an invalid manifest is never staged.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::capability::rooms::USER_ROOM;
use crate::names::{self, InvalidName, PluginName};
use crate::sandbox::exports::{self, Description, Door, Hooks, Schedule};
use crate::transaction::profile::{InvalidPattern, Pattern, Tenancy};

/// A checked description.
pub struct Manifest {
    pub name: PluginName,
    pub version: String,
    pub data_version: u32,
    pub reads_data_versions: Vec<u32>,
    pub tenancy: Tenancy,
    pub namespaces: Vec<Namespace>,
    /// Patterns of namespaces and rooms.
    pub rooms: Vec<(Pattern, Pattern)>,
    pub events: Vec<HandledEvent>,
    pub emits: Vec<exports::EmittedEvent>,
    pub topics: Vec<String>,
    pub schedules: Vec<Schedule>,
    pub takes: Vec<Taken>,
    pub tenant_keys: Vec<TenantKeys>,
    pub wants_connect: bool,
    pub wants_disconnect: bool,
}

/// Keys without a tenant, and the prefix of the same keys for a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantKeys {
    pub without: String,
    /// Contains `{tenant}`.
    pub with: String,
}

/// The placeholder of the tenant in the prefix of a tenant's keys.
const TENANT: &str = "{tenant}";

impl TenantKeys {
    /// The tenant's key for a key that begins with `without`. The tenant is escaped like in `store::key` of the SDK.
    pub fn of_tenant(&self, key: &str, tenant: &str) -> String {
        let tenant = tenant.replace('%', "%25").replace('/', "%2F");
        format!("{}{}", self.with.replace(TENANT, &tenant), &key[self.without.len()..])
    }
}

pub struct Namespace {
    pub pattern: Pattern,
    pub door: Option<Door>,
    /// Whether its sockets may come back after a lost connection; the operator may turn it off.
    pub recovers: bool,
}

pub struct HandledEvent {
    /// The pattern's text.
    pub namespace: String,
    pub name: String,
    pub payload: String,
    pub reply: Option<String>,
    pub on_failure: Option<String>,
    /// The payload's field that is its idempotency key.
    pub once: Option<String>,
}

/// Data of another plugin that this one takes over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    pub from: PluginName,
    pub prefix: String,
}

/// The error in a description.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("it describes itself as {found}, but is deployed as {deployed}")]
    Name { found: String, deployed: PluginName },
    #[error("its version {0:?} is not like 1.2.3")]
    Version(String),
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    #[error("a pattern is wrong: {0}")]
    Pattern(#[from] InvalidPattern),
    #[error("the namespace {0:?} does not begin with `/`")]
    Namespace(String),
    #[error("{what} names the namespace {namespace:?}, which the plugin does not list")]
    UnlistedNamespace { what: String, namespace: String },
    #[error("the room {0:?} is reserved for the host")]
    UserRoom(String),
    #[error("the event {name:?} of {namespace:?} is described twice")]
    EventTwice { namespace: String, name: String },
    #[error("the schema of {0:?} is not JSON: {1}")]
    Schema(String, crate::json::InvalidJson),
    #[error("the schema of {0:?} is longer than 64 KiB")]
    LongSchema(String),
    #[error("all its schemas together are longer than 1 MiB")]
    LongSchemas,
    #[error("the schedule {key:?} {why}")]
    Schedule { key: String, why: &'static str },
    #[error("it has {count} {what}, and a plugin may have {limit}")]
    TooMany { what: &'static str, count: usize, limit: usize },
    #[error("it takes the data of {0:?} with the prefix {1:?}: {2}")]
    Takes(String, String, &'static str),
    #[error("its keys without a tenant with the prefix {0:?}: {1}")]
    TenantKeys(String, &'static str),
    #[error("the event {event:?} takes effect once by the field {field:?}: a field has 1 to {MAX_FIELD} bytes")]
    Once { event: String, field: String },
    #[error("{0} has a sentence longer than 1 KiB")]
    LongSentence(String),
}

impl Manifest {
    /// Whether the plugin may join sockets to this room.
    pub fn describes_room(&self, namespace: &str, room: &str) -> bool {
        self.rooms.iter().any(|(ns, pattern)| ns.matches(namespace) && pattern.matches(room))
    }

    pub fn check(description: Description, deployed: &PluginName) -> Result<Self, ManifestError> {
        if description.name != deployed.as_str() {
            return Err(ManifestError::Name { found: description.name, deployed: deployed.clone() });
        }
        check_version(&description.version)?;
        check_counts(&description)?;
        let namespaces = description.namespaces.into_iter().map(check_namespace).collect::<Result<Vec<_>, _>>()?;
        let listed = |what: &dyn Fn() -> String, namespace: &str| {
            let found = namespaces.iter().any(|ns| &*ns.pattern.text == namespace);
            let unlisted = || ManifestError::UnlistedNamespace { what: what(), namespace: namespace.to_owned() };
            found.then_some(()).ok_or_else(unlisted)
        };
        let mut rooms = Vec::new();
        for room in description.rooms {
            listed(&|| format!("the room {:?}", room.pattern), &room.namespace)?;
            names::check("room", &room.pattern)?;
            if room.pattern.starts_with(USER_ROOM) {
                return Err(ManifestError::UserRoom(room.pattern));
            }
            rooms.push((Pattern::parse(&room.namespace)?, Pattern::parse(&room.pattern)?));
        }
        let mut events: Vec<HandledEvent> = Vec::new();
        let mut schemas = Schemas::default();
        for event in description.events {
            listed(&|| format!("the event {:?}", event.name), &event.namespace)?;
            names::check_event(&event.name)?;
            let (namespace, name) = (event.namespace, event.name);
            if events.iter().any(|other| other.namespace == namespace && other.name == name) {
                return Err(ManifestError::EventTwice { namespace, name });
            }
            for schema in std::iter::once(&event.payload).chain(&event.reply) {
                schemas.check(&name, schema)?;
            }
            check_sentences(&format_args!("the event {name:?}"), &event.on_failure)?;
            if let Some(field) = event.once.as_ref().filter(|field| field.is_empty() || field.len() > MAX_FIELD) {
                return Err(ManifestError::Once { event: name, field: field.clone() });
            }
            events.push(HandledEvent {
                namespace,
                name,
                payload: event.payload,
                reply: event.reply,
                on_failure: event.on_failure,
                once: event.once,
            });
        }
        for emitted in &description.emits {
            listed(&|| format!("the event {:?}", emitted.name), &emitted.namespace)?;
            names::check_event(&emitted.name)?;
            schemas.check(&emitted.name, &emitted.payload)?;
        }
        for topic in &description.topics {
            names::check_topic(topic)?;
        }
        check_schedules(&description.schedules)?;
        let takes = check_takes(description.takes, deployed)?;
        let tenant_keys = check_tenant_keys(description.tenant_keys)?;
        Ok(Self {
            name: deployed.clone(),
            version: description.version,
            data_version: description.data_version,
            reads_data_versions: description.reads_data_versions,
            tenancy: match description.tenancy {
                exports::Tenancy::None => Tenancy::None,
                exports::Tenancy::Required => Tenancy::Required,
                exports::Tenancy::Optional => Tenancy::Optional,
            },
            namespaces,
            rooms,
            events,
            emits: description.emits,
            topics: description.topics,
            schedules: description.schedules,
            takes,
            tenant_keys,
            wants_connect: description.hooks.contains(Hooks::CONNECT),
            wants_disconnect: description.hooks.contains(Hooks::DISCONNECT),
        })
    }

    /// Whether this release can read data that the other has written.
    pub fn reads_data_of(&self, other: &Self) -> bool {
        self.data_version == other.data_version || self.reads_data_versions.contains(&other.data_version)
    }
}

/// The longest schema, and the total of a plugin, in bytes. Schemas are rendered into documents on request.
const MAX_SCHEMA: usize = 64 << 10;
const MAX_SCHEMAS: usize = 1 << 20;

/// Counts the schemas of a description.
#[derive(Default)]
struct Schemas {
    bytes: usize,
}

impl Schemas {
    fn check(&mut self, event: &str, schema: &str) -> Result<(), ManifestError> {
        self.bytes += schema.len();
        if schema.len() > MAX_SCHEMA {
            return Err(ManifestError::LongSchema(event.to_owned()));
        }
        if self.bytes > MAX_SCHEMAS {
            return Err(ManifestError::LongSchemas);
        }
        crate::json::check(schema).map_err(|e| ManifestError::Schema(event.to_owned(), e))
    }
}

/// Limits of a description. Its entries are checked when a socket connects or joins, or are returned with the contract.
const MAX_NAMESPACES: usize = 64;
const MAX_ROOMS: usize = 256;
const MAX_EVENTS: usize = 1024;
const MAX_EMITS: usize = 1024;
const MAX_TOPICS: usize = 256;
const MAX_SCHEDULES: usize = 64;
const MAX_DATA_VERSIONS: usize = 256;
const MAX_TAKES: usize = 64;

/// The most claims that one door requires, and roles that it admits.
const MAX_CLAIMS: usize = 64;
const MAX_ROLES: usize = 64;

/// The longest name of the field of an idempotency key, in bytes.
const MAX_FIELD: usize = 64;

/// The longest sentence for a client, in bytes.
const MAX_SENTENCE: usize = 1024;

/// Checked before anything else.
fn check_counts(description: &Description) -> Result<(), ManifestError> {
    at_most("namespaces", description.namespaces.len(), MAX_NAMESPACES)?;
    at_most("patterns of rooms", description.rooms.len(), MAX_ROOMS)?;
    at_most("events that it handles", description.events.len(), MAX_EVENTS)?;
    at_most("events that it emits", description.emits.len(), MAX_EMITS)?;
    at_most("topics", description.topics.len(), MAX_TOPICS)?;
    at_most("schedules", description.schedules.len(), MAX_SCHEDULES)?;
    at_most("prefixes that it takes", description.takes.len(), MAX_TAKES)?;
    at_most("prefixes of keys without a tenant", description.tenant_keys.len(), MAX_TAKES)?;
    at_most("data versions that it reads", description.reads_data_versions.len(), MAX_DATA_VERSIONS)?;
    Ok(())
}

fn at_most(what: &'static str, count: usize, limit: usize) -> Result<(), ManifestError> {
    if count > limit { Err(ManifestError::TooMany { what, count, limit }) } else { Ok(()) }
}

fn check_sentences<'a>(whose: &impl fmt::Display, sentences: impl IntoIterator<Item = &'a String>) -> Result<(), ManifestError> {
    let too_long = sentences.into_iter().any(|sentence| sentence.len() > MAX_SENTENCE);
    if too_long { Err(ManifestError::LongSentence(whose.to_string())) } else { Ok(()) }
}

/// The shortest time between two runs of a schedule.
const MIN_EVERY_MS: u64 = 100;

fn check_schedules(schedules: &[Schedule]) -> Result<(), ManifestError> {
    for (at, schedule) in schedules.iter().enumerate() {
        names::check("schedule", &schedule.key)?;
        let wrong = if schedule.every_ms < MIN_EVERY_MS {
            "runs more often than every 100 ms"
        } else if schedules[..at].iter().any(|other| other.key == schedule.key) {
            "is described twice"
        } else {
            continue;
        };
        return Err(ManifestError::Schedule { key: schedule.key.clone(), why: wrong });
    }
    Ok(())
}

/// Prefixes of one plugin must not overlap, so that a key is moved once and can be moved back.
fn check_takes(takes: Vec<exports::Taken>, own: &PluginName) -> Result<Vec<Taken>, ManifestError> {
    let mut checked: Vec<Taken> = Vec::new();
    for exports::Taken { from, prefix } in takes {
        let overlaps = |other: &Taken| {
            other.from.as_str() == from && (other.prefix.starts_with(&prefix) || prefix.starts_with(&other.prefix))
        };
        let wrong = match PluginName::parse(&from) {
            Ok(from) if from == *own => "that is its own name",
            Ok(from) if from.is_hosts() => "that is a part of the server",
            Ok(_) if names::check("prefix", &prefix).is_err() => "a prefix has 1 to 256 bytes, without control characters",
            Ok(_) if prefix.starts_with('%') => "a prefix names keys without a tenant; those of tenants are moved with them",
            Ok(_) if checked.iter().any(overlaps) => "another prefix of it overlaps",
            Ok(from) => {
                checked.push(Taken { from, prefix });
                continue;
            }
            Err(_) => "that is no plugin's name",
        };
        return Err(ManifestError::Takes(from, prefix, wrong));
    }
    Ok(checked)
}

/// The moved keys must not match a prefix of keys to move.
fn check_tenant_keys(all: Vec<exports::TenantKeys>) -> Result<Vec<TenantKeys>, ManifestError> {
    let is_prefix = |text: &str| names::check("prefix", text).is_ok();
    let mut checked: Vec<TenantKeys> = Vec::new();
    for exports::TenantKeys { without, with } in all {
        let overlaps = |other: &TenantKeys| other.without.starts_with(&without) || without.starts_with(&other.without);
        let wrong = if !is_prefix(&without) || !is_prefix(&with) {
            "a prefix has 1 to 256 bytes, without control characters"
        } else if with.matches(TENANT).count() != 1 {
            "the prefix of a tenant's keys holds `{tenant}` once"
        } else if with.starts_with(&without) {
            "the prefix of a tenant's keys begins like that of keys without one"
        } else if checked.iter().any(overlaps) {
            "another prefix of it overlaps"
        } else {
            checked.push(TenantKeys { without, with });
            continue;
        };
        return Err(ManifestError::TenantKeys(without, wrong));
    }
    Ok(checked)
}

fn check_version(version: &str) -> Result<(), ManifestError> {
    let numbers = version.split(['-', '+']).next().unwrap_or_default();
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let holds = version.len() <= 64 && numbers.split('.').count() == 3 && numbers.split('.').all(is_number);
    holds.then_some(()).ok_or_else(|| ManifestError::Version(version.to_owned()))
}

/// Checks a door that the plugin describes or the operator configures.
pub(crate) fn check_door(path: &str, door: &Door) -> Result<(), ManifestError> {
    at_most("claims at one door", door.claims.len(), MAX_CLAIMS)?;
    at_most("roles at one door", door.roles.len(), MAX_ROLES)?;
    door.claims.iter().try_for_each(|claim| names::check("claim", claim))?;
    door.roles.iter().try_for_each(|role| names::check("role", role))?;
    check_sentences(&format_args!("the door of {path:?}"), [&door.missing, &door.invalid, &door.forbidden])
}

fn check_namespace(namespace: exports::Namespace) -> Result<Namespace, ManifestError> {
    names::check("namespace", &namespace.path)?;
    if !namespace.path.starts_with('/') || namespace.path.contains(',') {
        return Err(ManifestError::Namespace(namespace.path));
    }
    if let Some(door) = &namespace.door {
        check_door(&namespace.path, door)?;
    }
    Ok(Namespace { pattern: Pattern::parse(&namespace.path)?, door: namespace.door, recovers: true })
}

#[cfg(test)]
#[path = "manifest/tests.rs"]
mod tests;
