//! One socket: its events run in the order sent, one at a time, with a bounded queue. It holds no release of a plugin, and no fault
//! of a plugin closes it.

pub mod disconnect;
mod dispatch;
pub mod expiry;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwap;
use hubbub_wire::{Event, Outgoing, Reason, Socket};
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

use super::Gateway;
use super::admission::{QUEUE_PAUSE, REFUSAL_COST, too_many};
use super::permits::{ConnectionPermit, SocketPermit};
use crate::call::deployed_plugin::DeployedPlugin;
use crate::call::job::Job;
use crate::call::run::call;
use crate::error::{Code, Refusal};
use crate::json;
use crate::names::{self, SocketId};
use crate::rooms::adapter::Adapter;
use crate::sandbox::exports::Caller;
use crate::telemetry::ReasonLabel;
use crate::telemetry::traces::Span;
use crate::transaction::effects::Live;
use disconnect::DisconnectCause;
use dispatch::{bracketed, run};

pub struct Session {
    pub id: SocketId,
    pub socket: Socket,
    pub adapter: Arc<Adapter>,
    /// Replaced when the client sends a fresh token.
    pub caller: ArcSwap<Caller>,
    /// The connection's permit, which sockets of other namespaces may share.
    pub permit: Arc<ConnectionPermit>,
    /// The user's permit. None for a visitor, or if no limit of users is set.
    socket_permit: Option<SocketPermit>,
    /// The issuer of the token.
    pub issuer: Option<Arc<str>>,
    /// Whether its client may come back when the connection has ended.
    recovers: bool,
    /// Whether its client has come back to it.
    is_back: bool,
    /// When the token expires, by the steady clock. 0 for a visitor.
    pub expires_ms: AtomicU64,
    gateway: Arc<Gateway>,
    state: Mutex<State>,
}

/// A socket's permits, the issuer of its token, and whether its client may come back.
pub struct SocketResources {
    pub permit: Arc<ConnectionPermit>,
    pub socket_permit: Option<SocketPermit>,
    pub issuer: Option<Arc<str>>,
    pub recovers: bool,
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
    ack: Option<u64>,
}

enum Next {
    Event(Received),
    Leave(DisconnectCause),
    Nothing,
}

impl Session {
    pub fn new(
        gateway: Arc<Gateway>,
        socket: Socket,
        adapter: Arc<Adapter>,
        caller: Caller,
        expires_ms: Option<u64>,
        resources: SocketResources,
        // The plugins of a socket whose client has come back.
        connected: Option<SmallVec<[u32; 2]>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id: caller.socket,
            socket,
            adapter,
            caller: ArcSwap::from_pointee(caller),
            permit: resources.permit,
            socket_permit: resources.socket_permit,
            issuer: resources.issuer,
            recovers: resources.recovers,
            is_back: connected.is_some(),
            expires_ms: AtomicU64::new(expires_ms.unwrap_or(0)),
            gateway,
            state: Mutex::new(State {
                phase: Phase::Connecting,
                busy: false,
                queue: VecDeque::new(),
                connected: connected.unwrap_or_default(),
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

    /// Whether its client has the answer to its CONNECT.
    pub fn is_open(&self) -> bool {
        self.state().phase != Phase::Connecting
    }

    /// Whether its client has come back to it.
    pub fn is_back(&self) -> bool {
        self.is_back
    }

    /// The ids of the plugins for which `on-connect` has succeeded.
    pub fn connected_plugins(&self) -> SmallVec<[u32; 2]> {
        self.state().connected.clone()
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

    /// Handles a received event.
    pub fn receive(self: &Arc<Self>, event: &Event<'_>) {
        let gateway = &self.gateway;
        let early = gateway.limits.too_early(&self.permit, self.socket_permit.as_ref(), &gateway.services.metrics);
        let (name, ack) = (&*event.name, event.ack);
        if let Err(error) = names::check_event(name) {
            return self.refuse("", ack, &Refusal::new(Code::Invalid, error.to_string()), "bad_name");
        }
        let args = bracketed(&json::well_formed(event.args));
        if json::depth(&args).is_err() {
            return self.refuse(name, ack, &Refusal::new(Code::Invalid, "Nested too deeply"), "malformed");
        }
        if let Some((limit, wait)) = early {
            return self.refuse(name, ack, &too_many(wait), limit);
        }
        if event.is_binary {
            // No plugin handles attachments.
            let message = format!("{name}: binary attachments are not supported");
            return self.refuse(name, ack, &Refusal::new(Code::Invalid, message), "binary");
        }
        let event = Received { name: name.to_owned(), args, ack };
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

    /// Refuses an event before it reaches a plugin.
    fn refuse(&self, event: &str, ack: Option<u64>, refusal: &Refusal, reason: &'static str) {
        if refusal.code != Code::RateLimited {
            self.charge_cpu(REFUSAL_COST);
        }
        self.gateway.services.metrics.events_refused.get_or_create(&ReasonLabel { reason }).inc();
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

    pub fn answer_refusal(&self, event: &str, ack: Option<u64>, refusal: &Refusal) {
        match ack {
            Some(ack) => self.ack(ack, &refusal.as_ack()),
            None => self.send_event("error", &refusal.as_event_args(event)),
        }
    }

    /// Sends one of the host's own events to the socket. `args` is JSON without the array's brackets.
    pub fn send_event(&self, event: &str, args: &str) {
        let event = Outgoing { namespace: self.socket.namespace(), name: event, args, ..Outgoing::default() };
        self.socket.send(&event.encode());
    }

    /// Answers an event. `args` is JSON without the array's brackets.
    pub fn ack(&self, ack: u64, args: &str) {
        self.socket.ack(ack, args);
    }

    /// Closes the connection, with the sockets of its other namespaces. A stock client reconnects. Returns false if it had ended
    /// before.
    pub fn end(&self, label: &'static str) -> bool {
        self.socket.connection().close(label)
    }

    /// The socket has ended.
    pub fn disconnected(self: &Arc<Self>, reason: Reason) {
        let is_open = self.state().phase == Phase::Open;
        if !is_open {
            return self.close(DisconnectCause::vanished(self.is_back));
        }
        let cause = DisconnectCause::from(reason);
        let metrics = &self.gateway.services.metrics;
        metrics.disconnects.get_or_create(&ReasonLabel { reason: cause.label }).inc();
        self.close(cause);
    }

    /// Handles a disconnect. Events received before still run; then plugins are notified.
    fn close(self: &Arc<Self>, cause: DisconnectCause) {
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
}
