//! A socket's disconnect: its reason, and the calls that follow it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hubbub_wire::Reason;

use super::{Gateway, Session};
use crate::call::job::Job;
use crate::call::run::call;
use crate::presence::Ended;
use crate::sandbox::exports::{Caller, DisconnectReason};
use crate::socket::resume::anywhere::Anywhere;
use crate::socket::resume::sessions::Away;
use crate::telemetry::traces::Kind;

/// Why a socket disconnected.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DisconnectCause {
    /// The reason that plugins receive.
    reason: DisconnectReason,
    /// The label in metrics and traces.
    pub(super) label: &'static str,
    comes_back: bool,
}

impl DisconnectCause {
    /// The client disconnected during its connect. It `comes_back` if it knew the socket before.
    pub fn vanished(comes_back: bool) -> Self {
        Self { reason: DisconnectReason::Transport, label: "vanished", comes_back }
    }

    /// The cause of a socket that was away at a stop.
    pub(in crate::socket) fn restored(reason: DisconnectReason) -> Self {
        Self { reason, label: "restart", comes_back: true }
    }

    /// The reason that plugins receive.
    pub(in crate::socket) fn reason(self) -> DisconnectReason {
        self.reason
    }

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
        // Not after a DISCONNECT of either side, nor after an error of the client.
        let comes_back = matches!(
            reason,
            Reason::TransportClose | Reason::TransportError | Reason::PingTimeout | Reason::SlowConsumer(_) | Reason::Closed(_)
        );
        let reason = match reason {
            Reason::ClientDisconnect => DisconnectReason::Client,
            // A page that is reloaded closes its transport too, and sends no DISCONNECT.
            Reason::TransportClose | Reason::TransportError | Reason::PingTimeout => DisconnectReason::Transport,
            // The client has broken the protocol or a limit of it.
            Reason::BadPacket(_) | Reason::Limit(_) => DisconnectReason::Transport,
            Reason::ServerDisconnect | Reason::SlowConsumer(_) | Reason::Closed(_) => DisconnectReason::Server,
        };
        Self { reason, label, comes_back }
    }
}

impl Session {
    /// Removes the socket from rooms and presence, and notifies its plugins.
    pub(crate) async fn leave(self: Arc<Self>, cause: DisconnectCause) {
        let (gateway, services) = (self.gateway(), &self.gateway().services);
        let _telling = gateway.sockets.begin_disconnect();
        let keeps = gateway.saves_sockets() || gateway.anywhere().is_some() || !gateway.drain.has_begun();
        let is_away = self.recovers && cause.comes_back && keeps;
        let tracks = if is_away { services.presences.tracks_of(self.id) } else { Vec::new() };
        if is_away && let Some(Anywhere { sockets, .. }) = gateway.anywhere() {
            // Before it leaves its rooms, so that no move of its user falls between.
            sockets.away(self.id, gateway.names_of(&self.connected_plugins()));
        }
        services.rooms.remove(&self.adapter, self.id, is_away);
        services.presences.disconnected(self.id, cause.ended(), services.clock.steady_ms());
        gateway.sockets.remove(&self);
        gateway.expiring.forget(self.expires_ms.load(Ordering::Acquire), self.id);
        let caller = self.caller.load_full();
        if is_away {
            let until_ms = services.clock.steady_ms() + crate::duration::millis(gateway.recovery.config.window);
            let away = Box::new(Away {
                id: self.id,
                public: self.socket.id(),
                private: self.socket.private_id(),
                caller,
                connected: std::mem::take(&mut self.state().connected),
                adapter: self.adapter.clone(),
                tracks,
                cause,
            });
            if let Some(excess) = gateway.recovery.sessions.away(away, until_ms, gateway.recovery.config.sockets) {
                gateway.end_away(*excess).await;
            }
            return;
        }
        if self.recovers {
            gateway.recovery.sessions.forget(self.socket.private_id());
            if let Some(Anywhere { sockets, .. }) = gateway.anywhere() {
                sockets.forget(self.id, true);
            }
        }
        notify_plugins(gateway, &caller, cause).await;
    }
}

/// Calls `on-disconnect` of the plugins of a namespace.
pub(in crate::socket) async fn notify_plugins(gateway: &Gateway, caller: &Arc<Caller>, cause: DisconnectCause) {
    let services = &gateway.services;
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
        let job = Job::Disconnect { caller, reason: cause.reason };
        // The error has been logged already, and there is no client to answer.
        let _ = call(services, &deployed, job, hook.as_ref()).await;
    }
}
