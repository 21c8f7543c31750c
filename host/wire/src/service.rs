//! The HTTP service: checks requests in the same order as Node's server, opens connections and finds sessions.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use http::{Method, Request, StatusCode};

use crate::config::Config;
use crate::handler::Handler;
use crate::id::SessionId;
use crate::io::{self, Takeover};
use crate::link::Link;
use crate::polling::{self, Session, get, post};
use crate::query::Query;
use crate::reader::Reader;
use crate::respond::{self, Refusal};
use crate::shared::{Entry, Sessions, Shared};
use crate::socket::Connection;
use crate::upgrade;

/// A Socket.IO server as a tower service, to be routed at a path such as `/socket.io/`. Clones share their connections.
pub struct Wire<H: Handler>(Arc<Shared<H>>);

impl<H: Handler> Clone for Wire<H> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<H: Handler> Wire<H> {
    /// A server for this handler.
    pub fn new(handler: Arc<H>, config: Config) -> Self {
        Self::with_takeover(handler, config, io::plain)
    }

    /// A server for hyper connections that are not `TokioIo<TcpStream>`.
    pub fn with_takeover(handler: Arc<H>, config: Config, takeover: Takeover) -> Self {
        Self(Arc::new(Shared { handler, config: Arc::new(config), sessions: Sessions::default(), takeover }))
    }

    /// All connections that are open now.
    pub fn connections(&self) -> Vec<Connection> {
        self.0.sessions.links().into_iter().filter(|link| !link.has_ended()).map(Connection).collect()
    }

    /// The number of connections, including those that are being closed.
    pub fn len(&self) -> usize {
        self.0.sessions.len()
    }

    /// Whether there is no connection, not even one that is being closed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Answers a request. If it is dropped before the answer, the session of the request ends.
    pub async fn handle(&self, request: Request<Body>) -> Response {
        let asks_upgrade = upgrade::is_asked(&request);
        let query = request.uri().query().unwrap_or_default().to_owned();
        let query = Query::parse(&query);
        match self.check(&query, request.method(), asks_upgrade) {
            Err(refusal) if asks_upgrade => refusal.as_text(),
            Err(refusal) => refusal.as_json(),
            Ok(entry) if asks_upgrade => self.websocket(entry, request).await,
            Ok(None) => self.open(request).await,
            Ok(Some(Entry::Polling(session))) => {
                let (parts, body) = request.into_parts();
                match parts.method {
                    Method::GET => get::serve(&session).await,
                    Method::POST => post::serve(&session, &*self.0.handler, &parts.headers, body).await,
                    _ => respond::empty(StatusCode::INTERNAL_SERVER_ERROR),
                }
            }
            Ok(Some(Entry::Websocket(_))) => Refusal::BadRequest.as_json(),
        }
    }

    /// The session of a request; None if it opens a connection. The checks have the same order as in Node's server.
    fn check(&self, query: &Query<'_>, method: &Method, asks_upgrade: bool) -> Result<Option<Entry<H>>, Refusal> {
        let is_websocket = match query.transport.as_deref() {
            Some("websocket") => true,
            Some("polling") => false,
            _ => return Err(Refusal::UnknownTransport),
        };
        if query.wants_jsonp {
            return Err(Refusal::Jsonp);
        }
        let is_version = query.version.as_deref() == Some("4");
        if let Some(id) = &query.session {
            let entry = SessionId::parse(id).and_then(|id| self.0.sessions.get(id)).ok_or(Refusal::UnknownSession)?;
            let is_its_transport = is_websocket == matches!(entry, Entry::Websocket(_));
            let is_allowed = if asks_upgrade { is_websocket } else { is_its_transport };
            return if is_allowed && is_version { Ok(Some(entry)) } else { Err(Refusal::BadRequest) };
        }
        if *method != Method::GET {
            return Err(Refusal::BadMethod);
        }
        if is_websocket != asks_upgrade {
            return Err(Refusal::BadRequest);
        }
        if is_version { Ok(None) } else { Err(Refusal::UnknownVersion) }
    }

    /// Opens a polling session.
    async fn open(&self, request: Request<Body>) -> Response {
        let shared = &self.0;
        let data = match shared.handler.clone().open(request.into_parts().0).await {
            Ok(data) => data,
            Err(refused) => return refused,
        };
        let id = SessionId::random();
        let link = Link::polling(id, shared.config.clone());
        let session = Session::new(Reader::new(shared.clone(), link, data));
        shared.sessions.insert(id, Entry::Polling(session.clone()));
        tokio::spawn(polling::run(session));
        respond::packets(Body::from(handshake(id, &shared.config, true)))
    }

    /// Opens a websocket, for a new connection or for an upgrade.
    async fn websocket(&self, entry: Option<Entry<H>>, mut request: Request<Body>) -> Response {
        let answer = match upgrade::answer(&request) {
            Ok(answer) => answer,
            Err(refused) => return refused.answer(),
        };
        let upgrading = hyper::upgrade::on(&mut request);
        let shared = self.0.clone();
        match entry {
            None => {
                let data = match shared.handler.clone().open(request.into_parts().0).await {
                    Ok(data) => data,
                    Err(refused) => return refused,
                };
                tokio::spawn(upgrade::open(shared, upgrading, data));
            }
            Some(Entry::Polling(session)) => match upgrade::Attempt::begin(session) {
                Some(attempt) => drop(tokio::spawn(upgrade::attempt(shared, upgrading, attempt))),
                // Another upgrade is under way.
                None => drop(tokio::spawn(upgrade::refuse(shared, upgrading))),
            },
            Some(Entry::Websocket(_)) => drop(tokio::spawn(upgrade::refuse(shared, upgrading))),
        }
        answer
    }
}

/// The engine's first packet.
pub(crate) fn handshake(id: SessionId, config: &Config, polls: bool) -> String {
    let upgrades = if polls && config.upgrades { r#"["websocket"]"# } else { "[]" };
    let (interval, timeout) = (config.ping_interval.as_millis(), config.ping_timeout.as_millis());
    let payload = config.max_payload;
    format!(r#"0{{"sid":"{id}","upgrades":{upgrades},"pingInterval":{interval},"pingTimeout":{timeout},"maxPayload":{payload}}}"#)
}

impl<H: Handler> tower_service::Service<Request<Body>> for Wire<H> {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let wire = self.clone();
        Box::pin(async move { Ok(wire.handle(request).await) })
    }
}
