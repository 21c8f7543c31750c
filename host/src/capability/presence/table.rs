//! What the sockets of this node vouch for. Statuses change here and nowhere else; away and the grace period are decided here, and
//! each change is told once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;
use tokio::sync::Notify;

use super::Config;
use crate::clock::Moment;
use crate::names::{PluginName, SEPARATOR, SocketId};
use crate::sandbox::imports::presence::{Member, Status};

/// A status that has changed, or what goes with it; `None` is offline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub group: Group,
    pub key: String,
    pub from: Option<&'static str>,
    pub to: Option<&'static str>,
    pub meta: String,
}

/// What a socket says of a key.
pub struct Track {
    pub socket: SocketId,
    pub plugin: PluginName,
    pub tenant: Option<String>,
    pub group: String,
    pub key: String,
    pub status: Status,
    pub meta: String,
}

/// The statuses of this node's sockets. Away and grace are measured by the steady clock, so a step of the wall clock changes no status.
pub struct Presences {
    config: Config,
    table: Mutex<Table>,
    /// Something may have changed.
    pub stirred: Notify,
}

#[derive(Default)]
struct Table {
    groups: HashMap<Group, BTreeMap<String, Entry>>,
    /// What each socket vouches for.
    sockets: HashMap<SocketId, SmallVec<[(Group, String); 1]>>,
    /// Keys to look at again.
    dirty: BTreeSet<(Group, String)>,
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
    /// What `Display` wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, SEPARATOR);
        let (plugin, tenant, group) = (parts.next()?, parts.next()?, parts.next()?);
        let tenant = (!tenant.is_empty()).then(|| tenant.to_owned());
        Some(Self { plugin: PluginName::parse(plugin).ok()?, tenant, group: group.to_owned() })
    }
}

struct Entry {
    sockets: SmallVec<[Voucher; 1]>,
    meta: String,
    /// The metadata is another than when the status was told.
    restated: bool,
    told: Option<Status>,
    /// By the wall clock: it is shown.
    since_ms: u64,
    /// When the last socket went, by the steady clock.
    alone_since_ms: u64,
    /// Taken back: gone without grace.
    untracked: bool,
}

struct Voucher {
    socket: SocketId,
    status: Status,
    /// By the steady clock.
    seen_ms: u64,
}

impl Presences {
    pub fn new(config: Config) -> Self {
        Self { config, table: Mutex::default(), stirred: Notify::new() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Whole values are put in and taken out: a panic leaves none half done.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A socket vouches for a key. Past its number it is not listened to; answers whether it was.
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
        let entry = table.groups.entry(id.clone()).or_default().entry(track.key.clone()).or_insert_with(Entry::new);
        entry.sockets.retain(|voucher| voucher.socket != track.socket);
        entry.sockets.push(Voucher { socket: track.socket, status: track.status, seen_ms: steady_ms });
        entry.restated |= entry.told.is_some() && entry.meta != track.meta;
        (entry.meta, entry.untracked) = (track.meta, false);
        table.dirty.insert((id, track.key));
        drop(guard);
        self.stirred.notify_one();
        true
    }

    pub fn heartbeat(&self, socket: SocketId, steady_ms: u64) {
        let mut guard = self.table();
        let table = &mut *guard;
        for (id, key) in table.sockets.get(&socket).into_iter().flatten() {
            let Some(entry) = table.groups.get_mut(id).and_then(|group| group.get_mut(key)) else { continue };
            if let Some(voucher) = entry.sockets.iter_mut().find(|voucher| voucher.socket == socket) {
                voucher.seen_ms = steady_ms;
                table.dirty.insert((id.clone(), key.clone()));
            }
        }
        drop(guard);
        self.stirred.notify_one();
    }

    pub fn untrack(&self, socket: SocketId, plugin: &PluginName, tenant: Option<&str>, group: &str, key: &str, steady_ms: u64) {
        let id = Group { plugin: plugin.clone(), tenant: tenant.map(str::to_owned), group: group.to_owned() };
        let mut table = self.table();
        if let Some(mine) = table.sockets.get_mut(&socket) {
            mine.retain(|(other, name)| *other != id || name != key);
        }
        table.lose(socket, &id, key, true, steady_ms);
        drop(table);
        self.stirred.notify_one();
    }

    /// A socket has gone: what it vouched for has the grace period to come back.
    pub fn gone(&self, socket: SocketId, steady_ms: u64) {
        let mut table = self.table();
        for (id, key) in table.sockets.remove(&socket).unwrap_or_default() {
            table.lose(socket, &id, &key, false, steady_ms);
        }
    }

    /// The statuses that have changed, at most `limit` of them; the others are kept for the next call. `all` looks at every key,
    /// as must be done each second: time alone makes keys away and offline.
    pub fn changes(&self, now: Moment, limit: usize, all: bool) -> Vec<Change> {
        let mut guard = self.table();
        let table = &mut *guard;
        if all {
            for (id, group) in &table.groups {
                for (key, entry) in group {
                    if entry.status(&self.config, now.steady_ms) != entry.told {
                        table.dirty.insert((id.clone(), key.clone()));
                    }
                }
            }
        }
        let mut changes = Vec::new();
        while changes.len() < limit
            && let Some((id, key)) = table.dirty.pop_first()
        {
            changes.extend(table.settle(&self.config, id, key, now));
        }
        if !table.dirty.is_empty() {
            self.stirred.notify_one();
        }
        changes
    }

    /// Everything that was told and holds still, as changes of nothing: for a Redis that has forgotten.
    pub fn told(&self) -> Vec<Change> {
        let table = self.table();
        let entries = table.groups.iter().flat_map(|(id, group)| group.iter().map(move |(key, entry)| (id, key, entry)));
        let told = entries.filter_map(|(id, key, entry)| {
            let status = entry.told.map(status_name)?;
            let (from, to) = (Some(status), Some(status));
            Some(Change { group: id.clone(), key: key.clone(), from, to, meta: entry.meta.clone() })
        });
        told.collect()
    }

    /// Members by their keys, at most `limit`, after a key.
    pub(super) fn list(&self, id: &Group, after: &str, limit: usize) -> Vec<Member> {
        let table = self.table();
        let Some(group) = table.groups.get(id) else { return Vec::new() };
        let members = group.range::<str, _>((Bound::Excluded(after), Bound::Unbounded)).filter_map(|(key, entry)| {
            let status = entry.status_now()?;
            Some(Member { key: key.clone(), status, meta: entry.meta.clone(), since: entry.since_ms })
        });
        members.take(limit).collect()
    }

    pub(super) fn count(&self, id: &Group) -> usize {
        self.table().groups.get(id).map_or(0, |group| group.values().filter(|entry| entry.status_now().is_some()).count())
    }

    pub(super) fn has(&self, id: &Group, key: &str) -> bool {
        self.table().groups.get(id).and_then(|group| group.get(key)).is_some_and(|entry| entry.status_now().is_some())
    }
}

impl Table {
    fn lose(&mut self, socket: SocketId, id: &Group, key: &str, untracked: bool, steady_ms: u64) {
        let Some(entry) = self.groups.get_mut(id).and_then(|group| group.get_mut(key)) else { return };
        entry.sockets.retain(|voucher| voucher.socket != socket);
        if entry.sockets.is_empty() {
            entry.alone_since_ms = steady_ms;
            entry.untracked = untracked;
        }
        self.dirty.insert((id.clone(), key.to_owned()));
    }

    /// Looks at one key again: tells what has changed, and forgets who is offline.
    fn settle(&mut self, config: &Config, id: Group, key: String, now: Moment) -> Option<Change> {
        let group = self.groups.get_mut(&id)?;
        let entry = group.get_mut(&key)?;
        let (from, to) = (entry.told, entry.status(config, now.steady_ms));
        let changed = from != to || std::mem::take(&mut entry.restated);
        if from != to {
            (entry.told, entry.since_ms, entry.restated) = (to, now.wall_ms, false);
        }
        let meta = if changed { entry.meta.clone() } else { String::new() };
        if to.is_none() {
            group.remove(&key);
            if group.is_empty() {
                self.groups.remove(&id);
            }
        }
        let name = |status: Option<Status>| status.map(status_name);
        changed.then(|| Change { group: id, key, from: name(from), to: name(to), meta })
    }
}

impl Entry {
    fn new() -> Self {
        Self {
            sockets: SmallVec::new(),
            meta: String::new(),
            restated: false,
            told: None,
            since_ms: 0,
            alone_since_ms: 0,
            untracked: false,
        }
    }

    /// As it was told, or as its socket has just said.
    fn status_now(&self) -> Option<Status> {
        self.told.or_else(|| self.sockets.last().map(|voucher| voucher.status))
    }

    fn status(&self, config: &Config, steady_ms: u64) -> Option<Status> {
        if self.sockets.is_empty() {
            let grace = config.grace.as_millis() as u64;
            return if self.untracked || steady_ms.saturating_sub(self.alone_since_ms) >= grace { None } else { self.told };
        }
        let away_after = config.away_after.as_millis() as u64;
        let online = |v: &Voucher| v.status == Status::Online && steady_ms.saturating_sub(v.seen_ms) < away_after;
        Some(if self.sockets.iter().any(online) { Status::Online } else { Status::Away })
    }
}

pub fn status_name(status: Status) -> &'static str {
    match status {
        Status::Online => "online",
        Status::Away => "away",
    }
}
