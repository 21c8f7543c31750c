//! The connect step of a namespace: checks the client, calls the plugins' `on-connect`, and only then confirms the connect.

use std::borrow::Cow;
use std::sync::Arc;

use hubbub_wire::{Accepted, Connect, Refused as WireRefused};

use super::Gateway;
use super::admission::TOKEN_COST;
use super::caller::{door_of, user_record};
use super::permits::SocketPermit;
use super::resume::Resumed;
use super::session::{Session, SocketResources};
use crate::auth::door_policy::{self, Admitted, Presented};
use crate::auth::token::Verified;
use crate::call::error::CallError;
use crate::call::job::Job;
use crate::call::routes::NamespaceRoute;
use crate::call::run::call;
use crate::recovery::request::Request;
use crate::sandbox::exports::Caller;
use crate::telemetry::ReasonLabel;
use crate::telemetry::traces::{Kind, Span};
use crate::transaction::state::name_of;
use crate::{json, names};

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

/// Keeps the namespaces that plugins declare by name: those of now before it returns, and later ones in the future. A namespace of a
/// pattern exists only while it has members.
pub(super) fn keep_namespaces(gateway: Arc<Gateway>) -> impl Future<Output = ()> {
    let mut changes = gateway.registry.changes();
    changes.mark_unchanged();
    let keep = move || {
        let routes = gateway.registry.routes();
        for route in routes.namespaces().filter(|route| route.pattern.is_literal()) {
            gateway.services.rooms.keep(&route.pattern.text);
        }
    };
    keep();
    async move {
        while changes.changed().await.is_ok() {
            keep();
        }
    }
}

impl Gateway {
    /// Decides on a client's connect to a namespace.
    pub(super) async fn admit(self: Arc<Self>, connect: Connect<Self>) -> Result<Accepted<Arc<Session>>, WireRefused> {
        let (permit, socket) = (&connect.connection, &connect.socket);
        if !self.registry.is_known(socket.namespace()) {
            return Err(WireRefused::unknown_namespace());
        }
        let auth = connect.auth.as_deref().map(json::well_formed);
        let services = &self.services;
        let span = services.tracer.begin(Kind::Server, "connect");
        span.iter().for_each(|span| span.text("hubbub.namespace", socket.namespace()));
        let outcome = if self.limits.connects_too_early(permit, &services.metrics) {
            Err(Refused { sentence: Cow::Borrowed("Too many attempts"), reason: "user_cpu" })
        } else {
            self.connect_socket(&connect, auth.as_deref(), span.as_ref()).await
        };
        if let Err(refused) = &outcome {
            self.limits.spent_cpu(permit, None, TOKEN_COST);
            services.metrics.connects_refused.get_or_create(&ReasonLabel { reason: refused.reason }).inc();
        }
        if let Some(span) = &span {
            let reason = outcome.as_ref().err().map(|refused| refused.reason);
            reason.into_iter().for_each(|reason| span.text("hubbub.reason", reason));
            span.outcome(if outcome.is_ok() { "ok" } else { "refused" }, reason == Some(Refused::UNAVAILABLE.reason));
        }
        outcome.map_err(|refused| WireRefused::new(refused.sentence))
    }

    /// Checks a client, and connects its socket to rooms and plugins.
    async fn connect_socket(
        self: &Arc<Self>,
        connect: &Connect<Self>,
        auth: Option<&str>,
        trace: Option<&Span>,
    ) -> Result<Accepted<Arc<Session>>, Refused> {
        let (permit, socket) = (connect.connection.clone(), &connect.socket);
        let path = socket.namespace();
        let route = self.route(path).await.ok_or(Refused::UNAVAILABLE)?;
        let door_span = trace.map(|trace| trace.child("door"));
        let verified = self.check_token(&route, path, permit.authorization.as_deref(), auth).await?;
        drop(door_span);
        let expires = verified.as_ref().map(|verified| self.services.clock.steady_at(verified.expires_at_ms));
        let mut caller = Caller {
            socket: names::next_socket_id(),
            namespace: path.to_owned(),
            user: verified.as_ref().map(|verified| user_record(&verified.user)),
        };
        let request = Request::parse(auth);
        let recovers = permit.takes_offsets && route.recovers && !request.is_off;
        let resources = SocketResources {
            recovers,
            permit,
            socket_permit: self.socket_permit(&caller)?,
            issuer: verified.and_then(|verified| verified.issuer),
        };
        if route.door.authorize {
            self.authorize(&route, &caller, resources.permit.peer, auth, trace).await?;
        }
        let rooms = &self.services.rooms;
        let resumed = if recovers { self.resume(connect, &request, &caller).await } else { None };
        let (session, missed) = match resumed {
            Some(Resumed { away, missed }) => {
                caller.socket = away.id;
                let (adapter, connected) = (away.adapter, Some(away.connected));
                let session = Session::new(self.clone(), socket.clone(), adapter, caller, expires, resources, connected);
                self.sockets.add(&session);
                away.tracks.into_iter().for_each(|track| self.services.track(track));
                (session, missed)
            }
            None => {
                let user = caller.user.as_ref();
                let (id, tenant) = (user.map(|user| user.id.as_str()), user.and_then(|user| user.tenant.as_deref()));
                // Events for it are held by the wire until the client has the answer to its CONNECT.
                let adapter = rooms.add(path, caller.socket, socket.clone(), id, tenant, recovers);
                let session = Session::new(self.clone(), socket.clone(), adapter, caller, expires, resources, None);
                self.sockets.add(&session);
                session.connect_plugins(trace).await;
                (session, Vec::new())
            }
        };
        rooms.settled().await;
        if let Some(at_ms) = expires {
            self.expiring.expect(at_ms, session.id);
        }
        if recovers {
            self.recovery.sessions.connected(socket.private_id(), &session);
            self.begin_anywhere(&session).await;
        }
        Ok(Accepted { data: session, recoverable: recovers, missed })
    }

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
        authorization: Option<&str>,
        auth: Option<&str>,
    ) -> Result<Option<Verified>, Refused> {
        let door = door_of(&route.door);
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
