//! One socket: its events run in the order sent, one at a time, with a bounded queue. It holds no release of a plugin, and no fault
//! of a plugin closes it.

pub mod disconnect;
mod dispatch;
pub mod expiry;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};
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

pub struct Session {
    pub id: SocketId,
    pub sid: Sid,
    pub adapter: Arc<Adapter>,
    /// Replaced when the client sends a fresh token.
    pub caller: ArcSwap<Caller>,
    /// The connection's permit, which sockets of other namespaces may share.
    pub permit: Arc<ConnectionPermit>,
    /// The user's permit. None for a visitor, or if no limit of users is set.
    socket_permit: Option<SocketPermit>,
    /// The issuer of the token.
    pub issuer: Option<Arc<str>>,
    /// When the token expires, by the steady clock. 0 for a visitor.
    pub expires_ms: AtomicU64,
    /// Bytes that the host itself has sent: acks and its own events.
    pub answered: AtomicU64,
    gateway: Arc<Gateway>,
    state: Mutex<State>,
}

/// A socket's permits, and the issuer of its token.
pub struct SocketResources {
    pub permit: Arc<ConnectionPermit>,
    pub socket_permit: Option<SocketPermit>,
    pub issuer: Option<Arc<str>>,
}

struct State {
    phase: Phase,
    /// A task is working on the queue.
    busy: bool,
    queue: VecDeque<Received>,
    /// The ids of the plugins for which `on-connect` has succeeded.
    connected: SmallVec<[u32; 2]>,
    /// Effects of `on-connect` that wait until the client has received the answer to its CONNECT.
    deferred: Vec<Live>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The client has not yet received the answer to its CONNECT.
    Connecting,
    Open,
    /// Disconnected. Events received before still run.
    Closing(DisconnectCause),
    Closed,
}

/// A well-formed event.
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
        resources: SocketResources,
    ) -> Arc<Self> {
        Arc::new(Self {
            id: caller.socket,
            sid,
            adapter,
            caller: ArcSwap::from_pointee(caller),
            permit: resources.permit,
            socket_permit: resources.socket_permit,
            issuer: resources.issuer,
            expires_ms: AtomicU64::new(expires_ms.unwrap_or(0)),
            answered: AtomicU64::new(0),
            gateway,
            state: Mutex::new(State {
                phase: Phase::Connecting,
                busy: false,
                queue: VecDeque::new(),
                connected: SmallVec::new(),
                deferred: Vec::new(),
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Under this lock values are only moved: a panic cannot leave one half done.
        self.state.lock()
    }

    /// Calls `on-connect` of every plugin of the namespace. Writes and joins take effect at once; emits wait for `open`.
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

    /// Calls `on-connect` of one plugin. If it fails, it is called again before the next event for that plugin.
    async fn connect_plugin(&self, deployed: &DeployedPlugin, trace: Option<&Span>) {
        let caller = self.caller.load_full();
        let span = trace.map(|trace| trace.child("on-connect"));
        // The error has been logged already.
        if let Ok(done) =
            call(&self.gateway.services, deployed, Job::Connect { caller: &caller, peer: self.permit.peer }, span.as_ref()).await
        {
            let mut state = self.state();
            state.connected.push(deployed.id);
            state.deferred.extend(done.deferred);
        }
    }

    fn has_connected(&self, deployed: &DeployedPlugin) -> bool {
        self.state().connected.contains(&deployed.id)
    }

    /// The client has received the answer to its CONNECT: applies deferred effects, then handles its events.
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

    /// Handles a received event packet, with or without attachments.
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
            // No plugin handles attachments.
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

    /// Refuses an event before it reaches a plugin.
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

    /// Charges CPU time of the host's own work to the user.
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

    /// Sends one of the host's own events to the socket. `args` is the text of an array.
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

    /// Handles a disconnect. Events received before still run; then plugins are notified.
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

    /// Closes the session of a client that disconnected during its connect.
    pub fn connection_lost(self: &Arc<Self>) {
        let phase = self.state().phase;
        if phase == Phase::Connecting {
            self.close(DisconnectCause::VANISHED);
        }
    }
}
