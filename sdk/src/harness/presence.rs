//! Presence on the test's clock, with several devices, clean and broken disconnects. Every change of a status is added to a list.

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
    sockets: BTreeMap<u64, Tracking>,
}

/// A socket that tracks a key, or a broken connection in its grace period.
#[derive(Debug, Clone)]
struct Tracking {
    /// The status of the last `track`; for a broken connection, the status when it broke.
    asked: Status,
    heartbeat: u64,
    /// The end of the grace period, if the connection is broken.
    broken_until: Option<u64>,
}

/// A change of a key's status over all its sockets.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) group: Scoped,
    pub(crate) key: String,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    pub(crate) meta: Value,
}

impl Presence {
    /// Applies an effect of the caller.
    pub(crate) fn apply(&mut self, now: u64, socket: u64, effect: &Effect) {
        match effect {
            Effect::Track { group, key, status, meta } => self.track(now, socket, group, key, *status, meta),
            Effect::Heartbeat => {
                for entry in self.entries.values_mut() {
                    if let Some(tracking) = entry.sockets.get_mut(&socket) {
                        tracking.heartbeat = now;
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
        entry.sockets.insert(socket, Tracking { asked: status, heartbeat: now, broken_until: None });
        self.tick(now);
    }

    /// Ends a socket: at once after a clean disconnect, after the grace period if the connection broke.
    pub(crate) fn disconnect(&mut self, now: u64, socket: u64, clean: bool) {
        for entry in self.entries.values_mut() {
            if clean {
                entry.sockets.remove(&socket);
            } else if let Some(tracking) = entry.sockets.get_mut(&socket) {
                (tracking.asked, tracking.broken_until) = (tracking.status(now), Some(now + GRACE));
            }
        }
        self.tick(now);
    }

    /// Applies the changes that are due by time.
    pub(crate) fn tick(&mut self, now: u64) {
        let changes = &mut self.changes;
        self.entries.retain(|(group, key), entry| {
            entry.sockets.retain(|_, tracking| tracking.broken_until.is_none_or(|until| now < until));
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

    /// The next time, after `now`, at which a change can be due.
    pub(crate) fn due(&self, now: u64) -> Option<u64> {
        let all = self.entries.values().flat_map(|entry| entry.sockets.values());
        let moments = all.map(|tracking| tracking.broken_until.unwrap_or(tracking.heartbeat + AWAY_AFTER));
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
        let tracked = self.entries.iter().filter(|(_, entry)| entry.sockets.contains_key(&socket));
        tracked.map(|((group, _), _)| group.clone()).collect()
    }
}

impl Entry {
    /// A new socket counts as the reconnect of the connection that broke first.
    fn forget_first_broken(&mut self) {
        let broken = self.sockets.iter().filter_map(|(socket, tracking)| Some((tracking.broken_until?, *socket)));
        if let Some((_, socket)) = broken.min() {
            self.sockets.remove(&socket);
        }
    }

    /// The status now; absent if it is offline.
    fn next(&self, now: u64) -> Option<Status> {
        let statuses = self.sockets.values().map(|tracking| tracking.status(now));
        statuses.reduce(|one, other| if one == Status::Online { one } else { other })
    }
}

impl Tracking {
    fn status(&self, now: u64) -> Status {
        let silent = self.broken_until.is_none() && now >= self.heartbeat + AWAY_AFTER;
        if silent { Status::Away } else { self.asked }
    }
}

/// The stored form of a tenant's key in a group that all tenants share.
pub(crate) fn key_of_tenant(key: &str, tenant: &str) -> String {
    format!("{key}\u{1f}{tenant}")
}

/// A key as the plugin wrote it, and its tenant if all tenants share the group.
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
