//! `presence.wit`: who is there, by the sockets that vouch for them. Statuses change here and nowhere else; each change is told
//! once, as `presence.changed`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use smallvec::SmallVec;
use tokio::sync::Notify;

use super::effects::Live;
use super::state::{State, invalid_name};
use crate::json;
use crate::names::{self, PluginName, SocketId};
use crate::sandbox::imports::presence::{Host, Member, Status};
use crate::sandbox::imports::types::EffectError;

/// Bytes of metadata of a key.
const MAX_META: usize = 4 << 10;

/// Members one `list` answers.
const MAX_LIST: u32 = 1000;

/// `[presence]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Without a heartbeat for so long, a key is away. Default 90 s.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    pub away_after: std::time::Duration,
    /// How long a key stays as it was when its last socket has gone. Default 60 s.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    pub grace: std::time::Duration,
    /// Keys that one socket may vouch for. Past it a track is left out, and counted. Default 16.
    pub per_socket: usize,
    /// How long other nodes believe a node that says nothing. Default 300 s.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    pub lease: std::time::Duration,
}

impl Default for Config {
    fn default() -> Self {
        let seconds = std::time::Duration::from_secs;
        Self { away_after: seconds(90), grace: seconds(60), per_socket: 16, lease: seconds(300) }
    }
}

/// A status that has changed; `None` is offline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub plugin: PluginName,
    pub tenant: Option<String>,
    pub group: String,
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

/// Everyone who is there.
pub struct Presences {
    config: Config,
    table: Mutex<Table>,
    /// Something may have changed.
    pub stirred: Notify,
}

#[derive(Default)]
struct Table {
    groups: HashMap<GroupId, BTreeMap<String, Entry>>,
    /// What each socket vouches for.
    sockets: HashMap<SocketId, SmallVec<[(GroupId, String); 1]>>,
    /// Keys to look at again.
    dirty: BTreeSet<(GroupId, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct GroupId {
    plugin: PluginName,
    tenant: Option<String>,
    group: String,
}

struct Entry {
    sockets: SmallVec<[Voucher; 1]>,
    meta: String,
    told: Option<Status>,
    since_ms: u64,
    /// When the last socket went.
    alone_since_ms: u64,
    /// Taken back: gone without grace.
    untracked: bool,
}

struct Voucher {
    socket: SocketId,
    status: Status,
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
    pub fn track(&self, track: Track, now_ms: u64) -> bool {
        let mut guard = self.table();
        let table = &mut *guard;
        let id = GroupId { plugin: track.plugin, tenant: track.tenant, group: track.group };
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
        entry.sockets.push(Voucher { socket: track.socket, status: track.status, seen_ms: now_ms });
        (entry.meta, entry.untracked) = (track.meta, false);
        table.dirty.insert((id, track.key));
        drop(guard);
        self.stirred.notify_one();
        true
    }

    pub fn heartbeat(&self, socket: SocketId, now_ms: u64) {
        let mut guard = self.table();
        let table = &mut *guard;
        for (id, key) in table.sockets.get(&socket).into_iter().flatten() {
            let Some(entry) = table.groups.get_mut(id).and_then(|group| group.get_mut(key)) else { continue };
            if let Some(voucher) = entry.sockets.iter_mut().find(|voucher| voucher.socket == socket) {
                voucher.seen_ms = now_ms;
                table.dirty.insert((id.clone(), key.clone()));
            }
        }
        drop(guard);
        self.stirred.notify_one();
    }

    pub fn untrack(&self, socket: SocketId, plugin: &PluginName, tenant: Option<&str>, group: &str, key: &str, now_ms: u64) {
        let id = GroupId { plugin: plugin.clone(), tenant: tenant.map(str::to_owned), group: group.to_owned() };
        let mut table = self.table();
        if let Some(mine) = table.sockets.get_mut(&socket) {
            mine.retain(|(other, name)| *other != id || name != key);
        }
        table.lose(socket, &id, key, true, now_ms);
        drop(table);
        self.stirred.notify_one();
    }

    /// A socket has gone: what it vouched for has the grace period to come back.
    pub fn gone(&self, socket: SocketId, now_ms: u64) {
        let mut table = self.table();
        for (id, key) in table.sockets.remove(&socket).unwrap_or_default() {
            table.lose(socket, &id, &key, false, now_ms);
        }
    }

    /// The statuses that have changed, at most `limit` of them; the others are kept for the next call. `all` looks at every key,
    /// as must be done each second: time alone makes keys away and offline.
    pub fn changes(&self, now_ms: u64, limit: usize, all: bool) -> Vec<Change> {
        let mut guard = self.table();
        let table = &mut *guard;
        if all {
            for (id, group) in &table.groups {
                for (key, entry) in group {
                    if entry.status(&self.config, now_ms) != entry.told {
                        table.dirty.insert((id.clone(), key.clone()));
                    }
                }
            }
        }
        let mut changes = Vec::new();
        while changes.len() < limit
            && let Some((id, key)) = table.dirty.pop_first()
        {
            changes.extend(table.settle(&self.config, id, key, now_ms));
        }
        if !table.dirty.is_empty() {
            self.stirred.notify_one();
        }
        changes
    }

    /// Members by their keys, at most `limit`, after a key.
    fn list(&self, plugin: &PluginName, tenant: Option<&str>, group: &str, after: &str, limit: usize) -> Vec<Member> {
        let id = GroupId { plugin: plugin.clone(), tenant: tenant.map(str::to_owned), group: group.to_owned() };
        let table = self.table();
        let Some(group) = table.groups.get(&id) else { return Vec::new() };
        let members = group.range::<str, _>((Bound::Excluded(after), Bound::Unbounded)).filter_map(|(key, entry)| {
            let status = entry.status_now()?;
            Some(Member { key: key.clone(), status, meta: entry.meta.clone(), since: entry.since_ms })
        });
        members.take(limit).collect()
    }

    fn count(&self, plugin: &PluginName, tenant: Option<&str>, group: &str) -> usize {
        let id = GroupId { plugin: plugin.clone(), tenant: tenant.map(str::to_owned), group: group.to_owned() };
        self.table().groups.get(&id).map_or(0, |group| group.values().filter(|entry| entry.status_now().is_some()).count())
    }

    fn has(&self, plugin: &PluginName, tenant: Option<&str>, group: &str, key: &str) -> bool {
        let id = GroupId { plugin: plugin.clone(), tenant: tenant.map(str::to_owned), group: group.to_owned() };
        self.table().groups.get(&id).and_then(|group| group.get(key)).is_some_and(|entry| entry.status_now().is_some())
    }
}

impl Table {
    fn lose(&mut self, socket: SocketId, id: &GroupId, key: &str, untracked: bool, now_ms: u64) {
        let Some(entry) = self.groups.get_mut(id).and_then(|group| group.get_mut(key)) else { return };
        entry.sockets.retain(|voucher| voucher.socket != socket);
        if entry.sockets.is_empty() {
            entry.alone_since_ms = now_ms;
            entry.untracked = untracked;
        }
        self.dirty.insert((id.clone(), key.to_owned()));
    }

    /// Looks at one key again: tells what has changed, and forgets who is offline.
    fn settle(&mut self, config: &Config, id: GroupId, key: String, now_ms: u64) -> Option<Change> {
        let group = self.groups.get_mut(&id)?;
        let entry = group.get_mut(&key)?;
        let (from, to) = (entry.told, entry.status(config, now_ms));
        let changed = from != to;
        if changed {
            (entry.told, entry.since_ms) = (to, now_ms);
        }
        let meta = if changed { entry.meta.clone() } else { String::new() };
        if to.is_none() {
            group.remove(&key);
            if group.is_empty() {
                self.groups.remove(&id);
            }
        }
        let name = |status: Option<Status>| status.map(status_name);
        changed.then(|| Change {
            plugin: id.plugin,
            tenant: id.tenant,
            group: id.group,
            key,
            from: name(from),
            to: name(to),
            meta,
        })
    }
}

impl Entry {
    fn new() -> Self {
        Self { sockets: SmallVec::new(), meta: String::new(), told: None, since_ms: 0, alone_since_ms: 0, untracked: false }
    }

    /// As it was told, or as its socket has just said.
    fn status_now(&self) -> Option<Status> {
        self.told.or_else(|| self.sockets.last().map(|voucher| voucher.status))
    }

    fn status(&self, config: &Config, now_ms: u64) -> Option<Status> {
        if self.sockets.is_empty() {
            let grace = config.grace.as_millis() as u64;
            return if self.untracked || now_ms.saturating_sub(self.alone_since_ms) >= grace { None } else { self.told };
        }
        let away_after = config.away_after.as_millis() as u64;
        let online = |v: &Voucher| v.status == Status::Online && now_ms.saturating_sub(v.seen_ms) < away_after;
        Some(if self.sockets.iter().any(online) { Status::Online } else { Status::Away })
    }
}

pub fn status_name(status: Status) -> &'static str {
    match status {
        Status::Online => "online",
        Status::Away => "away",
    }
}

type Answer<T> = wasmtime::Result<Result<T, EffectError>>;

impl Host for State {
    fn track(&mut self, group: String, key: String, status: Status, meta: String) -> Answer<()> {
        if let Err(refused) = self.effect(group.len() + key.len() + meta.len())? {
            return Ok(Err(refused));
        }
        let track = (|| {
            let socket = self.caller()?.socket;
            names::check("group", &group).and_then(|()| names::check("key", &key)).map_err(invalid_name)?;
            json::check(&meta).map_err(|e| EffectError::InvalidJson(e.to_string()))?;
            if meta.len() > MAX_META {
                return Err(EffectError::Denied(format!("metadata has at most {MAX_META} bytes")));
            }
            let tenant = self.scope()?.map(str::to_owned);
            Ok(Track { socket, plugin: self.profile.name.clone(), tenant, group, key, status, meta })
        })();
        Ok(track.map(|track| self.call.effects.live.push(Live::Track(track))))
    }

    fn heartbeat(&mut self) -> Answer<()> {
        if let Err(refused) = self.effect(0)? {
            return Ok(Err(refused));
        }
        let socket = self.caller().map(|caller| caller.socket);
        Ok(socket.map(|socket| self.call.effects.live.push(Live::Heartbeat { socket })))
    }

    fn untrack(&mut self, group: String, key: String) -> Answer<()> {
        if let Err(refused) = self.effect(group.len() + key.len())? {
            return Ok(Err(refused));
        }
        let live = self.caller().map(|caller| caller.socket).and_then(|socket| {
            let tenant = self.scope()?.map(str::to_owned);
            Ok(Live::Untrack { socket, plugin: self.profile.name.clone(), tenant, group, key })
        });
        Ok(live.map(|live| self.call.effects.live.push(live)))
    }

    fn list(&mut self, group: String, after: String, limit: u32) -> Answer<Vec<Member>> {
        self.import()?;
        let limit = limit.clamp(1, MAX_LIST) as usize;
        Ok(self.members(&group, &after, limit))
    }

    fn count(&mut self, group: String) -> Answer<u64> {
        self.import()?;
        Ok(self.member_count(&group))
    }
}

impl State {
    /// Members by key, with the call's own pending tracks.
    fn members(&self, group: &str, after: &str, limit: usize) -> Result<Vec<Member>, EffectError> {
        let scope = self.scope()?;
        let listed = self.services.presences.list(&self.profile.name, scope, group, after, limit);
        let mut members: BTreeMap<String, Member> = listed.into_iter().map(|member| (member.key.clone(), member)).collect();
        for live in &self.call.effects.live {
            match live {
                Live::Track(track) if track.group == group && track.key.as_str() > after => {
                    let since = self.call.now_ms;
                    let member = members.entry(track.key.clone());
                    let member = member.or_insert_with(|| Member {
                        key: track.key.clone(),
                        status: track.status,
                        meta: String::new(),
                        since,
                    });
                    member.meta.clone_from(&track.meta);
                }
                _ => {}
            }
        }
        Ok(members.into_values().take(limit).collect())
    }

    fn member_count(&self, group: &str) -> Result<u64, EffectError> {
        let (presences, name, scope) = (&self.services.presences, &self.profile.name, self.scope()?);
        let pending: BTreeSet<&str> = self
            .call
            .effects
            .live
            .iter()
            .filter_map(|live| match live {
                Live::Track(track) if track.group == group => Some(track.key.as_str()),
                _ => None,
            })
            .filter(|key| !presences.has(name, scope, group, key))
            .collect();
        Ok((presences.count(name, scope, group) + pending.len()) as u64)
    }
}

#[cfg(test)]
#[path = "presence/tests.rs"]
mod tests;
