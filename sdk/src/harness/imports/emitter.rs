//! Emits: effects, sent at commit.

use crate::{
    EffectError,
    bindings::hubbub::plugin::emitter::Delivery,
    harness::{
        World,
        call::{self, Call, Effect, Scoped, To},
        names,
    },
};

type Answer = Result<(), EffectError>;

/// The host's limits of one emit.
const MAX_ROOMS: usize = 64;
const MAX_USERS: usize = 1000;

pub(crate) fn to_caller(event: &str, args: &str) -> Answer {
    call::import(|call, _| {
        call.caller()?;
        emit(call, To::Caller, event, args)
    })
}

pub(crate) fn to_room(namespace: &str, room: &str, event: &str, args: &str, how: Delivery) -> Answer {
    to_rooms(namespace, &[room.to_owned()], &[], event, args, how)
}

pub(crate) fn to_rooms(namespace: &str, rooms: &[String], except: &[String], event: &str, args: &str, how: Delivery) -> Answer {
    call::import(|call, world| {
        check_namespace(world, namespace)?;
        if rooms.len() + except.len() > MAX_ROOMS {
            return Err(EffectError::Denied(format!("an emit names at most {MAX_ROOMS} rooms")));
        }
        let rooms = scoped(call, world, "room", rooms)?;
        let except = scoped(call, world, "room", except)?;
        emit(call, To::Rooms { namespace: namespace.to_owned(), rooms, except, how }, event, args)
    })
}

pub(crate) fn to_users(namespace: &str, users: &[String], event: &str, args: &str, how: Delivery) -> Answer {
    call::import(|call, world| {
        check_namespace(world, namespace)?;
        if users.len() > MAX_USERS {
            return Err(EffectError::Denied(format!("an emit names at most {MAX_USERS} users")));
        }
        let users = scoped(call, world, "user", users)?;
        emit(call, To::Users { namespace: namespace.to_owned(), users, how }, event, args)
    })
}

pub(crate) fn to_tenant(namespace: &str, tenant: &str, event: &str, args: &str, how: Delivery) -> Answer {
    call::import(|call, world| {
        check_namespace(world, namespace)?;
        names::check("tenant", tenant)?;
        if world.has_tenants() && call.tenant.as_deref() != Some(tenant) {
            return Err(EffectError::Denied(format!("the tenant {tenant:?} is not the call's own")));
        }
        emit(call, To::Tenant { namespace: namespace.to_owned(), tenant: tenant.to_owned(), how }, event, args)
    })
}

pub(crate) fn to_namespace(namespace: &str, event: &str, args: &str, how: Delivery) -> Answer {
    call::import(|call, world| {
        check_namespace(world, namespace)?;
        if world.has_tenants() {
            return Err(EffectError::Denied("a plugin with tenants cannot emit to a whole namespace".into()));
        }
        emit(call, To::Namespace { namespace: namespace.to_owned(), how }, event, args)
    })
}

fn emit(call: &mut Call, to: To, event: &str, args: &str) -> Answer {
    names::event(event)?;
    let args = names::json(args)?;
    let Some(args) = args.as_array() else {
        return Err(EffectError::InvalidJson("the arguments of an event are one array".into()));
    };
    call.collect(Effect::Emit { to, event: event.to_owned(), args: args.clone() })
}

fn check_namespace(world: &World, namespace: &str) -> Answer {
    if world.place(namespace).is_some() {
        return Ok(());
    }
    Err(EffectError::Denied(format!("the plugin takes no part in the namespace {namespace:?}")))
}

fn scoped(call: &Call, world: &World, kind: &str, given: &[String]) -> Result<Vec<Scoped>, EffectError> {
    let scoped =
        |name: &str| if kind == "user" || name.starts_with("user:") { call.owned(name) } else { call.scoped(world, name) };
    let check = |name: &str| names::check(kind, name).and_then(|()| names::filled(world, name));
    given.iter().map(|name| check(name).map(|()| scoped(name))).collect()
}
