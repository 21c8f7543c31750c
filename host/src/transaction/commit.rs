//! The commit of a call: storage first, then all other effects in their order. Calls that write take effect in the order in which
//! storage accepts them.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::effects::{Effects, Emit, Live, Target};
use super::services::Services;
use crate::budgets::quota::{Passed, Usage};
use crate::names::PluginName;
use crate::rooms::{Send, To};
use crate::storage::{CommitError, FirstReply, HandledId, WriteSet};
use crate::telemetry::traces::Span;

/// Commits the effects of a call. Without writes, this usually completes without waiting.
pub async fn commit(
    services: &Arc<Services>,
    plugin: &PluginName,
    effects: Effects,
    handled: Vec<HandledId>,
    first_reply: Option<FirstReply>,
    trace: Option<&Span>,
) -> Result<(), CommitError> {
    let (joins, is_live) = (effects.live.iter().any(Live::joins), !effects.live.is_empty());
    if !effects.is_durable() && handled.is_empty() && first_reply.is_none() {
        apply_traced(services, effects.live, trace).await;
        if is_live {
            reached_others(services, joins).await;
        }
        return Ok(());
    }
    let Effects { reads, writes, messages, live, .. } = effects;
    let traced = trace.map(|trace| Traced::begin(trace, writes.len(), messages.len()));
    let publishes = !messages.is_empty();
    let begun = traced.as_ref().map(|traced| traced.begun.clone());
    let set = WriteSet { plugin: plugin.clone(), reads, writes, messages, handled, first_reply, begun };
    let then = {
        let (services, span) = (services.clone(), traced.as_ref().map(|traced| traced.span.clone()));
        Box::pin(async move { apply_traced(&services, live, span.as_deref()).await })
    };
    let outcome = services.storage.commit(set, then).await;
    if let Some(traced) = traced {
        traced.end(&outcome);
    }
    outcome?;
    if publishes {
        services.published.notify_one();
    }
    if is_live {
        reached_others(services, joins).await;
    }
    Ok(())
}

/// Waits for what must hold on all nodes before a client learns of it.
async fn reached_others(services: &Services, joins: bool) {
    // Its join only once it also receives what other nodes send to the room.
    if joins {
        services.rooms.settled().await;
    }
    // Its event only once clients that are away get it wherever they come back.
    services.rooms.written().await;
}

/// A traced commit.
struct Traced {
    span: Arc<Span>,
    requested_at: Instant,
    /// When the group of the commit began.
    begun: Arc<OnceLock<Instant>>,
}

impl Traced {
    fn begin(parent: &Span, writes: usize, messages: usize) -> Self {
        let span = parent.child("commit");
        span.number("hubbub.writes", writes as u64);
        span.number("hubbub.messages", messages as u64);
        Self { span: Arc::new(span), requested_at: Instant::now(), begun: Arc::default() }
    }

    fn end(self, outcome: &Result<(), CommitError>) {
        if let Some(begun) = self.begun.get() {
            self.span.number("hubbub.group_wait_us", begun.duration_since(self.requested_at).as_micros() as u64);
        }
        let (name, is_error) = match outcome {
            Ok(()) => ("ok", false),
            Err(CommitError::Conflict) => ("conflict", false),
            Err(CommitError::AlreadyHandled) => ("already_handled", false),
            Err(CommitError::NotACounter { .. } | CommitError::Invalid(_)) => ("invalid", true),
            Err(CommitError::Unavailable(_)) => ("unavailable", true),
        };
        self.span.outcome(name, is_error);
    }
}

async fn apply_traced(services: &Services, live: Vec<Live>, trace: Option<&Span>) {
    let span = trace.filter(|_| !live.is_empty()).map(|trace| trace.child("effects"));
    if let Some(span) = &span {
        span.number("hubbub.effects", live.len() as u64);
        span.number("hubbub.emits", live.iter().filter(|live| matches!(live, Live::Emit(_))).count() as u64);
    }
    apply(services, live).await;
}

/// Whether a call joins its caller to more rooms than a socket may be in. Checked before any effect: no message may be stored for
/// a join that is then refused.
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

/// Takes the bytes that a call's emits put into clients' queues from the plugin's quota. Checked before any effect; later joins
/// and leaves are not counted.
pub fn fan_out(services: &Services, usage: &Usage, live: &[Live]) -> Result<(), Passed> {
    if !usage.is_fanout_limited() {
        return Ok(());
    }
    let bytes = |live: &Live| match live {
        Live::Emit(emit) => match &emit.to {
            // The most frequent case, without a lookup of members.
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

/// Applies effects on connected clients, in order.
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
                services.rooms.move_user(&namespace, &user, &room, joins);
            }
            Live::Emit(emit) => send(services, &emit).await,
            Live::Track(track) => services.track(track),
            Live::Heartbeat { socket } => services.presences.heartbeat(socket, services.clock.steady_ms()),
            Live::Untrack { socket, plugin, tenant, group, key } => {
                services.untrack(socket, &plugin, tenant.as_deref(), &group, &key);
            }
            Live::Arm { id, due, payload, origin } => services.timers.arm(id, due, payload, origin),
            Live::Disarm { id } => services.timers.disarm(&id),
        }
    }
}

/// Sends one event.
pub async fn send(services: &Services, emit: &Emit) {
    let to = (&emit.to).into();
    let send =
        Send { to, except: &emit.except, except_socket: emit.except_socket, text: &emit.text, volatile: emit.volatile, at: None };
    services.rooms.send(&emit.namespace, send).await;
}

impl<'a> From<&'a Target> for To<'a> {
    fn from(target: &'a Target) -> Self {
        match target {
            Target::Socket(socket) => Self::Socket(*socket),
            Target::Rooms(rooms) => Self::Rooms(rooms),
            Target::TenantInRoom { tenant, room } => Self::TenantInRoom { tenant, room },
            Target::Users(users) => Self::Users(users),
            Target::Tenant(tenant) => Self::Tenant(tenant),
            Target::Everyone => Self::Everyone,
        }
    }
}
