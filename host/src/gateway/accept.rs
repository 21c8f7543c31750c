//! Accepts connections and serves HTTP on them. Past the clients' share of file descriptors only health checks are served, and all
//! else is answered with 503. Accept errors are counted and logged, and never cause a busy loop.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::ConnectInfo;
use axum::response::IntoResponse as _;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tower_service::Service as _;

use super::descriptors::{Descriptors, Share};
use super::entrance::{Peer, TurnedAway};
use super::transport::Connection;
use crate::telemetry::{LimitLabels, ListenerLabel, Metrics, Often, ReasonLabel};

/// The pause after an error, at first and at most. It doubles with each error in a row.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// How long a connection past the clients' share may last.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

/// As it is counted in `limits_passed`.
const DESCRIPTORS: &str = "descriptors";

/// One listening port, and what it needs.
pub struct Acceptor {
    /// `public` or `admin`, as metrics and log name it.
    pub name: &'static str,
    pub listener: TcpListener,
    pub routes: Router,
    /// Routes that are served past the clients' share of descriptors. None for a port without clients.
    pub checks: Option<Router>,
    pub descriptors: Descriptors,
    pub waits: Waits,
    pub metrics: Arc<Metrics>,
}

/// How long HTTP waits.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// For the first byte.
    pub first: Duration,
    /// For the whole head of a request, also of the next one.
    pub head: Duration,
}

/// Events that are logged at most once a minute.
#[derive(Default)]
struct Told {
    refused: Often,
    failed: Often,
}

impl Acceptor {
    /// Accepts until the handle is aborted. Accepted connections go on.
    pub fn start(mut self, tasks: &mut JoinSet<()>) -> AbortHandle {
        // Done once here, or axum does it at every request.
        self.routes = self.routes.with_state(());
        self.checks = self.checks.map(|checks| checks.with_state(()));
        tasks.spawn(self.run())
    }

    async fn run(self) {
        let (told, mut answering, mut pause) = (Told::default(), Answering::default(), PAUSES.0);
        loop {
            match self.listener.accept().await {
                Ok((io, address)) => {
                    pause = PAUSES.0;
                    self.take(io, address, &mut answering, &told);
                }
                Err(error) => {
                    self.count(&error, &told);
                    // An error of one connection removes that connection from the queue. Any other error would repeat at once.
                    if !is_of_the_connection(&error) {
                        sleep(pause).await;
                        pause = (pause * 2).min(PAUSES.1);
                    }
                }
            }
        }
    }

    fn take(&self, io: TcpStream, address: SocketAddr, answering: &mut Answering, told: &Told) {
        // This fails if the connection has ended already; the first read finds that out.
        let _ = io.set_nodelay(true);
        match (self.descriptors.share(io.as_raw_fd()), &self.checks) {
            (Share::Clients, _) | (Share::Checks, None) => {
                tokio::spawn(serve(io, address, self.routes.clone(), self.waits, self.metrics.clone()));
            }
            (Share::Checks, Some(checks)) => {
                self.refuse(told);
                let connection = http1::Builder::new()
                    .keep_alive(false)
                    .serve_connection(TokioIo::new(Connection::new(io)), service_fn(answers(address, checks.clone())));
                let task = tokio::spawn(async move { drop(timeout(ANSWERED_WITHIN, connection).await) });
                answering.add(task.abort_handle(), self.descriptors.answered_at_once());
            }
            (Share::Own, _) => self.refuse(told),
        }
    }

    /// Counts and logs a connection past the clients' share.
    fn refuse(&self, told: &Told) {
        self.metrics.limits_passed.get_or_create(&LimitLabels { limit: DESCRIPTORS, outcome: "refused" }).inc();
        if let Some(refused) = told.refused.happened() {
            tracing::warn!(
                listener = self.name,
                refused,
                limit = self.descriptors.limit,
                "new connections are refused: all file descriptors are in use but those of door.descriptors_reserved"
            );
        }
    }

    fn count(&self, error: &io::Error, told: &Told) {
        self.metrics.accept_errors.get_or_create(&ListenerLabel { listener: self.name }).inc();
        if let Some(errors) = told.failed.happened() {
            tracing::error!(listener = self.name, errors, "connections could not be accepted: {error}");
        }
    }
}

/// The answer past the clients' share to all but health checks.
pub async fn refused() -> axum::response::Response {
    TurnedAway::Full.into_response()
}

fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Serves one connection to its end, or until a websocket takes it over.
async fn serve(io: TcpStream, address: SocketAddr, routes: Router, waits: Waits, metrics: Arc<Metrics>) {
    let closed = |reason| metrics.http_closed.get_or_create(&ReasonLabel { reason }).inc();
    if timeout(waits.first, io.peek(&mut [0])).await.is_err() {
        closed("connect_timeout");
        return;
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(waits.head)
        .serve_connection(TokioIo::new(Connection::new(io)), service_fn(answers(address, routes)))
        .with_upgrades();
    // Protocol errors and disconnects of clients are normal.
    if connection.await.is_err_and(|error| error.is_timeout()) {
        closed("http_idle");
    }
}

/// Answers requests by routes, with the client's address.
fn answers(address: SocketAddr, routes: Router) -> impl Fn(Request<Incoming>) -> axum::routing::future::RouteFuture<Infallible> {
    move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(Peer(address)));
        routes.clone().call(request)
    }
}

/// Connections past the clients' share. If there are too many, the oldest is closed: a request would have been answered by then.
#[derive(Default)]
struct Answering(VecDeque<AbortHandle>);

impl Answering {
    fn add(&mut self, task: AbortHandle, most: usize) {
        self.0.retain(|task| !task.is_finished());
        if self.0.len() >= most
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.abort();
        }
        self.0.push_back(task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_connection_past_the_share_gives_way() {
        let mut answering = Answering::default();
        let tasks: Vec<_> = (0..3).map(|_| tokio::spawn(std::future::pending::<()>())).collect();
        for task in &tasks {
            answering.add(task.abort_handle(), 2);
        }
        let mut tasks = tasks.into_iter();
        let oldest = tasks.next().expect("there are three").await;
        assert!(oldest.is_err_and(|error| error.is_cancelled()));
        assert!(tasks.all(|task| !task.is_finished()));
    }
}
