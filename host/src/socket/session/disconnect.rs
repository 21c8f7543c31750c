//! A socket's disconnect: its reason, and the calls that follow it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hubbub_wire::Reason;

use super::Session;
use crate::call::job::Job;
use crate::call::run::call;
use crate::presence::Ended;
use crate::sandbox::exports::DisconnectReason;
use crate::telemetry::traces::Kind;

/// Why a socket disconnected.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DisconnectCause {
    /// The reason that plugins receive.
    reason: DisconnectReason,
    /// The label in metrics and traces.
    pub(super) label: &'static str,
}

impl DisconnectCause {
    /// The client disconnected during its connect.
    pub const VANISHED: Self = Self { reason: DisconnectReason::Transport, label: "vanished" };

    /// Whether the client disconnected on purpose, or may reconnect.
    fn ended(self) -> Ended {
        match self.reason {
            DisconnectReason::Client => Ended::Clean,
            DisconnectReason::Transport | DisconnectReason::Server => Ended::Broken,
        }
    }
}

impl From<Reason> for DisconnectCause {
    fn from(reason: Reason) -> Self {
        let label = reason.label();
        let reason = match reason {
            Reason::ClientDisconnect => DisconnectReason::Client,
            // A page that is reloaded closes its transport too, and sends no DISCONNECT.
            Reason::TransportClose | Reason::TransportError | Reason::PingTimeout => DisconnectReason::Transport,
            // The client has broken the protocol or a limit of it.
            Reason::BadPacket(_) | Reason::Limit(_) => DisconnectReason::Transport,
            Reason::ServerDisconnect | Reason::SlowConsumer(_) | Reason::Closed(_) => DisconnectReason::Server,
        };
        Self { reason, label }
    }
}

impl Session {
    /// Removes the socket from rooms and presence, and notifies its plugins.
    pub(crate) async fn leave(self: Arc<Self>, cause: DisconnectCause) {
        let (gateway, services) = (self.gateway(), &self.gateway().services);
        let _telling = gateway.sockets.begin_disconnect();
        services.rooms.remove(&self.adapter, self.id);
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
            // The error has been logged already, and there is no client to answer.
            let _ = call(services, &deployed, job, hook.as_ref()).await;
        }
    }
}
