//! Rooms: joins and leaves are effects, and questions see them at once.

use std::collections::BTreeSet;

use crate::{
    EffectError,
    bindings::hubbub::plugin::rooms::RoomSize,
    harness::{
        World,
        call::{self, Call, Effect, Scoped},
        names,
    },
};

pub(crate) fn join(room: &str) -> Result<(), EffectError> {
    call::import(|call, world| {
        let (socket, namespace) = call.caller().map(|caller| (caller.socket, caller.namespace.clone()))?;
        check(world, &namespace, room)?;
        call.collect(Effect::Join { socket, room: call.scoped(world, room) })
    })
}

pub(crate) fn leave(room: &str) -> Result<(), EffectError> {
    call::import(|call, world| {
        let (socket, namespace) = call.caller().map(|caller| (caller.socket, caller.namespace.clone()))?;
        check(world, &namespace, room)?;
        call.collect(Effect::Leave { socket, room: call.scoped(world, room) })
    })
}

pub(crate) fn join_user(namespace: &str, user: &str, room: &str) -> Result<(), EffectError> {
    call::import(|call, world| {
        names::check("user", user)?;
        check(world, namespace, room)?;
        let (user, room) = (call.owned(user), call.scoped(world, room));
        call.collect(Effect::JoinUser { namespace: namespace.to_owned(), user, room })
    })
}

pub(crate) fn leave_user(namespace: &str, user: &str, room: &str) -> Result<(), EffectError> {
    call::import(|call, world| {
        names::check("user", user)?;
        check(world, namespace, room)?;
        let (user, room) = (call.owned(user), call.scoped(world, room));
        call.collect(Effect::LeaveUser { namespace: namespace.to_owned(), user, room })
    })
}

pub(crate) fn joined(room: &str) -> Result<bool, EffectError> {
    call::import(|call, world| {
        let caller = call.caller()?;
        names::check("room", room)?;
        Ok(members(call, world, &caller.namespace, &call.scoped(world, room)).contains(&caller.socket))
    })
}

pub(crate) fn list() -> Result<Vec<String>, EffectError> {
    call::import(|call, world| {
        let caller = call.caller()?;
        let now = world.sockets.get(&caller.socket).map(|socket| socket.rooms.clone()).unwrap_or_default();
        let pending = call.effects.iter().filter_map(|effect| match effect {
            Effect::Join { room, .. } | Effect::JoinUser { room, .. } => Some(room.clone()),
            _ => None,
        });
        let rooms: BTreeSet<Scoped> = now.into_iter().chain(pending).collect();
        let inside = |room: &Scoped| members(call, world, &caller.namespace, room).contains(&caller.socket);
        Ok(rooms.into_iter().filter(inside).map(|room| room.name).collect())
    })
}

pub(crate) fn size(namespace: &str, room: &str) -> Result<RoomSize, EffectError> {
    call::import(|call, world| {
        call.in_transaction()?;
        names::check("room", room)?;
        let members = members(call, world, namespace, &call.scoped(world, room));
        Ok(world.size(&members))
    })
}

fn check(world: &World, namespace: &str, room: &str) -> Result<(), EffectError> {
    names::room(room)?;
    names::filled(world, room)?;
    let Some(path) = world.place(namespace).map(|place| place.path.clone()) else {
        return Err(EffectError::Denied(format!("the plugin takes no part in the namespace {namespace:?}")));
    };
    let covers = |pattern: &crate::glue::handler::RoomPattern| pattern.namespace == path && names::covers(&pattern.pattern, room);
    if world.description.rooms.iter().any(covers) {
        return Ok(());
    }
    Err(EffectError::Denied(format!("no room pattern of the plugin covers {room:?} in {path}")))
}

/// The sockets in a room, with the call's own effects.
fn members(call: &Call, world: &World, namespace: &str, room: &Scoped) -> BTreeSet<u64> {
    let mut members = world.members(namespace, room);
    for effect in &call.effects {
        match effect {
            Effect::Join { socket, room: joined } if joined == room && world.is_in(*socket, namespace) => {
                members.insert(*socket);
            }
            Effect::Leave { socket, room: left } if left == room && world.is_in(*socket, namespace) => {
                members.remove(socket);
            }
            Effect::JoinUser { namespace: place, user, room: joined } if joined == room && place == namespace => {
                members.extend(world.sockets_of(namespace, user));
            }
            Effect::LeaveUser { namespace: place, user, room: left } if left == room && place == namespace => {
                for socket in world.sockets_of(namespace, user) {
                    members.remove(&socket);
                }
            }
            _ => {}
        }
    }
    members
}
