//! `rooms.wit`: joins and leaves are collected, sizes are read. A call sees its own moves.

use crate::names;
use crate::sandbox::exports::Caller;
use crate::sandbox::imports::rooms::{Host, RoomSize};
use crate::sandbox::imports::types::EffectError;
use crate::transaction::effects::Live;
use crate::transaction::state::{State, invalid_name, name_of};

/// The prefix of the host's rooms of users.
pub const USER_ROOM: &str = "user:";

type Answer<T> = wasmtime::Result<Result<T, EffectError>>;

impl Host for State {
    fn join(&mut self, room: String) -> Answer<()> {
        self.caller_moves(&room, true)
    }

    fn leave(&mut self, room: String) -> Answer<()> {
        self.caller_moves(&room, false)
    }

    fn join_user(&mut self, namespace: String, user: String, room: String) -> Answer<()> {
        self.user_moves(&namespace, &user, &room, true)
    }

    fn leave_user(&mut self, namespace: String, user: String, room: String) -> Answer<()> {
        self.user_moves(&namespace, &user, &room, false)
    }

    fn joined(&mut self, room: String) -> Answer<bool> {
        self.import()?;
        Ok(self.is_joined(&room))
    }

    fn list(&mut self) -> Answer<Vec<String>> {
        self.import()?;
        Ok(self.caller_rooms())
    }

    async fn size(&mut self, namespace: String, room: String) -> Answer<RoomSize> {
        self.import()?;
        Ok(self.size_of(&namespace, &room).await)
    }
}

impl State {
    fn caller_moves(&mut self, room: &str, joins: bool) -> Answer<()> {
        if let Err(refused) = self.effect(room.len())? {
            return Ok(Err(refused));
        }
        Ok(self.caller_move(room, joins).map(|live| self.call.effects.live.push(live)))
    }

    fn caller_move(&self, room: &str, joins: bool) -> Result<Live, EffectError> {
        let caller = self.caller()?;
        let (socket, namespace) = (caller.socket, caller.namespace.as_str().into());
        let room = self.own_room(&caller.namespace, room)?;
        Ok(if joins { Live::Join { socket, namespace, room } } else { Live::Leave { socket, namespace, room } })
    }

    fn user_moves(&mut self, namespace: &str, user: &str, room: &str, joins: bool) -> Answer<()> {
        if let Err(refused) = self.effect(namespace.len() + user.len() + room.len())? {
            return Ok(Err(refused));
        }
        let live = (|| {
            let path = self.namespace(namespace)?;
            let room = self.own_room(namespace, room)?;
            let user = self.user(user)?;
            Ok(Live::MoveUser { namespace: path, user, room, joins })
        })();
        Ok(live.map(|live| self.call.effects.live.push(live)))
    }

    /// The full name of a room that the plugin may join sockets to.
    fn own_room(&self, namespace: &str, room: &str) -> Result<String, EffectError> {
        names::check("room", room).map_err(invalid_name)?;
        if room.starts_with(USER_ROOM) {
            return Err(EffectError::Denied("user rooms are the host's: every socket of a user is in its own".into()));
        }
        if !self.profile.rooms.iter().any(|(ns, pattern)| ns.matches(namespace) && pattern.matches(room)) {
            return Err(EffectError::Denied(format!("the plugin describes no room like {room:.100} in {namespace:.100}")));
        }
        Ok(names::scoped(self.scope()?, room))
    }

    fn is_joined(&self, room: &str) -> Result<bool, EffectError> {
        let caller = self.caller()?;
        let room = self.room(room)?;
        // The last pending move decides.
        let pending = self.pending_moves(caller).filter(|(_, name)| *name == room).last();
        if let Some((joins, _)) = pending {
            return Ok(joins);
        }
        let adapter = self.services.rooms.namespace(&caller.namespace);
        Ok(adapter.is_some_and(|adapter| adapter.members(|members| members.is_in(caller.socket, &room))))
    }

    fn caller_rooms(&self) -> Result<Vec<String>, EffectError> {
        let caller = self.caller()?;
        let scope = self.scope()?;
        let mut rooms: Vec<String> = match self.services.rooms.namespace(&caller.namespace) {
            Some(adapter) => adapter.members(|members| members.rooms_of(caller.socket).map(|room| room.to_string()).collect()),
            None => Vec::new(),
        };
        for (joins, room) in self.pending_moves(caller) {
            rooms.retain(|other| other != room);
            if joins {
                rooms.push(room.to_owned());
            }
        }
        let own = |room: &String| {
            let (tenant, bare) = names::unscoped(room);
            (tenant == scope && names::check("room", bare).is_ok()).then(|| bare.to_owned())
        };
        Ok(rooms.iter().filter_map(own).collect())
    }

    async fn size_of(&self, namespace: &str, room: &str) -> Result<RoomSize, EffectError> {
        let path = self.namespace(namespace)?;
        let room = self.room(room)?;
        let caller = self.call.caller.as_ref().filter(|caller| caller.namespace == namespace);
        let user = caller.and_then(|caller| caller.user.as_ref());
        let user = user.map(name_of);
        let (mut size, nodes_of_user) = self.services.rooms.size(&path, &room, user.as_deref().unwrap_or_default()).await;
        if let (Some(caller), Some(adapter)) = (caller, self.services.rooms.namespace(&path)) {
            adapter.members(|members| {
                let is_in = members.is_in(caller.socket, &room);
                let will_be = self.pending_moves(caller).filter(|(_, name)| *name == room).last().map(|(joins, _)| joins);
                let devices = user.map(|user| {
                    let here = members.user_in(&user, &room);
                    here + nodes_of_user.saturating_sub(u32::from(here > 0))
                });
                adjust(&mut size, is_in, will_be.unwrap_or(is_in), devices);
            });
        }
        Ok(RoomSize { sockets: size.sockets, users: size.users, visitors: size.visitors })
    }

    /// The caller's own joins (true) and leaves of this call.
    fn pending_moves<'a>(&'a self, caller: &'a Caller) -> impl Iterator<Item = (bool, &'a str)> {
        self.call.effects.live.iter().filter_map(|live| match live {
            Live::Join { socket, room, .. } if *socket == caller.socket => Some((true, room.as_str())),
            Live::Leave { socket, room, .. } if *socket == caller.socket => Some((false, room.as_str())),
            _ => None,
        })
    }
}

/// Adjusts a room's size by the caller's own pending move. `devices` counts the sockets of the caller's user in the room now;
/// absent for a visitor.
fn adjust(size: &mut crate::rooms::members::Size, is_in: bool, will_be: bool, devices: Option<u32>) {
    if is_in == will_be {
        return;
    }
    let step = |count: &mut u64| *count = if will_be { *count + 1 } else { count.saturating_sub(1) };
    step(&mut size.sockets);
    match devices {
        None => step(&mut size.visitors),
        // Only the first device that joins, and the last that leaves, change the count of users.
        Some(devices) if devices == u32::from(is_in) => step(&mut size.users),
        Some(_) => {}
    }
}
