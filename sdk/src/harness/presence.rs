//! Presence on the test's clock, with several devices, clean and broken disconnects. Knows nothing of calls; what changes is a list
//! of changes.

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
}

/// A socket that vouches for a key, or a broken connection that may come back.
#[derive(Debug, Clone)]
struct Vouch {
    /// The status that was asked for; for a broken connection, the status at that moment.
    asked: Status,
    heartbeat: u64,
    /// When its grace period ends, once its connection broke.
    broken_until: Option<u64>,
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
        let new = Entry { status, since: now, meta: Value::Null, sockets: BTreeMap::new() };
        let entry = self.entries.entry(name).or_insert(new);
        entry.meta = meta.clone();
        if !entry.sockets.contains_key(&socket) {
            entry.forget_first_broken();
        }
        entry.sockets.insert(socket, Vouch { asked: status, heartbeat: now, broken_until: None });
        self.tick(now);
    }

    /// A socket has ended. Where the client left on purpose, at once; where the connection broke, after the grace period.
    pub(crate) fn disconnect(&mut self, now: u64, socket: u64, clean: bool) {
        for entry in self.entries.values_mut() {
            if clean {
                entry.sockets.remove(&socket);
            } else if let Some(vouch) = entry.sockets.get_mut(&socket) {
                (vouch.asked, vouch.broken_until) = (vouch.status(now), Some(now + GRACE));
            }
        }
        self.tick(now);
    }

    /// What time alone changes.
    pub(crate) fn tick(&mut self, now: u64) {
        let changes = &mut self.changes;
        self.entries.retain(|(group, key), entry| {
            entry.sockets.retain(|_, vouch| vouch.broken_until.is_none_or(|until| now < until));
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
        let vouches = self.entries.values().flat_map(|entry| entry.sockets.values());
        let moments = vouches.map(|vouch| vouch.broken_until.unwrap_or(vouch.heartbeat + AWAY_AFTER));
        moments.filter(|at| *at > now).min()
    }

    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    pub(crate) fn list(&self, wanted: &Scoped) -> Vec<Member> {
        let inside = self.entries.iter().filter(|((group, _), _)| group == wanted);
        inside
            .map(|((_, key), entry)| Member {
                key: key_of(key).0.to_owned(),
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
    /// A new socket replaces the connection that broke first: it counts as its reconnect.
    fn forget_first_broken(&mut self) {
        let broken = self.sockets.iter().filter_map(|(socket, vouch)| Some((vouch.broken_until?, *socket)));
        if let Some((_, socket)) = broken.min() {
            self.sockets.remove(&socket);
        }
    }

    /// The status now; absent if it is gone.
    fn next(&self, now: u64) -> Option<Status> {
        let statuses = self.sockets.values().map(|vouch| vouch.status(now));
        statuses.reduce(|one, other| if one == Status::Online { one } else { other })
    }
}

impl Vouch {
    fn status(&self, now: u64) -> Status {
        let silent = self.broken_until.is_none() && now >= self.heartbeat + AWAY_AFTER;
        if silent { Status::Away } else { self.asked }
    }
}

/// A tenant's key in a group that all tenants share.
pub(crate) fn key_of_tenant(key: &str, tenant: &str) -> String {
    format!("{key}\u{1f}{tenant}")
}

/// A key as the plugin wrote it, and whose it is where its group is shared by all tenants.
pub(crate) fn key_of(kept: &str) -> (&str, Option<&str>) {
    match kept.split_once('\u{1f}') {
        Some((key, tenant)) => (key, Some(tenant)),
        None => (kept, None),
    }
}

fn text(status: Status) -> &'static str {
    match status {
        Status::Online => "online",
        Status::Away => "away",
    }
}
