//! One socket: its events in the order sent, one at a time, at most so many waiting. It keeps no version of any plugin, and no
//! fault of a plugin ends it.

pub mod disconnect;
mod dispatch;
pub mod expiry;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use smallvec::SmallVec;
use socketioxide_core::{Sid, Str};

use super::Gateway;
use super::admission::{QUEUE_PAUSE, REFUSAL_COST, too_many};
use super::permits::{ConnectionPermit, SocketPermit};
use crate::call::deployed_plugin::DeployedPlugin;
use crate::call::job::Job;
use crate::call::run::call;
use crate::capability::emitter::packet_text;
use crate::error::{Code, Refusal};
use crate::json::{self, InvalidJson};
use crate::names::{self, SocketId};
use crate::rooms::adapter::Adapter;
use crate::sandbox::exports::Caller;
use crate::telemetry::traces::Span;
use crate::transaction::effects::Live;
use disconnect::DisconnectCause;
use dispatch::{bracketed, run};

/// One socket.
pub struct Session {
    pub id: SocketId,
    pub sid: Sid,
    pub adapter: Arc<Adapter>,
    /// Replaced when the client shows a fresh token.
    pub caller: ArcSwap<Caller>,
    /// The connection's, which it may share with sockets of other namespaces.
    pub permit: Arc<ConnectionPermit>,
    /// Among the user's sockets. None for a visitor, or where nothing of a user's is limited.
    socket_permit: Option<SocketPermit>,
    /// Who issued the token.
    pub issuer: Option<Arc<str>>,
    /// When the token expires, by the steady clock. 0 for a visitor.
    pub expires_ms: AtomicU64,
    /// Bytes of what the host answers and tells it, beside what plugins send.
    pub answered: AtomicU64,
    gateway: Arc<Gateway>,
    state: Mutex<State>,
}

/// What a socket takes up.
pub struct SocketResources {
    pub permit: Arc<ConnectionPermit>,
    pub socket_permit: Option<SocketPermit>,
    /// Who issued the token.
    pub issuer: Option<Arc<str>>,
}

struct State {
    phase: Phase,
    /// Someone is working on the queue.
    busy: bool,
    queue: VecDeque<Received>,
    /// Plugins that know the socket, by their slot's number.
    met: SmallVec<[u32; 2]>,
    /// Effects of `on-connect` that wait for the client to know that it is connected.
    deferred: Vec<Live>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The client does not know yet that it is connected.
    Connecting,
    Open,
    /// It has gone; what it sent before still runs.
    Closing(DisconnectCause),
    Closed,
}

/// An event that was received, and is well formed.
struct Received {
    name: String,
    /// The arguments: `[…]`.
    args: String,
    ack: Option<i64>,
}

enum Next {
    Event(Received),
    Leave(DisconnectCause),
    Nothing,
}

impl Session {
    pub fn new(
        gateway: Arc<Gateway>,
        sid: Sid,
        adapter: Arc<Adapter>,
        caller: Caller,
        expires_ms: Option<u64>,
        place: SocketResources,
    ) -> Arc<Self> {
        Arc::new(Self {
            id: caller.socket,
            sid,
            adapter,
            caller: ArcSwap::from_pointee(caller),
            permit: place.permit,
            socket_permit: place.socket_permit,
            issuer: place.issuer,
            expires_ms: AtomicU64::new(expires_ms.unwrap_or(0)),
            answered: AtomicU64::new(0),
            gateway,
            state: Mutex::new(State {
                phase: Phase::Connecting,
                busy: false,
                queue: VecDeque::new(),
                met: SmallVec::new(),
                deferred: Vec::new(),
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Under this lock values are only moved: a panic cannot leave one half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets every plugin of the namespace meet the socket. Writes and joins are done after it; emits wait for `open`.
    pub async fn connect_plugins(&self, trace: Option<&Span>) {
        let path = self.caller.load().namespace.clone();
        let plugins = match self.gateway.registry.routes().namespace(&path) {
            Some(route) => route.connect.clone(),
            None => return,
        };
        for deployed in plugins {
            self.connect_plugin(&deployed, trace).await;
        }
    }

    /// Calls `on-connect` of one plugin. Where it fails, it is owed, and called before the next event for that plugin.
    async fn connect_plugin(&self, deployed: &DeployedPlugin, trace: Option<&Span>) {
        let caller = self.caller.load_full();
        let span = trace.map(|trace| trace.child("on-connect"));
        // The error has been logged where it arose.
        if let Ok(done) =
            call(&self.gateway.services, deployed, Job::Connect { caller: &caller, peer: self.permit.peer }, span.as_ref()).await
        {
            let mut state = self.state();
            state.met.push(deployed.id);
            state.deferred.extend(done.deferred);
        }
    }

    fn has_connected(&self, deployed: &DeployedPlugin) -> bool {
        self.state().met.contains(&deployed.id)
    }

    /// The client knows that it is connected: what waited for that happens, then its events.
    pub fn open(self: &Arc<Self>) {
        {
            let mut state = self.state();
            if state.phase != Phase::Connecting {
                return;
            }
            state.phase = Phase::Open;
            state.busy = true;
        }
        run(self.clone().work(None));
    }

    /// A packet with an event has come, with or without attachments.
    pub fn receive(self: &Arc<Self>, text: &Str, has_attachments: bool, ack: Option<i64>) {
        let gateway = &self.gateway;
        let early = gateway.limits.too_early(&self.permit, self.socket_permit.as_ref(), &gateway.services.metrics);
        let text = json::well_formed(text);
        let event = match json::split_event(&text) {
            Ok((name, inside)) => {
                names::check_event(&name).map(|()| Received { args: bracketed(inside), name: name.into_owned(), ack })
            }
            Err(error) => return self.refuse_packet(&error, ack),
        };
        let event = match event {
            Ok(event) => event,
            Err(error) => return self.refuse("", ack, &Refusal::new(Code::Invalid, error.to_string()), "bad_name"),
        };
        if let Some((limit, wait)) = early {
            return self.refuse(&event.name, ack, &too_many(wait), limit);
        }
        if has_attachments {
            // No plugin's event takes them.
            let message = format!("{}: binary attachments are not supported", event.name);
            return self.refuse(&event.name, ack, &Refusal::new(Code::Invalid, message), "binary");
        }
        let now = {
            let mut state = self.state();
            match state.phase {
                Phase::Closing(_) | Phase::Closed => return,
                Phase::Open if !state.busy => {
                    state.busy = true;
                    Some(event)
                }
                _ if state.queue.len() < self.gateway.config.socket_queue => {
                    state.queue.push_back(event);
                    return;
                }
                _ => {
                    drop(state);
                    return self.refuse(&event.name, ack, &too_many(QUEUE_PAUSE), "queue_full");
                }
            }
        };
        run(self.clone().work(now));
    }

    fn refuse_packet(&self, error: &InvalidJson, ack: Option<i64>) {
        let message = match error {
            InvalidJson::Depth => "Nested too deeply",
            _ => "Malformed event",
        };
        self.refuse("", ack, &Refusal::new(Code::Invalid, message), "malformed");
    }

    /// Refuses an event before any plugin saw it.
    fn refuse(&self, event: &str, ack: Option<i64>, refusal: &Refusal, reason: &'static str) {
        if refusal.code != Code::RateLimited {
            self.charge_cpu(REFUSAL_COST);
        }
        self.gateway.services.metrics.events_refused.get_or_create(&crate::telemetry::ReasonLabel { reason }).inc();
        if self.gateway.services.rooms.taps.is_on() {
            self.tapped(event, "", Some(refusal.code), Duration::ZERO, Duration::ZERO);
        }
        self.answer_refusal(event, ack, refusal);
    }

    /// Charges the user for what the host has done.
    pub fn charge_cpu(&self, time: Duration) {
        self.gateway.limits.spent_cpu(&self.permit, self.socket_permit.as_ref(), time);
    }

    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    pub fn answer_refusal(&self, event: &str, ack: Option<i64>, refusal: &Refusal) {
        match ack {
            Some(ack) => self.ack(ack, refusal.as_ack()),
            None => self.send_event("error", &refusal.as_event_args(event)),
        }
    }

    /// Sends the socket an event of the host's own. `args` is the text of an array.
    pub fn send_event(&self, event: &str, args: &str) {
        let inside = args.strip_prefix('[').and_then(|args| args.strip_suffix(']')).unwrap_or_default();
        let text = packet_text(event, inside);
        self.answered.fetch_add(text.len() as u64, Ordering::Relaxed);
        self.adapter.send_to_socket(self.sid, text);
    }

    fn ack(&self, ack: i64, text: String) {
        self.answered.fetch_add(text.len() as u64, Ordering::Relaxed);
        self.adapter.ack(self.sid, ack, text);
    }

    /// The socket has gone. What it sent before still runs; then its plugins hear of it.
    pub fn close(self: &Arc<Self>, cause: DisconnectCause) {
        {
            let mut state = self.state();
            if matches!(state.phase, Phase::Closing(_) | Phase::Closed) {
                return;
            }
            state.phase = Phase::Closing(cause);
            if state.busy {
                return;
            }
            state.busy = true;
        }
        run(self.clone().work(None));
    }

    /// A client that went while it was being let in.
    pub fn connection_lost(self: &Arc<Self>) {
        let phase = self.state().phase;
        if phase == Phase::Connecting {
            self.close(DisconnectCause::VANISHED);
        }
    }
}
