//! Accepts connections. Past a port's limits and the clients' share of file descriptors, only checks such as `/health` are served, and
//! other requests get 503. Accept errors are counted and logged, and must never cause a busy loop.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use axum::response::IntoResponse as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::http1::{self, Port};
use crate::descriptors::Share;
use crate::socket::open::NotAdmitted;
use crate::socket::tcp_permits::Full;
use crate::telemetry::{LimitLabels, ListenerLabel, Often};

/// The first and the longest pause after an error. It doubles with each consecutive error.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// The time limit of a connection past a port's limits.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// The label of file descriptors in `limits_passed`.
const DESCRIPTORS: &str = "descriptors";

/// A listener of a port.
pub struct Acceptor {
    pub listener: TcpListener,
    pub port: Arc<Port>,
}

/// Events that are logged at most once a minute.
#[derive(Default)]
struct LogLimits {
    descriptors: Often,
    full: Often,
    address: Often,
    failed: Often,
}

impl Acceptor {
    /// Accepts until the handle is aborted. Accepted connections stay open.
    pub fn start(self, tasks: &mut JoinSet<()>) -> AbortHandle {
        tasks.spawn(self.run())
    }

    async fn run(self) {
        let (log_limits, mut checks, mut pause) = (LogLimits::default(), CheckConnections::default(), PAUSES.0);
        loop {
            match self.listener.accept().await {
                Ok((io, address)) => {
                    pause = PAUSES.0;
                    self.take(io, address, &mut checks, &log_limits);
                }
                Err(error) => {
                    self.count(&error, &log_limits);
                    // An error of one connection removes it from the queue. Any other error would repeat at once.
                    if !is_of_the_connection(&error) {
                        sleep(pause).await;
                        pause = (pause * 2).min(PAUSES.1);
                    }
                }
            }
        }
    }

    fn take(&self, io: TcpStream, address: SocketAddr, checks: &mut CheckConnections, log_limits: &LogLimits) {
        // It fails if the connection has ended, which the first read reports.
        let _ = io.set_nodelay(true);
        let port = &self.port;
        let share = port.descriptors.share(io.as_raw_fd());
        let has_room = share == Share::Clients || (share == Share::Checks && !port.has_clients);
        match port.tcp_permits.take(address.ip()) {
            Ok(tcp_permit) if has_room => {
                tokio::spawn(http1::serve(port.clone(), io, address, tcp_permit));
                return;
            }
            Ok(_) => self.refuse_for_descriptors(log_limits),
            Err(Full::Address) => {
                if let Some(refused) = log_limits.address.happened() {
                    let (listener, address) = (port.name, address.ip());
                    tracing::warn!(listener, refused, %address, "connections are closed: an address has reached gateway.address_tcp_connections");
                }
                return;
            }
            Err(Full::Port) => {
                if let Some(refused) = log_limits.full.happened() {
                    tracing::warn!(
                        listener = port.name,
                        refused,
                        "new connections are refused: the port has reached {}",
                        port.tcp_permits.key()
                    );
                }
            }
        }
        if share != Share::Own {
            let connection = http1::check(port.clone(), io, address);
            let task = tokio::spawn(async move { drop(timeout(CHECK_TIMEOUT, connection).await) });
            checks.add(task.abort_handle(), port.descriptors.answered_at_once());
        }
    }

    /// Counts and logs a connection past the clients' share of file descriptors.
    fn refuse_for_descriptors(&self, log_limits: &LogLimits) {
        let port = &self.port;
        port.metrics.limits_passed.get_or_create(&LimitLabels { limit: DESCRIPTORS, outcome: "refused" }).inc();
        if let Some(refused) = log_limits.descriptors.happened() {
            tracing::warn!(
                listener = port.name,
                refused,
                limit = port.descriptors.limit,
                "new connections are refused: all file descriptors except admission.descriptors_reserved are in use"
            );
        }
    }

    fn count(&self, error: &io::Error, log_limits: &LogLimits) {
        let listener = self.port.name;
        self.port.metrics.accept_errors.get_or_create(&ListenerLabel { listener }).inc();
        if let Some(errors) = log_limits.failed.happened() {
            tracing::error!(listener, errors, "connections could not be accepted: {error}");
        }
    }
}

/// The answer past a limit to requests that are no checks.
pub async fn refused() -> axum::response::Response {
    NotAdmitted::Full.into_response()
}

fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Connections past a limit. If there are too many, the oldest is closed, because its request should have been answered by then.
#[derive(Default)]
struct CheckConnections(VecDeque<AbortHandle>);

impl CheckConnections {
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
    async fn the_oldest_connection_past_a_limit_is_closed() {
        let mut checks = CheckConnections::default();
        let tasks: Vec<_> = (0..3).map(|_| tokio::spawn(std::future::pending::<()>())).collect();
        for task in &tasks {
            checks.add(task.abort_handle(), 2);
        }
        let mut tasks = tasks.into_iter();
        let oldest = tasks.next().expect("there are three").await;
        assert!(oldest.is_err_and(|error| error.is_cancelled()));
        assert!(tasks.all(|task| !task.is_finished()));
    }
}
