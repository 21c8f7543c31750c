//! Presence, with the call's own effects.

use crate::{
    EffectError,
    bindings::hubbub::plugin::presence::{Member, Status},
    harness::{
        World,
        call::{self, Call, Effect, Scoped},
        names,
        presence::{self, Presence},
    },
};

/// The host's limits.
const MAX_META: usize = 4 * 1024;
const MAX_GROUPS: usize = 16;
const MAX_LIST: u32 = 1000;

pub(crate) fn track(group: &str, key: &str, status: Status, meta: &str) -> Result<(), EffectError> {
    call::import(|call, world| {
        let socket = call.caller()?.socket;
        names::check("group", group)?;
        names::check("key", key)?;
        if meta.len() > MAX_META {
            return Err(EffectError::Denied("a key has at most 4 KiB of metadata".into()));
        }
        let group = call.scoped(world, group);
        let mut groups = pending(call, world).groups_of(socket);
        groups.insert(group.clone());
        if groups.len() > MAX_GROUPS {
            return Err(EffectError::Denied(format!("a socket is tracked in at most {MAX_GROUPS} groups")));
        }
        call.collect(Effect::Track { group, key: stored(call, world, key), status, meta: names::json(meta)? })
    })
}

pub(crate) fn heartbeat() -> Result<(), EffectError> {
    call::import(|call, _| {
        call.caller()?;
        call.collect(Effect::Heartbeat)
    })
}

pub(crate) fn untrack(group: &str, key: &str) -> Result<(), EffectError> {
    call::import(|call, world| {
        call.caller()?;
        names::check("group", group)?;
        names::check("key", key)?;
        call.collect(Effect::Untrack { group: call.scoped(world, group), key: stored(call, world, key) })
    })
}

pub(crate) fn list(group: &str, after: &str, limit: u32) -> Result<Vec<Member>, EffectError> {
    call::import(|call, world| {
        let mut members = members(call, world, group)?;
        members.retain(|member| member.key.as_str() > after);
        members.truncate(limit.clamp(1, MAX_LIST) as usize);
        Ok(members)
    })
}

pub(crate) fn count(group: &str) -> Result<u64, EffectError> {
    call::import(|call, world| Ok(members(call, world, group)?.len() as u64))
}

fn members(call: &Call, world: &World, group: &str) -> Result<Vec<Member>, EffectError> {
    call.in_transaction()?;
    names::check("group", group)?;
    let group: Scoped = call.scoped(world, group);
    Ok(pending(call, world).list(&group))
}

/// A key as the host stores it: with the call's tenant, if all tenants share the group.
fn stored(call: &Call, world: &World, key: &str) -> String {
    match call.tenant.as_deref().filter(|_| !world.has_tenants()) {
        Some(tenant) => presence::key_of_tenant(key, tenant),
        None => key.to_owned(),
    }
}

/// Presence as it will be if the call succeeds.
fn pending(call: &Call, world: &World) -> Presence {
    let mut presence = world.presence.clone();
    if let Some(caller) = &call.caller {
        for effect in &call.effects {
            presence.apply(world.now, caller.socket, effect);
        }
    }
    presence
}
