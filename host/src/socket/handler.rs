//! The handler of the wire: a new connection, the connect to a namespace, events, and the ends of sockets and connections.

use std::sync::Arc;

use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use hubbub_wire::{Accepted, Connect, Event, Handler, Limit, Notice, QueueLimit, Reason, Refused, Socket};

use super::Gateway;
use super::permits::ConnectionPermit;
use super::session::Session;
use crate::telemetry::ReasonLabel;

impl Handler for Gateway {
    type Connection = Arc<ConnectionPermit>;
    type Socket = Arc<Session>;

    async fn open(self: Arc<Self>, request: Parts) -> Result<Arc<ConnectionPermit>, Response> {
        let permit = match self.connection_permit(&request) {
            Ok(permit) => self.wait_for_turn().await.map(|()| permit),
            Err(refused) => Err(refused),
        };
        permit.map_err(|refused| {
            tracing::debug!("a connection was refused: {refused}");
            refused.into_response()
        })
    }

    async fn connect(self: Arc<Self>, connect: Connect<Self>) -> Result<Accepted<Arc<Session>>, Refused> {
        self.admit(connect).await
    }

    fn connected(&self, _: &Socket, session: &Arc<Session>) {
        self.services.metrics.connects.inc();
        session.open();
    }

    fn event(&self, _: &Socket, session: &Arc<Session>, event: Event<'_>) {
        session.receive(&event);
    }

    fn disconnected(&self, _: &Socket, session: Arc<Session>, reason: Reason) {
        session.disconnected(reason);
    }

    fn closed(&self, _: Arc<ConnectionPermit>, reason: Reason) {
        let metrics = &self.services.metrics;
        match reason {
            Reason::SlowConsumer(limit) => {
                metrics.slow_consumer(match limit {
                    QueueLimit::Packets => "queue",
                    QueueLimit::Bytes => "bytes",
                });
                if let Some(clients) = self.slow_consumers.happened() {
                    tracing::info!(clients, "clients are disconnected: they do not read what they are sent (slow_consumer)");
                }
            }
            // It has no socket whose disconnect is counted.
            Reason::Limit(limit @ Limit::ConnectTimeout) => {
                metrics.http_closed.get_or_create(&ReasonLabel { reason: limit.label() }).inc();
            }
            _ => {}
        }
    }

    fn notice(&self, notice: Notice) {
        if let Notice::UpgradeFailed(error) = notice {
            self.services.metrics.upgrade_failed(error.label());
        }
    }
}
