//! The state outside the plugin: sockets, rooms, the store, the bus, the clock. It changes only by commits and by time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Value, json};

use super::{
    call::{Call, Effect, Scoped, To},
    imports, names,
    once::{FirstReply, Once},
    presence::{self, Presence},
};
use crate::{
    Refusal,
    bindings::hubbub::plugin::{emitter::Delivery, log::Level, rooms::RoomSize, types::User},
    glue::handler::{Description, Namespace, Tenancy},
};

/// 2025-01-01T00:00:00Z.
const START: u64 = 1_735_689_600_000;

/// The host's limits.
const MAX_ROOMS_OF_A_SOCKET: usize = 64;
const MAX_HOPS: u8 = 8;
/// At most two counts a second a room.
const COUNT_EVERY: u64 = 500;

/// A line that the plugin has logged.
#[derive(Debug, Clone, PartialEq)]
pub struct LogLine {
    /// The level.
    pub level: Level,
    /// The message.
    pub message: String,
    /// Further fields; null where there are none.
    pub fields: Value,
}

/// A message that the plugin has published.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) topic: String,
    pub(crate) data: Value,
}

#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) namespace: String,
    pub(crate) user: Option<User>,
    pub(crate) rooms: BTreeSet<Scoped>,
    pub(crate) inbox: Vec<(String, Vec<Value>)>,
    pub(crate) gone: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    pub(crate) points: f64,
    pub(crate) at: u64,
}

#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) due: u64,
    pub(crate) payload: Value,
}

/// A message on its way to the plugin.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) topic: String,
    pub(crate) tenant: Option<String>,
    pub(crate) data: Value,
    pub(crate) hops: u8,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) description: Description,
    pub(crate) config: String,
    /// The monotonic clock.
    pub(crate) now: u64,
    /// The wall clock's distance to the monotonic one, in milliseconds.
    pub(crate) set: i64,
    pub(crate) sockets: BTreeMap<u64, Socket>,
    pub(crate) store: BTreeMap<String, Vec<u8>>,
    pub(crate) storage_down: bool,
    pub(crate) first_replies: BTreeMap<Once, FirstReply>,
    pub(crate) budgets: BTreeMap<(String, Scoped), Bucket>,
    pub(crate) timers: BTreeMap<Scoped, Waiting>,
    pub(crate) schedules: BTreeMap<String, (u64, u64)>,
    pub(crate) bus: VecDeque<Queued>,
    pub(crate) published: Vec<Published>,
    pub(crate) presence: Presence,
    pub(crate) logs: Vec<LogLine>,
    pub(crate) metrics: BTreeMap<String, f64>,
    /// Rooms with a new size, and the time at which it is reported.
    uncounted: BTreeMap<(String, Scoped), u64>,
    /// The time of the last report of a room's size.
    counted: BTreeMap<(String, Scoped), u64>,
    ids: u64,
    appended: u64,
    seed: u64,
}

impl World {
    pub(crate) fn new(description: Description) -> Self {
        let schedule = |one: &crate::glue::handler::Schedule| (one.key.clone(), (START + one.every_ms, one.every_ms));
        Self {
            schedules: description.schedules.iter().map(schedule).collect(),
            description,
            config: "{}".to_owned(),
            now: START,
            set: 0,
            sockets: BTreeMap::new(),
            store: BTreeMap::new(),
            storage_down: false,
            first_replies: BTreeMap::new(),
            budgets: BTreeMap::new(),
            timers: BTreeMap::new(),
            bus: VecDeque::new(),
            published: Vec::new(),
            presence: Presence::default(),
            logs: Vec::new(),
            metrics: BTreeMap::new(),
            uncounted: BTreeMap::new(),
            counted: BTreeMap::new(),
            ids: 0,
            appended: 0,
            seed: 0x9E37_79B9_7F4A_7C15,
        }
    }

    /// The time by the wall clock.
    pub(crate) fn wall(&self) -> u64 {
        self.now.saturating_add_signed(self.set)
    }

    pub(crate) fn has_tenants(&self) -> bool {
        self.description.tenancy != Tenancy::None
    }

    /// Whether calls without a tenant are refused.
    pub(crate) fn needs_tenant(&self) -> bool {
        self.description.tenancy == Tenancy::Required
    }

    /// The tenant in a message's data, as the host reads it without `tenant_path`.
    pub(crate) fn tenant_in(&self, data: &Value) -> Option<String> {
        ["tenant", "companyId"].iter().find_map(|key| match data.get(key)? {
            Value::String(tenant) if !tenant.is_empty() => Some(tenant.clone()),
            Value::Number(tenant) => Some(tenant.to_string()),
            _ => None,
        })
    }

    pub(crate) fn handles(&self, topic: &str) -> bool {
        self.description.topics.iter().any(|known| known == topic)
    }

    /// The namespace of the description for the namespace that a client names.
    pub(crate) fn place(&self, namespace: &str) -> Option<&Namespace> {
        self.description.namespaces.iter().find(|place| names::is_namespace(&place.path, namespace))
    }

    pub(crate) fn next_id(&mut self) -> String {
        self.ids += 1;
        names::ulid(self.now, self.ids)
    }

    pub(crate) fn next_socket(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// A byte of a sequence that is the same in every test (xorshift).
    pub(crate) fn random(&mut self) -> u8 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 32) as u8
    }

    pub(crate) fn is_in(&self, socket: u64, namespace: &str) -> bool {
        self.sockets.get(&socket).is_some_and(|socket| !socket.gone && socket.namespace == namespace)
    }

    pub(crate) fn members(&self, namespace: &str, room: &Scoped) -> BTreeSet<u64> {
        let inside = self.sockets.iter().filter(|(id, socket)| self.is_in(**id, namespace) && socket.rooms.contains(room));
        inside.map(|(id, _)| *id).collect()
    }

    pub(crate) fn sockets_of(&self, namespace: &str, user: &Scoped) -> Vec<u64> {
        let same = |socket: &Socket| socket.user.as_ref().is_some_and(|who| who.id == user.name && who.tenant == user.tenant);
        let theirs = self.sockets.iter().filter(|(id, socket)| self.is_in(**id, namespace) && same(socket));
        theirs.map(|(id, _)| *id).collect()
    }

    pub(crate) fn size(&self, members: &BTreeSet<u64>) -> RoomSize {
        let users = members.iter().filter_map(|id| self.sockets.get(id)?.user.as_ref());
        let visitors = members.iter().filter(|id| self.sockets.get(id).is_some_and(|socket| socket.user.is_none()));
        RoomSize {
            sockets: members.len() as u64,
            users: users.map(|user| (&user.tenant, &user.id)).collect::<BTreeSet<_>>().len() as u64,
            visitors: visitors.count() as u64,
        }
    }

    /// Applies a call's effects, all or none, writes first.
    pub(crate) fn commit(&mut self, call: &Call, hops: u8) -> Result<(), Refusal> {
        let (writes, others): (Vec<&Effect>, Vec<&Effect>) = call.effects.iter().partition(|effect| effect.is_write());
        if self.storage_down && !writes.is_empty() {
            return Err(Refusal::unavailable("Service unavailable"));
        }
        self.check_joins(call)?;
        writes.into_iter().for_each(|effect| self.write(effect));
        for effect in others {
            self.apply(effect, call, hops);
        }
        Ok(())
    }

    fn check_joins(&self, call: &Call) -> Result<(), Refusal> {
        let Some(socket) = call.caller.as_ref().and_then(|caller| self.sockets.get(&caller.socket)) else { return Ok(()) };
        let mut rooms = socket.rooms.clone();
        for effect in &call.effects {
            match effect {
                Effect::Join { room, .. } => drop(rooms.insert(room.clone())),
                Effect::Leave { room, .. } => drop(rooms.remove(room)),
                _ => {}
            }
        }
        if rooms.len() > MAX_ROOMS_OF_A_SOCKET { Err(Refusal::too_large("Too many rooms")) } else { Ok(()) }
    }

    fn write(&mut self, effect: &Effect) {
        let key = match effect {
            Effect::Append { prefix, value } => {
                self.appended += 1;
                self.store.insert(format!("{prefix}{:020}", self.appended), value.clone());
                return;
            }
            Effect::Put { key, .. } | Effect::Delete { key } | Effect::Add { key, .. } => key,
            _ => return,
        };
        let old = self.store.remove(key);
        if let Some(new) = imports::store::after(old, effect, key) {
            self.store.insert(key.clone(), new);
        }
    }

    fn apply(&mut self, effect: &Effect, call: &Call, hops: u8) {
        match effect {
            Effect::Join { socket, room } => self.move_socket(*socket, room, true),
            Effect::Leave { socket, room } => self.move_socket(*socket, room, false),
            Effect::JoinUser { namespace, user, room } | Effect::LeaveUser { namespace, user, room } => {
                for socket in self.sockets_of(namespace, user) {
                    self.move_socket(socket, room, matches!(effect, Effect::JoinUser { .. }));
                }
            }
            Effect::Emit { to, event, args } => self.emit(to, event, args, call),
            Effect::Publish { topic, data } => {
                self.published.push(Published { topic: topic.clone(), data: data.clone() });
                if hops < MAX_HOPS && self.handles(topic) {
                    let tenant = call.tenant.clone();
                    self.bus.push_back(Queued { topic: topic.clone(), tenant, data: data.clone(), hops: hops + 1 });
                }
            }
            Effect::Track { .. } | Effect::Heartbeat | Effect::Untrack { .. } => {
                if let Some(caller) = &call.caller {
                    self.presence.apply(self.now, caller.socket, effect);
                }
            }
            Effect::After { key, delay_ms, payload, .. } => {
                let due = self.timers.get(key).map_or(self.now + delay_ms, |waiting| waiting.due);
                self.timers.insert(key.clone(), Waiting { due, payload: payload.clone() });
            }
            Effect::Cancel { key } => drop(self.timers.remove(key)),
            Effect::Put { .. } | Effect::Append { .. } | Effect::Delete { .. } | Effect::Add { .. } => {}
        }
    }

    pub(crate) fn move_socket(&mut self, id: u64, room: &Scoped, into: bool) {
        let Some(socket) = self.sockets.get_mut(&id).filter(|socket| !socket.gone) else { return };
        let moved = if into { socket.rooms.insert(room.clone()) } else { socket.rooms.remove(room) };
        let namespace = socket.namespace.clone();
        if moved {
            self.recount(namespace, room.clone());
        }
    }

    /// Ends a socket: it leaves its rooms. Its presence ends at once after a clean disconnect, else after the grace period.
    pub(crate) fn disconnect(&mut self, id: u64, clean: bool) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        socket.gone = true;
        let (namespace, rooms) = (socket.namespace.clone(), std::mem::take(&mut socket.rooms));
        for room in rooms {
            self.recount(namespace.clone(), room);
        }
        self.presence.disconnect(self.now, id, clean);
    }

    fn recount(&mut self, namespace: String, room: Scoped) {
        if self.handles("room.counted") {
            let room = (namespace, room);
            let due = self.counted.get(&room).map_or(self.now, |last| self.now.max(last + COUNT_EVERY));
            self.uncounted.entry(room).or_insert(due);
        }
    }

    /// Publishes the changes of presence and the sizes of rooms that are due.
    pub(crate) fn notice(&mut self) {
        self.presence.tick(self.now);
        for change in self.presence.take_changes() {
            if self.handles("presence.changed") {
                let (key, owner) = presence::key_of(&change.key);
                let tenant = change.group.tenant.or(owner.map(str::to_owned));
                let data = json!({
                    "group": change.group.name, "key": key,
                    "from": change.from, "to": change.to, "meta": change.meta,
                });
                self.bus.push_back(Queued { topic: "presence.changed".into(), tenant, data, hops: 0 });
            }
        }
        let due = self.uncounted.iter().filter(|(_, due)| **due <= self.now).map(|(room, _)| room.clone());
        for room in due.collect::<Vec<_>>() {
            self.uncounted.remove(&room);
            self.counted.insert(room.clone(), self.now);
            self.count(room.0, room.1);
        }
    }

    fn count(&mut self, namespace: String, room: Scoped) {
        let size = self.size(&self.members(&namespace, &room));
        let data = json!({
            "namespace": namespace, "room": room.name,
            "sockets": size.sockets, "users": size.users, "visitors": size.visitors,
        });
        self.bus.push_back(Queued { topic: "room.counted".into(), tenant: room.tenant, data, hops: 0 });
    }

    /// The next time at which something is due.
    pub(crate) fn due(&self) -> Option<u64> {
        let timers = self.timers.values().map(|waiting| waiting.due);
        let schedules = self.schedules.values().map(|(due, _)| *due);
        let counts = self.uncounted.values().copied().filter(|from| *from > self.now);
        timers.chain(schedules).chain(counts).chain(self.presence.due(self.now)).min()
    }

    fn emit(&mut self, to: &To, event: &str, args: &[Value], call: &Call) {
        let caller = call.caller.as_ref().map(|caller| caller.socket);
        let (mut targets, how) = self.targets(to, caller);
        if how.contains(Delivery::EXCEPT_CALLER) {
            targets.retain(|id| Some(*id) != caller);
        }
        for id in targets {
            if let Some(socket) = self.sockets.get_mut(&id).filter(|socket| !socket.gone) {
                socket.inbox.push((event.to_owned(), args.to_vec()));
            }
        }
    }

    fn targets(&self, to: &To, caller: Option<u64>) -> (BTreeSet<u64>, Delivery) {
        match to {
            To::Caller => (caller.into_iter().collect(), Delivery::empty()),
            To::Rooms { namespace, rooms, except, how } => {
                let all =
                    |rooms: &[Scoped]| rooms.iter().flat_map(|room| self.room_or_user(namespace, room)).collect::<BTreeSet<_>>();
                (&all(rooms) - &all(except), *how)
            }
            To::Users { namespace, users, how } => {
                (users.iter().flat_map(|user| self.sockets_of(namespace, user)).collect(), *how)
            }
            To::Tenant { namespace, tenant, how } => {
                let theirs = |socket: &Socket| socket.user.as_ref().is_some_and(|user| user.tenant.as_ref() == Some(tenant));
                let all = self.sockets.iter().filter(|(id, socket)| self.is_in(**id, namespace) && theirs(socket));
                (all.map(|(id, _)| *id).collect(), *how)
            }
            To::Namespace { namespace, how } => {
                (self.sockets.keys().copied().filter(|id| self.is_in(*id, namespace)).collect(), *how)
            }
        }
    }

    /// A room's members; `user:{id}` is the host's room of all of a user's sockets.
    fn room_or_user(&self, namespace: &str, room: &Scoped) -> BTreeSet<u64> {
        match room.name.strip_prefix("user:") {
            Some(user) => {
                let user = Scoped { tenant: room.tenant.clone(), name: user.to_owned() };
                self.sockets_of(namespace, &user).into_iter().collect()
            }
            None => self.members(namespace, room),
        }
    }
}
