//! The contract with clients: the namespaces, door policies and events of all live releases, from the plugins' descriptions. It must
//! never fail: a schema that cannot be understood becomes `true`, so that all others are still published.

pub mod asyncapi;
pub mod page;
mod schema;
pub mod typescript;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::call::manifest::Manifest;
use crate::error::Code;
use crate::sandbox::exports::Door;
use schema::{Place, SchemaCollector};

/// The configured claims that a token's user is read from: of each list, the first claim with a value counts.
#[derive(Debug, Default)]
pub struct Reading {
    pub user_id: Vec<String>,
    pub tenant: Vec<String>,
    pub name: Vec<String>,
    pub email: Vec<String>,
    pub image: Vec<String>,
    pub role: Vec<String>,
}

impl Reading {
    /// Each field of a user, its claims and their allowed forms.
    fn rows(&self) -> [(&'static str, &[String], &'static str); 6] {
        const TEXT: &str = "a string or a whole number";
        [
            ("user id", &self.user_id, "a string of 1 to 256 bytes or a whole number; required"),
            ("tenant", &self.tenant, "a string of 1 to 256 bytes or a whole number"),
            ("name", &self.name, TEXT),
            ("e-mail", &self.email, TEXT),
            ("image", &self.image, TEXT),
            ("role", &self.role, "a string, a whole number or a list of at most 64; one allowed role is enough"),
        ]
    }
}

/// The contract of the releases that are live.
pub struct Contract {
    /// `name@version` of each plugin, in the order of their names.
    pub plugins: Vec<String>,
    /// In the order of their paths.
    pub namespaces: Vec<Namespace>,
    /// The named types: JSON Schemas with references of the form `#/components/schemas/NAME`.
    pub types: BTreeMap<String, Value>,
}

/// One namespace, with the events of all its plugins.
pub struct Namespace {
    /// As plugins describe it: `/chat`, `/course/{id}`.
    pub path: String,
    /// A unique name for types: `Root`, `Chat`, `Course`.
    pub name: String,
    /// None: the plugin that owns it is not live, and every connection is refused.
    pub door: Option<Door>,
    /// `name@version` of its plugins.
    pub plugins: Vec<String>,
    /// Events from clients, by name.
    pub handled: Vec<Handled>,
    /// Events to clients, by name.
    pub emitted: Vec<Emitted>,
}

/// An event from clients. Any client may ask for its acknowledgement.
pub struct Handled {
    pub name: String,
    /// The schema of the first argument.
    pub payload: Value,
    /// None: `{}`.
    pub reply: Option<Value>,
    /// The refusal's sentence if the plugin or storage fails.
    pub on_failure: Option<String>,
    /// The payload's field by which a repeated event takes effect once.
    pub once: Option<String>,
    pub plugin: String,
}

impl Handled {
    /// The rule for a repeated event, if it takes effect once.
    fn once(&self) -> Option<String> {
        let field = self.once.as_ref()?;
        Some(format!("Sent again with the same {field}, it takes effect once and gets the first reply again."))
    }
}

/// An event to clients.
pub struct Emitted {
    pub name: String,
    /// The schemas of the first argument; several if plugins emit it with different ones.
    pub payloads: Vec<Value>,
    pub plugins: Vec<String>,
}

/// The type of an acknowledgement with a refusal.
pub const REFUSED: &str = "Refused";

/// The type of an acknowledgement without a reply.
pub const DONE: &str = "Done";

/// The host's other types.
const REFUSAL: &str = "Refusal";
const CODE: &str = "RefusalCode";
const REFUSED_EVENT: &str = "RefusedEvent";
const EXPIRED: &str = "TokenExpired";
const FRESH_TOKEN: &str = "FreshToken";

impl Contract {
    /// Merges the plugins' descriptions. If two handle the same event, which deployment refuses, the first by name counts.
    pub fn of<'a>(manifests: impl IntoIterator<Item = &'a Manifest>) -> Self {
        let mut manifests: Vec<_> = manifests.into_iter().collect();
        manifests.sort_by(|a, b| a.name.cmp(&b.name));
        let mut draft = Draft::new(&manifests);
        for manifest in &manifests {
            draft.add(manifest);
        }
        draft.finish(manifests.iter().map(|manifest| release(manifest)).collect())
    }
}

/// Names that no plugin's type may have: the host's types, and those derived from the namespaces' names.
fn reserved<'a>(namespaces: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let host = [REFUSAL, CODE, REFUSED, REFUSED_EVENT, EXPIRED, FRESH_TOKEN, DONE].into_iter().chain(typescript::RESERVED);
    let made = namespaces.flat_map(|name| typescript::ENDINGS.map(|ending| format!("{name}{ending}")));
    host.map(str::to_owned).chain(made).collect()
}

/// A namespace under construction, with its events by name.
struct NamespaceDraft {
    name: String,
    door: Option<Door>,
    plugins: Vec<String>,
    handled: BTreeMap<String, Handled>,
    emitted: BTreeMap<String, Emitted>,
}

struct Draft {
    namespaces: BTreeMap<String, NamespaceDraft>,
    collector: SchemaCollector,
}

impl Draft {
    fn new(manifests: &[&Manifest]) -> Self {
        let listed = manifests.iter().flat_map(|manifest| &manifest.namespaces);
        let paths: BTreeSet<String> = listed.map(|namespace| namespace.pattern.text.to_string()).collect();
        let mut taken = BTreeSet::new();
        let mut namespaces = BTreeMap::new();
        for path in paths {
            let name = unique(&name_of(&path), &mut taken);
            let (handled, emitted) = host_events();
            namespaces.insert(path, NamespaceDraft { name, door: None, plugins: Vec::new(), handled, emitted });
        }
        Self { namespaces, collector: SchemaCollector::default() }
    }

    fn add(&mut self, manifest: &Manifest) {
        let plugin = release(manifest);
        for namespace in &manifest.namespaces {
            if let Some(open) = self.namespaces.get_mut(&*namespace.pattern.text) {
                open.plugins.push(plugin.clone());
                open.door = open.door.take().or_else(|| namespace.door.clone());
            }
        }
        for event in &manifest.events {
            let Some(open) = self.namespaces.get_mut(&event.namespace) else { continue };
            let place = Place { namespace: &open.name, plugin: manifest.name.as_str(), ending: "Sent" };
            let payload = self.collector.lift(place, &event.payload);
            let place = Place { ending: "Received", ..place };
            let reply = event.reply.as_ref().map(|reply| self.collector.lift(place, reply));
            let (name, on_failure, once) = (event.name.clone(), event.on_failure.clone(), event.once.clone());
            let handled = Handled { name, payload, reply, on_failure, once, plugin: plugin.clone() };
            open.handled.entry(event.name.clone()).or_insert(handled);
        }
        for event in &manifest.emits {
            let Some(open) = self.namespaces.get_mut(&event.namespace) else { continue };
            let place = Place { namespace: &open.name, plugin: manifest.name.as_str(), ending: "Received" };
            let payload = self.collector.lift(place, &event.payload);
            let new = || Emitted { name: event.name.clone(), payloads: Vec::new(), plugins: Vec::new() };
            let emitted = open.emitted.entry(event.name.clone()).or_insert_with(new);
            if !emitted.payloads.contains(&payload) {
                emitted.payloads.push(payload);
            }
            if !emitted.plugins.contains(&plugin) {
                emitted.plugins.push(plugin.clone());
            }
        }
    }

    fn finish(self, plugins: Vec<String>) -> Contract {
        let reserved = reserved(self.namespaces.values().map(|open| &*open.name));
        let lifted = self.collector.finish(reserved);
        let close = |(path, open): (String, NamespaceDraft)| {
            let mut handled: Vec<_> = open.handled.into_values().collect();
            for event in &mut handled {
                lifted.resolve(&mut event.payload);
                event.reply.iter_mut().for_each(|reply| lifted.resolve(reply));
            }
            let mut emitted: Vec<_> = open.emitted.into_values().collect();
            for event in &mut emitted {
                event.payloads.iter_mut().for_each(|payload| lifted.resolve(payload));
            }
            Namespace { path, name: open.name, door: open.door, plugins: open.plugins, handled, emitted }
        };
        let namespaces = self.namespaces.into_iter().map(close).collect();
        let mut types = lifted.types;
        types.extend(host_types());
        Contract { plugins, namespaces, types }
    }
}

/// The host, in place of a plugin's `name@version`.
const HOST: &str = concat!("hubbub@", env!("CARGO_PKG_VERSION"));

/// The host's events, which every namespace has.
fn host_events() -> (BTreeMap<String, Handled>, BTreeMap<String, Emitted>) {
    let refresh = Handled {
        name: "auth:refresh".into(),
        payload: reference(FRESH_TOKEN),
        reply: None,
        on_failure: None,
        once: None,
        plugin: HOST.into(),
    };
    let emitted = [("auth:expired", EXPIRED), ("error", REFUSED_EVENT)].map(|(name, payload)| {
        let event = Emitted { name: name.into(), payloads: vec![reference(payload)], plugins: vec![HOST.into()] };
        (name.to_owned(), event)
    });
    (BTreeMap::from([(refresh.name.clone(), refresh)]), BTreeMap::from(emitted))
}

/// Whether an event is one of the host's.
pub fn is_of_the_host(plugins: &[String]) -> bool {
    plugins.iter().all(|plugin| plugin == HOST)
}

fn host_types() -> BTreeMap<String, Value> {
    let code = reference(CODE);
    let text = json!({ "type": "string" });
    let wait = json!({ "type": "integer", "minimum": 0, "description": "When a retry can succeed, in milliseconds from now." });
    let types = json!({
        CODE: { "type": "string", "enum": Code::ALL.map(Code::as_str) },
        REFUSAL: {
            "type": "object",
            "description": "Why an event took no effect.",
            "properties": {
                "code": code,
                "message": { "type": "string", "description": "One sentence for people." },
                "retryAfterMs": wait,
            },
            "required": ["code", "message"],
        },
        REFUSED: {
            "type": "object",
            "description": "The acknowledgement of an event that took no effect.",
            "properties": { "error": reference(REFUSAL) },
            "required": ["error"],
        },
        REFUSED_EVENT: {
            "type": "object",
            "description": "An event that took no effect and asked for no acknowledgement.",
            "properties": { "code": code, "message": text, "retryAfterMs": wait, "event": text },
            "required": ["code", "message", "event"],
        },
        EXPIRED: {
            "type": "object",
            "description": "The token has expired. `auth:refresh` with a fresh one of the same user in time keeps the connection. \
                Else the connection is closed, and a stock client reconnects with the token that its `auth` returns then.",
            "properties": { "at": { "type": "string", "format": "date-time", "description": "When it expired." } },
            "required": ["at"],
        },
        FRESH_TOKEN: {
            "type": "object",
            "description": "A fresh token of the same user.",
            "properties": { "token": text },
            "required": ["token"],
        },
        DONE: {
            "type": "object",
            "description": "The acknowledgement of an event that took effect and has nothing to reply.",
            "additionalProperties": false,
        },
    });
    types.as_object().into_iter().flatten().map(|(name, schema)| (name.clone(), schema.clone())).collect()
}

/// A reference to a named type.
pub fn reference(name: &str) -> Value {
    json!({ "$ref": format!("{}{name}", schema::PREFIX) })
}

fn release(manifest: &Manifest) -> String {
    format!("{}@{}", manifest.name, manifest.version)
}

/// A type's name for a namespace: `/` is `Root`, `/course/{id}` is `Course`.
fn name_of(path: &str) -> String {
    let literal = path.split('{').next().unwrap_or_default();
    let name = pascal(literal);
    if name.is_empty() { "Root".into() } else { name }
}

/// Any text in Pascal case: `page_for_message` is `PageForMessage`. Empty if it has no ASCII letter or digit.
fn pascal(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for word in text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        if name.is_empty() && word.starts_with(|c: char| c.is_ascii_digit()) {
            name.push('N');
        }
        name.push_str(&word[..1].to_ascii_uppercase());
        name.push_str(&word[1..]);
    }
    name
}

/// The name, with a number appended if it is taken.
fn unique(name: &str, taken: &mut BTreeSet<String>) -> String {
    let mut tried = name.to_owned();
    let mut number = 1;
    while !taken.insert(tried.clone()) {
        number += 1;
        tried = format!("{name}{number}");
    }
    tried
}

#[cfg(test)]
mod tests;
