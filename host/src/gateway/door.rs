//! The door of a namespace: checks who comes, lets plugins meet the socket, and only then tells the client that it is in. The
//! order matters: socketioxide answers a CONNECT before its connect handler runs, so everything that an early event needs is
//! done in the middleware.

use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;

use socketioxide::handler::connect::ConnectHandler;
use socketioxide::handler::disconnect::DisconnectHandler;
use socketioxide::handler::message::MessageHandler;
use socketioxide::socket::{DisconnectReason as Reason, Socket};
use socketioxide_core::Value;

use super::admission::{self, Admitted, Presented};
use super::crowd::{Seat, Ticket};
use super::session::{Place, Session};
use super::token::{User, Verified};
use super::{Gateway, Io};
use crate::cluster::adapter::Adapter;
use crate::names;
use crate::release::instance::{CallError, Job, call};
use crate::release::registry::NamespaceRoute;
use crate::sandbox::exports::{self, Caller, DisconnectReason};
use crate::sandbox::imports::types;
use crate::telemetry::ReasonLabel;

/// Opens the namespaces that plugins describe, and those that come later. One that no plugin describes any more stays, and lets
/// nobody in.
pub async fn open_namespaces(gateway: Arc<Gateway>, io: Io) {
    let mut changes = gateway.registry.changes();
    let mut opened = std::collections::HashSet::new();
    loop {
        changes.mark_unchanged();
        let patterns: Vec<_> = gateway.registry.routes().namespaces().map(|route| route.pattern.clone()).collect();
        for pattern in patterns {
            if !opened.insert(pattern.text.clone()) {
                continue;
            }
            let door = Door(gateway.clone());
            if pattern.is_literal() {
                io.ns(pattern.text.to_string(), door);
            } else if let Err(error) = io.dyn_ns(pattern.text.to_string(), door) {
                tracing::error!(namespace = %pattern.text, "the namespace cannot be opened: {error}");
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Lets sockets into any namespace.
#[derive(Clone)]
struct Door(Arc<Gateway>);

type Refused = Box<dyn Display + Send>;

impl ConnectHandler<Adapter, ()> for Door {
    fn call_middleware<'a>(
        &'a self,
        socket: Arc<Socket<Adapter>>,
        auth: &'a Option<Value>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Refused>> + Send + 'a>> {
        Box::pin(async move {
            let auth = auth.as_ref().and_then(|value| value.as_str()).map(|text| text.as_str());
            self.let_in(&socket, auth).await.map_err(|sentence| Box::new(sentence) as Refused)
        })
    }

    /// The client has been told that it is in.
    fn call(&self, socket: Arc<Socket<Adapter>>, _: Option<Value>) {
        let Some(session) = socket.extensions.get::<Arc<Session>>() else { return };
        self.0.services.metrics.connects.inc();
        if session.adapter.is_replaced() {
            // Nobody hears what it sends: it must come again.
            super::sweep::end(&self.0, &socket);
            return;
        }
        session.open();
    }
}

impl Door {
    async fn let_in(&self, socket: &Arc<Socket<Adapter>>, auth: Option<&str>) -> Result<(), String> {
        let gateway = &self.0;
        let path = socket.ns();
        let route = gateway.route(path).await.ok_or("Service unavailable")?;
        let verified = gateway.admit(&route, path, socket, auth).await?;
        let expires = verified.as_ref().map(|verified| verified.expires_at_ms);
        let caller = Caller {
            socket: names::next_socket_id(),
            namespace: path.to_owned(),
            user: verified.map(|verified| user_record(&verified.user)),
        };
        let ticket = socket.req_parts().extensions.get::<Arc<Ticket>>().cloned().ok_or("Service unavailable")?;
        let place = Place { ticket, seat: gateway.seat(&caller)? };
        if route.door.authorize {
            gateway.authorize(&route, &caller, auth).await?;
        }
        let Some(adapter) = gateway.services.rooms.namespace(path) else { return Err("Service unavailable".into()) };
        let session = Session::new(gateway.clone(), socket.id, adapter.clone(), caller, expires, place);
        let guest = Guest(session.clone());
        gateway.sockets.add(&session);
        let caller = session.caller.load_full();
        let user = caller.user.as_ref();
        let tenant = user.and_then(|user| user.tenant.as_deref());
        adapter.add(session.id, socket.id, user.map(|user| user.id.as_str()), tenant);
        session.meet_all().await;
        gateway.services.rooms.settled().await;
        if let Some(at_ms) = expires {
            gateway.expiring.expect(at_ms, session.id);
        }
        socket.extensions.insert(session.clone());
        socket.on_fallback(guest);
        socket.on_disconnect(Farewell(session));
        Ok(())
    }
}

impl Gateway {
    /// The namespace's route. Waits while its owner is being replaced.
    async fn route(&self, path: &str) -> Option<Arc<NamespaceRoute>> {
        let find = || self.registry.routes().namespace(path).filter(|route| route.owner.live().is_some()).cloned();
        if let Some(found) = find() {
            return Some(found);
        }
        let mut changes = self.registry.changes();
        let wait = async {
            loop {
                if let Some(found) = find() {
                    return Some(found);
                }
                changes.changed().await.ok()?;
            }
        };
        tokio::time::timeout(self.config.connect_wait, wait).await.ok().flatten()
    }

    /// Checks the token at the namespace's door. The error is the door's sentence.
    async fn admit(
        &self,
        route: &NamespaceRoute,
        path: &str,
        socket: &Socket<Adapter>,
        auth: Option<&str>,
    ) -> Result<Option<Verified>, String> {
        let door = door_of(&route.door);
        let authorization = socket.req_parts().headers.get(http::header::AUTHORIZATION);
        let authorization = authorization.and_then(|header| header.to_str().ok());
        let checked = match Presented::find(auth, authorization) {
            Presented::None => None,
            Presented::Malformed => Some(Err(super::token::TokenError::Malformed("auth is no object with a text token"))),
            Presented::Token(token) => Some(self.keyring.authenticate(&token, path, &self.services.clock).await),
        };
        match door.admit(checked, self.keyring.claim_names()) {
            Ok(Admitted::Visitor) => Ok(None),
            Ok(Admitted::User(verified)) => Ok(Some(verified)),
            Err(refused) => {
                self.count_refused(refused.cause.reason());
                tracing::debug!(namespace = path, "a client was refused: {}", refused.cause);
                Err(refused.sentence.to_owned())
            }
        }
    }

    /// The owner's own check, where its door asks for it.
    async fn authorize(&self, route: &NamespaceRoute, caller: &Caller, auth: Option<&str>) -> Result<(), String> {
        let auth = admission::without_token(auth);
        let caller = Arc::new(caller.clone());
        match call(&self.services, &route.owner, Job::Authorize { caller: &caller, auth: &auth }).await {
            Ok(_) => Ok(()),
            Err(CallError::Refused(refusal)) => {
                self.count_refused("authorize");
                Err(refusal.message.into_owned())
            }
            Err(_) => {
                self.count_refused("unavailable");
                Err("Service unavailable".into())
            }
        }
    }

    /// A user's place for one more socket. Visitors are nobody in particular.
    fn seat(&self, caller: &Caller) -> Result<Option<Seat>, String> {
        let Some(user) = &caller.user else { return Ok(None) };
        if self.limits.user_sockets.is_off() && self.limits.user_events.is_off() {
            return Ok(None);
        }
        let user = names::scoped(user.tenant.as_deref(), &user.id);
        match self.crowd.sit(&user, &self.limits, &self.services.metrics) {
            Some(seat) => Ok(Some(seat)),
            None => {
                self.count_refused("user_sockets");
                Err("Too many connections".into())
            }
        }
    }

    fn count_refused(&self, reason: &'static str) {
        self.services.metrics.connects_refused.get_or_create(&ReasonLabel { reason }).inc();
    }
}

/// A door as `admission` knows it.
pub fn door_of(door: &exports::Door) -> admission::Door {
    admission::Door {
        token: match door.token {
            exports::TokenPolicy::Optional => admission::TokenPolicy::Optional,
            exports::TokenPolicy::Required => admission::TokenPolicy::Required,
        },
        claims: door.claims.clone(),
        roles: door.roles.clone(),
        missing: door.missing.clone(),
        invalid: door.invalid.clone(),
        forbidden: door.forbidden.clone(),
    }
}

/// A user as plugins see it.
pub fn user_record(user: &User) -> types::User {
    let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
    types::User {
        id: user.id.to_string(),
        name: text(&user.name),
        email: text(&user.email),
        image: text(&user.image),
        role: text(&user.role),
        tenant: text(&user.tenant),
        claims: user.claims.to_string(),
    }
}

/// Takes a socket's events. Where a client vanishes while it is let in, socketioxide calls nobody: it drops this, which does.
struct Guest(Arc<Session>);

impl MessageHandler<Adapter, ()> for Guest {
    fn call(&self, _: Arc<Socket<Adapter>>, value: Value, ack: Option<i64>) {
        match value {
            Value::Str(text, None) => self.0.receive(&text, ack),
            _ => self.0.receive_binary(ack),
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Outside a runtime the process is ending, and nobody is left to be told.
        if tokio::runtime::Handle::try_current().is_ok() {
            self.0.vanished();
        }
    }
}

/// Hears that a socket has gone.
struct Farewell(Arc<Session>);

impl DisconnectHandler<Adapter, ()> for Farewell {
    fn call_with_defer(&self, socket: Arc<Socket<Adapter>>, reason: Reason, defer: fn(Arc<Socket<Adapter>>)) {
        // Promptly, or the socket leaks.
        defer(socket);
        let (reason, label) = match reason {
            Reason::ClientNSDisconnect => (DisconnectReason::Client, "client"),
            Reason::TransportClose => (DisconnectReason::Client, "transport_close"),
            Reason::ServerNSDisconnect => (DisconnectReason::Server, "server"),
            Reason::ClosingServer => (DisconnectReason::Server, "shutdown"),
            Reason::HeartbeatTimeout => (DisconnectReason::Transport, "heartbeat"),
            Reason::TransportError => (DisconnectReason::Transport, "transport_error"),
            Reason::PacketParsingError => (DisconnectReason::Transport, "bad_packet"),
            Reason::MultipleHttpPollingError => (DisconnectReason::Transport, "two_polls"),
        };
        let metrics = &self.0.gateway().services.metrics;
        metrics.disconnects.get_or_create(&ReasonLabel { reason: label }).inc();
        self.0.close(reason);
    }
}
