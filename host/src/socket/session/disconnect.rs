//! The end of a socket: why it has gone, and what is told then. Never waits where socketioxide calls, and never ends anything itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use socketioxide::handler::disconnect::DisconnectHandler;
use socketioxide::socket::{DisconnectReason as Reason, Socket};

use super::Session;
use crate::call::job::Job;
use crate::call::run::call;
use crate::presence::Ended;
use crate::rooms::adapter::Adapter;
use crate::sandbox::exports::DisconnectReason;
use crate::telemetry::ReasonLabel;
use crate::telemetry::traces::Kind;

/// Why a socket has gone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DisconnectCause {
    /// As plugins are told.
    reason: DisconnectReason,
    /// As figures and traces name it.
    label: &'static str,
}

impl DisconnectCause {
    /// The client went while it was being let in.
    pub const VANISHED: Self = Self { reason: DisconnectReason::Transport, label: "vanished" };

    /// Whether the client left on purpose, or may come back.
    fn ended(self) -> Ended {
        match self.reason {
            DisconnectReason::Client => Ended::Clean,
            DisconnectReason::Transport | DisconnectReason::Server => Ended::Broken,
        }
    }
}

impl From<Reason> for DisconnectCause {
    fn from(reason: Reason) -> Self {
        let (reason, label) = match reason {
            Reason::ClientNSDisconnect => (DisconnectReason::Client, "client"),
            // A page that is reloaded closes its transport too, and sends no DISCONNECT.
            Reason::TransportClose => (DisconnectReason::Transport, "transport_close"),
            Reason::ServerNSDisconnect => (DisconnectReason::Server, "server"),
            Reason::ClosingServer => (DisconnectReason::Server, "shutdown"),
            Reason::HeartbeatTimeout => (DisconnectReason::Transport, "heartbeat"),
            Reason::TransportError => (DisconnectReason::Transport, "transport_error"),
            Reason::PacketParsingError => (DisconnectReason::Transport, "bad_packet"),
            Reason::MultipleHttpPollingError => (DisconnectReason::Transport, "two_polls"),
        };
        Self { reason, label }
    }
}

/// Hears that a socket has gone.
pub(crate) struct DisconnectHook(pub(crate) Arc<Session>);

impl DisconnectHandler<Adapter, ()> for DisconnectHook {
    fn call_with_defer(&self, socket: Arc<Socket<Adapter>>, reason: Reason, defer: fn(Arc<Socket<Adapter>>)) {
        // Promptly, or the socket leaks.
        defer(socket);
        let cause = DisconnectCause::from(reason);
        let metrics = &self.0.gateway().services.metrics;
        metrics.disconnects.get_or_create(&ReasonLabel { reason: cause.label }).inc();
        self.0.close(cause);
    }
}

impl Session {
    /// Out of its rooms, its presence on its way out, its plugins told.
    pub(crate) async fn leave(self: Arc<Self>, cause: DisconnectCause) {
        let (gateway, services) = (self.gateway(), &self.gateway().services);
        let _telling = gateway.sockets.begin_disconnect();
        self.adapter.remove(self.id);
        services.presences.disconnected(self.id, cause.ended(), services.clock.steady_ms());
        gateway.sockets.remove(&self);
        gateway.expiring.forget(self.expires_ms.load(Ordering::Acquire), self.id);
        let caller = self.caller.load_full();
        let span = services.tracer.begin(Kind::Server, "disconnect");
        if let Some(span) = &span {
            span.text("hubbub.namespace", &caller.namespace);
            span.text("hubbub.reason", cause.label);
        }
        let plugins = match gateway.registry.routes().namespace(&caller.namespace) {
            Some(route) => route.disconnect.clone(),
            None => return,
        };
        for deployed in plugins {
            let hook = span.as_ref().map(|span| span.child("on-disconnect"));
            let job = Job::Disconnect { caller: &caller, reason: cause.reason };
            // The error has been logged where it arose; there is nobody to tell.
            let _ = call(services, &deployed, job, hook.as_ref()).await;
        }
    }
}
