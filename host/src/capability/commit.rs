//! The commit of a call: storage first, then everything else, in the order made. Calls that write take effect in the order
//! in which storage accepts them.

use std::sync::Arc;

use super::effects::{Effects, Emit, Live, Target};
use super::quota::{Passed, Usage};
use super::state::Services;
use crate::cluster::adapter::{Send, To};
use crate::names::PluginName;
use crate::storage::{CommitError, HandledId, WriteSet};

/// Commits what a call has collected. Without writes it is done when the first wait would come, mostly at once.
pub async fn commit(
    services: &Arc<Services>,
    plugin: &PluginName,
    effects: Effects,
    handled: Vec<HandledId>,
) -> Result<(), CommitError> {
    if !effects.is_durable() && handled.is_empty() {
        apply(services, effects.live).await;
        return Ok(());
    }
    let set =
        WriteSet { plugin: plugin.clone(), reads: effects.reads, writes: effects.writes, messages: effects.messages, handled };
    let publishes = !set.messages.is_empty();
    let live = effects.live;
    let then = {
        let services = services.clone();
        Box::pin(async move { apply(&services, live).await })
    };
    services.storage.commit(set, then).await?;
    if publishes {
        services.published.notify_one();
    }
    Ok(())
}

/// Whether a call joins its caller to more rooms than a socket may be in. Looked at before anything of the call happens: a message
/// must not be stored for a join that cannot be.
pub fn joins_too_many(services: &Services, live: &[Live]) -> bool {
    let joins = || {
        live.iter().filter_map(|live| match live {
            Live::Join { socket, namespace, room } => Some((*socket, namespace, room)),
            _ => None,
        })
    };
    let Some((socket, namespace, _)) = joins().next() else { return false };
    let Some(adapter) = services.rooms.namespace(namespace) else { return false };
    adapter.members(|members| {
        let new = joins().filter(|(_, _, room)| !members.is_in(socket, room)).count();
        new + members.own_rooms(socket) > services.rooms.per_socket
    })
}

/// Takes the bytes that a call's emits put into clients' queues from the plugin's quota. Looked at before anything of the call
/// happens; whoever joins or leaves meanwhile is not counted.
pub fn fan_out(services: &Services, usage: &Usage, live: &[Live]) -> Result<(), Passed> {
    if !usage.is_fanout_limited() {
        return Ok(());
    }
    let bytes = |live: &Live| match live {
        Live::Emit(emit) => match &emit.to {
            // By far the most: no look at the members.
            Target::Socket(_) => emit.text.len() as u64,
            to => services.rooms.namespace(&emit.namespace).map_or(0, |all| all.reached(&to.into()) * emit.text.len() as u64),
        },
        _ => 0,
    };
    match live.iter().map(bytes).fold(0, u64::saturating_add) {
        0 => Ok(()),
        bytes => usage.fan_out(bytes),
    }
}

/// Lets effects on what is connected happen, in the order made.
pub async fn apply(services: &Services, live: Vec<Live>) {
    for effect in live {
        match effect {
            Live::Join { socket, namespace, room } => {
                let adapter = services.rooms.namespace(&namespace);
                if adapter.is_some_and(|adapter| adapter.join(socket, &room).is_err()) {
                    services.metrics.joins_refused.inc();
                }
            }
            Live::Leave { socket, namespace, room } => {
                if let Some(adapter) = services.rooms.namespace(&namespace) {
                    adapter.leave(socket, &room);
                }
            }
            Live::MoveUser { namespace, user, room, joins } => {
                if let Some(adapter) = services.rooms.namespace(&namespace) {
                    adapter.move_user(&user, &room, joins);
                }
            }
            Live::Emit(emit) => send(services, emit).await,
            Live::Track(track) => {
                if !services.presences.track(track, services.clock.now_ms()) {
                    services.metrics.joins_refused.inc();
                }
            }
            Live::Heartbeat { socket } => services.presences.heartbeat(socket, services.clock.now_ms()),
            Live::Untrack { socket, plugin, tenant, group, key } => {
                let now = services.clock.now_ms();
                services.presences.untrack(socket, &plugin, tenant.as_deref(), &group, &key, now);
            }
            Live::Arm { id, due_ms, payload } => services.timers.arm(id, due_ms, payload),
            Live::Disarm { id } => services.timers.disarm(&id),
        }
    }
}

/// Sends one event.
pub async fn send(services: &Services, emit: Emit) {
    // A namespace that nobody has connected to has nobody to tell.
    let Some(adapter) = services.rooms.namespace(&emit.namespace) else { return };
    let to = (&emit.to).into();
    let send =
        Send { to, except: &emit.except, except_socket: emit.except_socket, text: emit.text.into(), volatile: emit.volatile };
    adapter.send(send).await;
}

impl<'a> From<&'a Target> for To<'a> {
    fn from(target: &'a Target) -> Self {
        match target {
            Target::Socket(socket) => Self::Socket(*socket),
            Target::Rooms(rooms) => Self::Rooms(rooms),
            Target::Users(users) => Self::Users(users),
            Target::Tenant(tenant) => Self::Tenant(tenant),
            Target::Everyone => Self::Everyone,
        }
    }
}
