//! Serves HTTP/1.1 on one accepted connection, until it ends or becomes a websocket. Connections that are idle, or slow with a head, a
//! body or an answer, are closed, counted and logged. It must never depend on a route.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::ConnectInfo;
use axum::response::Response;
use http::{HeaderValue, Request, StatusCode, header};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service as _;

use super::body::{Pace, TimedBody};
use super::guard::Guard;
use super::watch::{Connection, Exchange, Watch};
use crate::descriptors::Descriptors;
use crate::socket::open::Peer;
use crate::socket::tcp_permits::{TcpPermit, TcpPermits};
use crate::telemetry::{Metrics, Often, ReasonLabel};

/// The time limits, as metrics and log name them.
const LATE: [&str; 5] = ["connect_timeout", "http_idle", "head_timeout", "body_timeout", "write_timeout"];

/// One port: the state that its listeners and connections share.
pub struct Port {
    /// `public` or `admin`, as metrics and log name it.
    pub name: &'static str,
    pub routes: Router,
    /// Routes for connections past the port's limits.
    pub checks: Router,
    /// Whether it may not use the reserved file descriptors.
    pub has_clients: bool,
    pub guard: Guard,
    pub tcp_permits: Arc<TcpPermits>,
    pub descriptors: Descriptors,
    pub waits: Waits,
    pub metrics: Arc<Metrics>,
    pub log_limits: LogLimits,
}

/// The time limits of a client.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// For the first byte.
    pub first: Duration,
    /// From the first byte of a request's head to its last.
    pub head: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// Between two bytes of an answer that the client reads.
    pub write: Duration,
    /// For the whole body of a request.
    pub body: Pace,
}

/// Connections closed at each limit, logged at most once a minute.
#[derive(Default)]
pub struct LogLimits([Often; LATE.len()]);

impl Port {
    fn closed(&self, reason: &'static str) {
        self.metrics.http_closed.get_or_create(&ReasonLabel { reason }).inc();
        let often = LATE.iter().position(|limit| *limit == reason).and_then(|at| self.log_limits.0.get(at));
        if let Some(closed) = often.and_then(Often::happened) {
            tracing::info!(
                listener = self.name,
                closed,
                "connections are closed: their clients took longer than gateway.{reason}"
            );
        }
    }

    /// Answers a request unless the guard refuses it. The routes get the client's address.
    async fn answer(&self, mut routes: Router, address: SocketAddr, mut request: Request<Incoming>) -> Response {
        if let Some(refused) = self.guard.refuse(&request) {
            return refused;
        }
        request.extensions_mut().insert(ConnectInfo(Peer(address)));
        if request.body().is_end_stream() {
            return infallible(routes.call(request).await);
        }
        let late = Arc::new(AtomicBool::new(false));
        let request = request.map(|body| TimedBody::new(body, self.waits.body, late.clone()));
        let answer = infallible(routes.call(request).await);
        if !late.load(Ordering::Relaxed) {
            return answer;
        }
        self.closed("body_timeout");
        let detail = "the body was not sent in time";
        let mut answer = (self.guard.answer)(StatusCode::REQUEST_TIMEOUT, "The request took too long", detail);
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        answer
    }
}

fn infallible(answer: Result<Response<Body>, Infallible>) -> Response<Body> {
    match answer {
        Ok(answer) => answer,
        Err(never) => match never {},
    }
}

/// Serves one connection until it ends or becomes a websocket.
pub async fn serve(port: Arc<Port>, io: TcpStream, address: SocketAddr, tcp_permit: TcpPermit) {
    let waits = port.waits;
    if timeout(waits.first, io.peek(&mut [0])).await.is_err() {
        port.closed("connect_timeout");
        return;
    }
    let exchange = Arc::new(Exchange::default());
    let watch = Watch::new(exchange.clone(), waits.head, waits.write);
    let service = {
        let (port, exchange) = (port.clone(), exchange.clone());
        service_fn(move |request| {
            let (port, exchange) = (port.clone(), exchange.clone());
            exchange.begin();
            async move {
                let answer = port.answer(port.routes.clone(), address, request).await;
                exchange.end(answer.status() == StatusCode::SWITCHING_PROTOCOLS);
                Ok::<_, Infallible>(answer)
            }
        })
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(waits.idle)
        .serve_connection(TokioIo::new(Connection::new(io, Some(watch), Some(tcp_permit))), service)
        .with_upgrades();
    // Protocol errors and disconnects of clients are normal.
    let Err(error) = connection.await else { return };
    match exchange.late() {
        Some(limit) => port.closed(limit),
        None if error.is_timeout() => port.closed("http_idle"),
        None => {}
    }
}

/// Serves one request on a connection past a limit.
pub async fn check(port: Arc<Port>, io: TcpStream, address: SocketAddr) {
    let service = service_fn(move |request| {
        let port = port.clone();
        async move { Ok::<_, Infallible>(port.answer(port.checks.clone(), address, request).await) }
    });
    let io = TokioIo::new(Connection::new(io, None, None));
    // Disconnects of clients are normal.
    drop(http1::Builder::new().keep_alive(false).serve_connection(io, service).await);
}
