//! The connect step of a namespace: checks the client, calls the plugins' `on-connect`, and only then confirms the connect. The
//! order matters: socketioxide answers a CONNECT before its connect handler runs, so everything that an early event needs is done
//! in the middleware.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;

use socketioxide::handler::connect::ConnectHandler;
use socketioxide::handler::message::MessageHandler;
use socketioxide::socket::Socket;
use socketioxide_core::Value;

use super::admission::TOKEN_COST;
use super::caller::{door_of, user_record};
use super::permits::{ConnectionPermit, SocketPermit};
use super::session::disconnect::DisconnectHook;
use super::session::{Session, SocketResources};
use super::{Gateway, Io};
use crate::auth::door_policy::{self, Admitted, Presented};
use crate::auth::token::Verified;
use crate::call::error::CallError;
use crate::call::job::Job;
use crate::call::routes::NamespaceRoute;
use crate::call::run::call;
use crate::rooms::adapter::Adapter;
use crate::sandbox::exports::Caller;
use crate::telemetry::ReasonLabel;
use crate::telemetry::traces::{Kind, Span};
use crate::transaction::state::name_of;
use crate::{json, names};

/// Opens the namespaces that plugins declare: those of now before it returns, so that no client connects too early, and later ones in
/// the future. A namespace that no plugin declares any more stays open and refuses every connect.
pub fn open_namespaces(gateway: Arc<Gateway>, io: Io) -> impl Future<Output = ()> {
    let mut changes = gateway.registry.changes();
    let mut opened = HashSet::new();
    changes.mark_unchanged();
    open_new_namespaces(&gateway, &io, &mut opened);
    async move {
        while changes.changed().await.is_ok() {
            open_new_namespaces(&gateway, &io, &mut opened);
        }
    }
}

fn open_new_namespaces(gateway: &Arc<Gateway>, io: &Io, opened: &mut HashSet<Arc<str>>) {
    let patterns: Vec<_> = gateway.registry.routes().namespaces().map(|route| route.pattern.clone()).collect();
    for pattern in patterns {
        if !opened.insert(pattern.text.clone()) {
            continue;
        }
        let door = ConnectHook(gateway.clone());
        if pattern.is_literal() {
            io.ns(pattern.text.to_string(), door);
        } else if let Err(error) = io.dyn_ns(pattern.text.to_string(), door) {
            tracing::error!(namespace = %pattern.text, "the namespace cannot be opened: {error}");
        }
    }
}

/// The connect handler of every namespace.
#[derive(Clone)]
struct ConnectHook(Arc<Gateway>);

type Sentence = Box<dyn Display + Send>;

/// A refused connect.
struct Refused {
    /// The text of the client's `connect_error`.
    sentence: Cow<'static, str>,
    /// The label in metrics and traces.
    reason: &'static str,
}

impl Refused {
    const UNAVAILABLE: Self = Self { sentence: Cow::Borrowed("Service unavailable"), reason: "unavailable" };
}

impl ConnectHandler<Adapter, ()> for ConnectHook {
    fn call_middleware<'a>(
        &'a self,
        socket: Arc<Socket<Adapter>>,
        auth: &'a Option<Value>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Sentence>> + Send + 'a>> {
        Box::pin(async move {
            let auth = auth.as_ref().and_then(|value| value.as_str()).map(|text| json::well_formed(text));
            self.admit(&socket, auth.as_deref()).await.map_err(|refused| Box::new(refused.sentence) as Sentence)
        })
    }

    /// Called after the client has received the answer to its CONNECT.
    fn call(&self, socket: Arc<Socket<Adapter>>, _: Option<Value>) {
        let Some(session) = socket.extensions.get::<Arc<Session>>() else { return };
        self.0.services.metrics.connects.inc();
        if session.adapter.is_replaced() {
            // Its events are not received any more, so it must reconnect.
            super::reaper::end(&self.0, &socket);
            return;
        }
        session.open();
    }
}

impl ConnectHook {
    async fn admit(&self, socket: &Arc<Socket<Adapter>>, auth: Option<&str>) -> Result<(), Refused> {
        let services = &self.0.services;
        let span = services.tracer.begin(Kind::Server, "connect");
        span.iter().for_each(|span| span.text("hubbub.namespace", socket.ns()));
        let permit = socket.req_parts().extensions.get::<Arc<ConnectionPermit>>().cloned().ok_or(Refused::UNAVAILABLE)?;
        let outcome = if self.0.limits.connects_too_early(&permit, &services.metrics) {
            Err(Refused { sentence: Cow::Borrowed("Too many attempts"), reason: "user_cpu" })
        } else {
            self.connect_socket(socket, permit.clone(), auth, span.as_ref()).await
        };
        if let Err(refused) = &outcome {
            self.0.limits.spent_cpu(&permit, None, TOKEN_COST);
            services.metrics.connects_refused.get_or_create(&ReasonLabel { reason: refused.reason }).inc();
        }
        if let Some(span) = &span {
            let reason = outcome.as_ref().err().map(|refused| refused.reason);
            reason.into_iter().for_each(|reason| span.text("hubbub.reason", reason));
            span.outcome(if outcome.is_ok() { "ok" } else { "refused" }, reason == Some(Refused::UNAVAILABLE.reason));
        }
        outcome
    }

    /// Checks a client, and connects its socket to plugins and rooms.
    async fn connect_socket(
        &self,
        socket: &Arc<Socket<Adapter>>,
        permit: Arc<ConnectionPermit>,
        auth: Option<&str>,
        trace: Option<&Span>,
    ) -> Result<(), Refused> {
        let gateway = &self.0;
        let path = socket.ns();
        let route = gateway.route(path).await.ok_or(Refused::UNAVAILABLE)?;
        let door_span = trace.map(|trace| trace.child("door"));
        let verified = gateway.check_token(&route, path, socket, auth).await?;
        drop(door_span);
        let expires = verified.as_ref().map(|verified| gateway.services.clock.steady_at(verified.expires_at_ms));
        let caller = Caller {
            socket: names::next_socket_id(),
            namespace: path.to_owned(),
            user: verified.as_ref().map(|verified| user_record(&verified.user)),
        };
        let resources = SocketResources {
            permit,
            socket_permit: gateway.socket_permit(&caller)?,
            issuer: verified.and_then(|verified| verified.issuer),
        };
        if route.door.authorize {
            gateway.authorize(&route, &caller, resources.permit.peer, auth, trace).await?;
        }
        let Some(adapter) = gateway.services.rooms.namespace(path) else { return Err(Refused::UNAVAILABLE) };
        let session = Session::new(gateway.clone(), socket.id, adapter.clone(), caller, expires, resources);
        let events = EventHandler(session.clone());
        gateway.sockets.add(&session);
        let caller = session.caller.load_full();
        let user = caller.user.as_ref();
        let tenant = user.and_then(|user| user.tenant.as_deref());
        adapter.add(session.id, socket.id, user.map(|user| user.id.as_str()), tenant);
        session.connect_plugins(trace).await;
        gateway.services.rooms.settled().await;
        if let Some(at_ms) = expires {
            gateway.expiring.expect(at_ms, session.id);
        }
        socket.extensions.insert(session.clone());
        socket.on_fallback(events);
        socket.on_disconnect(DisconnectHook(session));
        Ok(())
    }
}

impl Gateway {
    /// The namespace's route. Waits while the plugin that owns it is being replaced.
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

    /// Checks the token against the namespace's door policy. A refusal has the policy's sentence.
    async fn check_token(
        &self,
        route: &NamespaceRoute,
        path: &str,
        socket: &Socket<Adapter>,
        auth: Option<&str>,
    ) -> Result<Option<Verified>, Refused> {
        let door = door_of(&route.door);
        let authorization = socket.req_parts().headers.get(http::header::AUTHORIZATION);
        let authorization = authorization.and_then(|header| header.to_str().ok());
        let keyring = self.keyring.get();
        let checked = match Presented::find(auth, authorization) {
            Presented::None => None,
            Presented::Malformed => Some(Err(crate::auth::token::TokenError::Malformed("auth is no object with a text token"))),
            Presented::Token(token) => Some(keyring.authenticate(&token, path, &self.services.clock).await),
        };
        match door.admit(checked, keyring.claim_names()) {
            Ok(Admitted::Visitor) => Ok(None),
            Ok(Admitted::User(verified)) => Ok(Some(verified)),
            Err(refused) => {
                tracing::debug!(namespace = path, "a client was refused: {}", refused.cause);
                Err(Refused { sentence: refused.sentence.to_owned().into(), reason: refused.cause.reason() })
            }
        }
    }

    /// Calls `authorize` of the plugin that owns the namespace.
    async fn authorize(
        &self,
        route: &NamespaceRoute,
        caller: &Caller,
        peer: Option<u64>,
        auth: Option<&str>,
        trace: Option<&Span>,
    ) -> Result<(), Refused> {
        let auth = door_policy::without_token(auth);
        let caller = Arc::new(caller.clone());
        let span = trace.map(|trace| trace.child("authorize"));
        let job = Job::Authorize { caller: &caller, auth: &auth, peer };
        match call(&self.services, &route.owner, job, span.as_ref()).await {
            Ok(_) => Ok(()),
            Err(CallError::Refused(refusal)) => Err(Refused { sentence: refusal.message, reason: "authorize" }),
            Err(_) => Err(Refused::UNAVAILABLE),
        }
    }

    /// The permit for one more socket of a user. Visitors have none.
    fn socket_permit(&self, caller: &Caller) -> Result<Option<SocketPermit>, Refused> {
        let Some(user) = &caller.user else { return Ok(None) };
        if self.limits.user_sockets.is_off() && self.limits.user_events.is_off() && self.limits.user_cpu.is_none() {
            return Ok(None);
        }
        match self.permits.admit_socket(&name_of(user), &self.limits, &self.services.metrics) {
            Some(socket_permit) => Ok(Some(socket_permit)),
            None => Err(Refused { sentence: Cow::Borrowed("Too many connections"), reason: "user_sockets" }),
        }
    }
}

/// Receives a socket's events. If the client disconnects during its connect, socketioxide calls no handler but drops this one,
/// which then closes the session.
struct EventHandler(Arc<Session>);

impl MessageHandler<Adapter, ()> for EventHandler {
    fn call(&self, _: Arc<Socket<Adapter>>, value: Value, ack: Option<i64>) {
        // engineioxide's parser makes no other value.
        if let Value::Str(text, attachments) = value {
            self.0.receive(&text, attachments.is_some(), ack);
        }
    }
}

impl Drop for EventHandler {
    fn drop(&mut self) {
        // Without a runtime the process is ending.
        if tokio::runtime::Handle::try_current().is_ok() {
            self.0.connection_lost();
        }
    }
}
