//! Who is there, with grace and several devices, on the test's clock. Knows nothing of calls; what changes is a list of changes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::call::{Effect, Scoped};
use crate::bindings::hubbub::plugin::presence::{Member, Status};

/// The host's defaults, in milliseconds.
const AWAY_AFTER: u64 = 90_000;
const GRACE: u64 = 60_000;

#[derive(Debug, Clone, Default)]
pub(crate) struct Presence {
    entries: BTreeMap<(Scoped, String), Entry>,
    changes: Vec<Change>,
}

#[derive(Debug, Clone)]
struct Entry {
    status: Status,
    since: u64,
    meta: Value,
    sockets: BTreeMap<u64, Vouch>,
    /// When it is gone, while no socket vouches for it.
    gone_at: Option<u64>,
}

#[derive(Debug, Clone)]
struct Vouch {
    asked: Status,
    heartbeat: u64,
}

/// A key's status over all its sockets is another.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) group: Scoped,
    pub(crate) key: String,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    pub(crate) meta: Value,
}

impl Presence {
    /// What an effect of the caller's changes.
    pub(crate) fn apply(&mut self, now: u64, socket: u64, effect: &Effect) {
        match effect {
            Effect::Track { group, key, status, meta } => self.track(now, socket, group, key, *status, meta),
            Effect::Heartbeat => {
                for entry in self.entries.values_mut() {
                    if let Some(vouch) = entry.sockets.get_mut(&socket) {
                        vouch.heartbeat = now;
                    }
                }
                self.tick(now);
            }
            Effect::Untrack { group, key } => {
                let name = (group.clone(), key.clone());
                if let Some(entry) = self.entries.get_mut(&name) {
                    entry.sockets.remove(&socket);
                    if entry.sockets.is_empty() {
                        entry.gone_at = Some(now);
                    }
                }
                self.tick(now);
            }
            _ => {}
        }
    }

    fn track(&mut self, now: u64, socket: u64, group: &Scoped, key: &str, status: Status, meta: &Value) {
        let name = (group.clone(), key.to_owned());
        if !self.entries.contains_key(&name) {
            self.changes.push(Change {
                group: group.clone(),
                key: key.to_owned(),
                from: "offline",
                to: text(status),
                meta: meta.clone(),
            });
        }
        let new = Entry { status, since: now, meta: Value::Null, sockets: BTreeMap::new(), gone_at: None };
        let entry = self.entries.entry(name).or_insert(new);
        entry.meta = meta.clone();
        entry.gone_at = None;
        entry.sockets.insert(socket, Vouch { asked: status, heartbeat: now });
        self.tick(now);
    }

    /// A socket has gone: what nobody else vouches for has its grace.
    pub(crate) fn disconnect(&mut self, now: u64, socket: u64) {
        for entry in self.entries.values_mut() {
            if entry.sockets.remove(&socket).is_some() && entry.sockets.is_empty() {
                entry.gone_at = Some(now + GRACE);
            }
        }
        self.tick(now);
    }

    /// What time alone changes.
    pub(crate) fn tick(&mut self, now: u64) {
        let changes = &mut self.changes;
        self.entries.retain(|(group, key), entry| {
            let next = entry.next(now);
            if next != Some(entry.status) {
                changes.push(Change {
                    group: group.clone(),
                    key: key.clone(),
                    from: text(entry.status),
                    to: next.map_or("offline", text),
                    meta: entry.meta.clone(),
                });
            }
            if let Some(next) = next.filter(|next| *next != entry.status) {
                (entry.status, entry.since) = (next, now);
            }
            next.is_some()
        });
    }

    /// When time alone changes something next, after `now`.
    pub(crate) fn due(&self, now: u64) -> Option<u64> {
        let away = |entry: &Entry| entry.sockets.values().map(|vouch| vouch.heartbeat + AWAY_AFTER).collect::<Vec<_>>();
        let moments = self.entries.values().flat_map(|entry| away(entry).into_iter().chain(entry.gone_at));
        moments.filter(|at| *at > now).min()
    }

    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    pub(crate) fn list(&self, wanted: &Scoped) -> Vec<Member> {
        let inside = self.entries.iter().filter(|((group, _), _)| group == wanted);
        inside
            .map(|((_, key), entry)| Member {
                key: key.clone(),
                status: entry.status,
                meta: entry.meta.to_string(),
                since: entry.since,
            })
            .collect()
    }

    pub(crate) fn groups_of(&self, socket: u64) -> BTreeSet<Scoped> {
        let vouched = self.entries.iter().filter(|(_, entry)| entry.sockets.contains_key(&socket));
        vouched.map(|((group, _), _)| group.clone()).collect()
    }
}

impl Entry {
    /// The status now; absent if it is gone.
    fn next(&self, now: u64) -> Option<Status> {
        if let Some(gone_at) = self.gone_at {
            return (now < gone_at).then_some(self.status);
        }
        let online = |vouch: &Vouch| vouch.asked == Status::Online && now < vouch.heartbeat + AWAY_AFTER;
        Some(if self.sockets.values().any(online) { Status::Online } else { Status::Away })
    }
}

fn text(status: Status) -> &'static str {
    match status {
        Status::Online => "online",
        Status::Away => "away",
    }
}
