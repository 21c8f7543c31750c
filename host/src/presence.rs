//! Presence of this node's sockets. Decides statuses, away and the grace period, and reports each change once.

mod entry;
pub mod sync;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use tokio::sync::Notify;

use crate::clock::Moment;
use crate::names::{PluginName, SEPARATOR, SocketId};
use crate::owners::Owners;
use crate::sandbox::imports::presence::{Member, Status};
pub use entry::Ended;
use entry::Entry;

/// `[presence]`: presence of users.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The time without a heartbeat after which a key is away.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub away_after: std::time::Duration,
    /// How long a key keeps its status after its connection broke. After a clean disconnect (Socket.IO's DISCONNECT) there is no
    /// such wait.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub grace: std::time::Duration,
    /// Keys that one socket may track. Past it a track has no effect. Metric: `joins_refused`.
    pub per_socket: usize,
    /// How long the other nodes of a cluster keep the presence of a node that does not answer. Past it the node counts as dead,
    /// and its users are offline.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub lease: std::time::Duration,
}

impl Default for Config {
    fn default() -> Self {
        let seconds = std::time::Duration::from_secs;
        Self { away_after: seconds(90), grace: seconds(60), per_socket: 16, lease: seconds(300) }
    }
}

/// The delay of a clean disconnect, in milliseconds. A user with one device that connects while another disconnects on another
/// node does not become offline in between. Short enough to count as immediate.
pub(crate) const SETTLE_MS: u64 = 200;

/// A change of a status or its metadata; `None` is offline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub group: Group,
    pub key: String,
    pub from: Option<&'static str>,
    pub to: Option<&'static str>,
    pub meta: String,
    /// No connected socket of this node tracks the key any more: it waits for a reconnect.
    pub waits: bool,
}

/// A socket's status for a key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Track {
    pub socket: SocketId,
    pub plugin: PluginName,
    pub tenant: Option<String>,
    pub group: String,
    pub key: String,
    pub status: Status,
    pub meta: String,
    /// The socket's user, within the tenant.
    pub user: Option<Arc<str>>,
}

impl Track {
    /// The stored form of a socket's tracks.
    pub fn encode(tracks: &[Self]) -> Vec<u8> {
        // Texts and numbers always serialize.
        postcard::to_allocvec(tracks).unwrap_or_default()
    }

    pub fn decode(bytes: &[u8]) -> Vec<Self> {
        postcard::from_bytes(bytes).unwrap_or_default()
    }
}

/// The statuses of this node's sockets. Away and grace are measured by the steady clock, so setting the wall clock changes no
/// status.
pub struct Presences {
    config: Config,
    table: Mutex<Table>,
    /// Signals possible changes.
    pub wakeup: Notify,
}

#[derive(Default)]
struct Table {
    groups: HashMap<Group, BTreeMap<String, Entry>>,
    /// The keys that each socket tracks.
    sockets: HashMap<SocketId, SmallVec<[(Group, String); 1]>>,
    /// Keys to check again.
    dirty: BTreeSet<(Group, String)>,
    /// Keys of clean disconnects, to check again at the given time, in order.
    leaving: VecDeque<(u64, Group, String)>,
    /// The number of keys that each user was the first to track.
    owners: Owners,
}

/// A plugin's group, of one tenant where the plugin's names are scoped.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group {
    pub plugin: PluginName,
    pub tenant: Option<String>,
    pub group: String,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenant = self.tenant.as_deref().unwrap_or_default();
        write!(f, "{}{SEPARATOR}{tenant}{SEPARATOR}{}", self.plugin, self.group)
    }
}

impl Group {
    /// Parses the text that `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, SEPARATOR);
        let (plugin, tenant, group) = (parts.next()?, parts.next()?, parts.next()?);
        let tenant = (!tenant.is_empty()).then(|| tenant.to_owned());
        Some(Self { plugin: PluginName::parse(plugin).ok()?, tenant, group: group.to_owned() })
    }
}

impl Presences {
    pub fn new(config: Config) -> Self {
        Self { config, table: Mutex::default(), wakeup: Notify::new() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Entries are inserted and removed whole, so that a panic leaves none half updated.
        self.table.lock()
    }

    /// Adds or updates a socket's status for a key. False if the socket already tracks the maximum.
    pub fn track(&self, track: Track, steady_ms: u64) -> bool {
        let mut guard = self.table();
        let table = &mut *guard;
        let id = Group { plugin: track.plugin, tenant: track.tenant, group: track.group };
        let mine = table.sockets.entry(track.socket).or_default();
        let known = mine.iter().any(|(group, key)| *group == id && *key == track.key);
        if !known && mine.len() >= self.config.per_socket {
            return false;
        }
        if !known {
            mine.push((id.clone(), track.key.clone()));
        }
        let entry = table.groups.entry(id.clone()).or_default().entry(track.key.clone()).or_insert_with(|| {
            track.user.iter().for_each(|user| table.owners.add(user));
            Entry::new(track.user)
        });
        entry.track(track.socket, track.status, steady_ms);
        entry.meta_changed |= entry.reported.is_some() && entry.meta != track.meta;
        entry.meta = track.meta;
        table.dirty.insert((id, track.key));
        drop(guard);
        self.wakeup.notify_one();
        true
    }

    /// The keys that a socket tracks.
    pub fn tracks_of(&self, socket: SocketId) -> Vec<Track> {
        let table = self.table();
        let mine = table.sockets.get(&socket).into_iter().flatten();
        let track = |(id, key): &(Group, String)| {
            let entry = table.groups.get(id)?.get(key)?;
            let tracker = entry.sockets.iter().find(|tracker| tracker.socket == socket)?;
            Some(Track {
                socket,
                plugin: id.plugin.clone(),
                tenant: id.tenant.clone(),
                group: id.group.clone(),
                key: key.clone(),
                status: tracker.status,
                meta: entry.meta.clone(),
                user: entry.user.clone(),
            })
        };
        mine.filter_map(track).collect()
    }

    pub fn heartbeat(&self, socket: SocketId, steady_ms: u64) {
        let mut guard = self.table();
        let table = &mut *guard;
        for (id, key) in table.sockets.get(&socket).into_iter().flatten() {
            let Some(entry) = table.groups.get_mut(id).and_then(|group| group.get_mut(key)) else { continue };
            if let Some(tracker) = entry.sockets.iter_mut().find(|tracker| tracker.socket == socket) {
                tracker.seen_ms = steady_ms;
                table.dirty.insert((id.clone(), key.clone()));
            }
        }
        drop(guard);
        self.wakeup.notify_one();
    }

    /// Ends a socket's track of a key, without waiting for a reconnect.
    pub fn untrack(&self, socket: SocketId, plugin: &PluginName, tenant: Option<&str>, group: &str, key: &str) {
        let id = Group { plugin: plugin.clone(), tenant: tenant.map(str::to_owned), group: group.to_owned() };
        let mut table = self.table();
        if let Some(mine) = table.sockets.get_mut(&socket) {
            mine.retain(|(other, name)| *other != id || name != key);
        }
        if let Some(entry) = table.groups.get_mut(&id).and_then(|group| group.get_mut(key)) {
            entry.sockets.retain(|tracker| tracker.socket != socket);
            table.dirty.insert((id, key.to_owned()));
        }
        drop(table);
        self.wakeup.notify_one();
    }

    /// Ends all tracks of a disconnected socket.
    pub fn disconnected(&self, socket: SocketId, ended: Ended, steady_ms: u64) {
        let mut table = self.table();
        let Some(mine) = table.sockets.remove(&socket) else { return };
        for (id, key) in mine {
            table.end_track(&self.config, socket, &id, &key, ended, steady_ms);
        }
        drop(table);
        self.wakeup.notify_one();
    }

    /// The changed statuses, at most `limit`; the others are returned by the next call. `all` checks every key, which is needed
    /// each second: keys become away and offline by time alone.
    pub fn changes(&self, now: Moment, limit: usize, all: bool) -> Vec<Change> {
        let mut guard = self.table();
        let table = &mut *guard;
        if all {
            for (id, group) in &table.groups {
                for (key, entry) in group {
                    if entry.status(&self.config, now.steady_ms) != entry.reported {
                        table.dirty.insert((id.clone(), key.clone()));
                    }
                }
            }
        }
        let due = table.leaving.iter().take_while(|(at, ..)| *at <= now.steady_ms).count();
        table.dirty.extend(table.leaving.drain(..due).map(|(_, id, key)| (id, key)));
        let mut changes = Vec::new();
        while changes.len() < limit
            && let Some((id, key)) = table.dirty.pop_first()
        {
            changes.extend(table.settle(&self.config, id, key, now));
        }
        if !table.dirty.is_empty() {
            self.wakeup.notify_one();
        }
        changes
    }

    /// All reported statuses that still hold, as changes without a difference: to restore them in a Redis that lost its data.
    pub fn reported(&self) -> Vec<Change> {
        let table = self.table();
        let entries = table.groups.iter().flat_map(|(id, group)| group.iter().map(move |(key, entry)| (id, key, entry)));
        let reported = entries.filter_map(|(id, key, entry)| {
            let status = entry.reported.map(status_name)?;
            let (from, to) = (Some(status), Some(status));
            let waits = entry.reported_waits;
            Some(Change { group: id.clone(), key: key.clone(), from, to, meta: entry.meta.clone(), waits })
        });
        reported.collect()
    }

    /// Members sorted by key, at most `limit`, after a key. `waiting` includes those that only wait for a reconnect.
    pub(crate) fn list(&self, id: &Group, after: &str, limit: usize, waiting: bool) -> Vec<Member> {
        let table = self.table();
        let Some(group) = table.groups.get(id) else { return Vec::new() };
        let wanted = |(_, entry): &(&String, &Entry)| waiting || !entry.waits();
        let after = (Bound::Excluded(after), Bound::Unbounded);
        let members = group.range::<str, _>(after).filter(wanted).filter_map(|(key, entry)| {
            let status = entry.status_now()?;
            Some(Member { key: key.clone(), status, meta: entry.meta.clone(), since: entry.since_ms })
        });
        members.take(limit).collect()
    }

    /// Whether any socket tracks the key already.
    pub fn is_tracked(&self, track: &Track) -> bool {
        let id = Group { plugin: track.plugin.clone(), tenant: track.tenant.clone(), group: track.group.clone() };
        self.table().groups.get(&id).is_some_and(|group| group.contains_key(&track.key))
    }

    /// The number of keys that a user was the first to track, and the number for the users of the same tenant.
    pub fn of(&self, user: &str) -> (usize, usize) {
        self.table().owners.counts(user)
    }

    pub(crate) fn count(&self, id: &Group, waiting: bool) -> usize {
        let wanted = |entry: &&Entry| entry.status_now().is_some() && (waiting || !entry.waits());
        self.table().groups.get(id).map_or(0, |group| group.values().filter(wanted).count())
    }

    pub(crate) fn has(&self, id: &Group, key: &str) -> bool {
        self.table().groups.get(id).and_then(|group| group.get(key)).is_some_and(|entry| entry.status_now().is_some())
    }
}

impl Table {
    fn end_track(&mut self, config: &Config, socket: SocketId, id: &Group, key: &str, ended: Ended, steady_ms: u64) {
        let Some(entry) = self.groups.get_mut(id).and_then(|group| group.get_mut(key)) else { return };
        let until = match ended {
            Ended::Clean => steady_ms + SETTLE_MS,
            Ended::Broken => steady_ms + config.grace.as_millis() as u64,
        };
        entry.end(config, socket, ended, until, steady_ms);
        match ended {
            Ended::Clean => self.leaving.push_back((until, id.clone(), key.to_owned())),
            Ended::Broken => {
                self.dirty.insert((id.clone(), key.to_owned()));
            }
        }
    }

    /// Checks one key again: returns its change, and removes it if it is offline.
    fn settle(&mut self, config: &Config, id: Group, key: String, now: Moment) -> Option<Change> {
        let group = self.groups.get_mut(&id)?;
        let entry = group.get_mut(&key)?;
        entry.sockets.retain(|tracker| tracker.counts(now.steady_ms));
        let (from, to) = (entry.reported, entry.status(config, now.steady_ms));
        let waits = entry.waits();
        let changed = from != to || waits != entry.reported_waits || entry.meta_changed;
        if from != to {
            entry.since_ms = now.wall_ms;
        }
        (entry.reported, entry.reported_waits, entry.meta_changed) = (to, waits, false);
        let meta = if changed { entry.meta.clone() } else { String::new() };
        if to.is_none() {
            entry.user.iter().for_each(|user| self.owners.remove(user));
            group.remove(&key);
            if group.is_empty() {
                self.groups.remove(&id);
            }
        }
        let name = |status: Option<Status>| status.map(status_name);
        changed.then(|| Change { group: id, key, from: name(from), to: name(to), meta, waits })
    }
}

pub fn status_name(status: Status) -> &'static str {
    match status {
        Status::Online => "online",
        Status::Away => "away",
    }
}

/// A key as the plugin wrote it, and its tenant if the group is shared by all tenants.
pub fn key_of(stored: &str) -> (&str, Option<&str>) {
    match stored.split_once(SEPARATOR) {
        Some((key, tenant)) => (key, Some(tenant)),
        None => (stored, None),
    }
}

#[cfg(test)]
mod tests;
