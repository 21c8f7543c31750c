//! Closes connections at a drain or at their maximum age: spread over time, and in a way that makes stock clients reconnect. It
//! closes no connection before its turn, and admits none.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Notify;

use super::Gateway;

/// The time between two checks whether all sockets are closed.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// The least and the most time between two batches of a drain. Each batch checks every socket.
const BATCH_INTERVALS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));

/// The least and the most time between two checks of the connections' ages.
const AGE_CHECK_INTERVALS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// One of this many parts of the deadline is reserved for what is closed after the clients.
const CLOSING_PARTS: u32 = 5;

/// `[shutdown]`: how the server stops.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The time over which the connections are closed at a stop, so that clients do not all reconnect at once. Default: `3s`;
    /// `0s` in `dev`.
    #[serde(deserialize_with = "crate::duration::deserialize_some")]
    #[schemars(with = "Option<crate::duration::Text>")]
    pub spread: Option<Duration>,
    /// The longest time from SIGTERM to the end of the process. Clients have four fifths of it. Past it the process ends, even
    /// with clients connected.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub deadline: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { spread: None, deadline: Duration::from_secs(10) }
    }
}

/// Settings that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("shutdown.spread is {spread:?}, which leaves no time before shutdown.deadline: it may be {most:?}")]
pub struct NoTime {
    spread: Duration,
    most: Duration,
}

impl Config {
    pub fn spread(&self) -> Duration {
        self.spread.unwrap_or(Duration::from_secs(3))
    }

    /// The time in which clients must be disconnected.
    pub fn leaving(&self) -> Duration {
        self.deadline - self.deadline / CLOSING_PARTS
    }

    /// # Errors
    /// If `spread` is longer than `leaving`.
    pub fn check(&self) -> Result<(), NoTime> {
        let (spread, most) = (self.spread(), self.leaving());
        if spread > most { Err(NoTime { spread, most }) } else { Ok(()) }
    }
}

/// Whether this node drains. A drain begins once and is never undone.
#[derive(Default)]
pub struct Drain {
    began: OnceLock<Instant>,
    begins: Notify,
}

impl Drain {
    pub fn begin(&self) {
        if self.began.set(Instant::now()).is_ok() {
            tracing::info!("draining: clients are disconnected, and new ones are refused");
            self.begins.notify_one();
        }
    }

    pub fn has_begun(&self) -> bool {
        self.began.get().is_some()
    }
}

impl Gateway {
    /// Resolves when no socket is connected, and the plugins have been notified of every disconnect.
    pub async fn drained(&self) {
        while self.sockets.connections() > 0 || self.sockets.has_disconnecting() {
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    }
}

/// Disconnects all clients once the drain begins.
pub async fn run(gateway: Arc<Gateway>) {
    gateway.drain.begins.notified().await;
    let Some(began) = gateway.drain.began.get() else { return };
    if !gateway.saves_sockets() && gateway.anywhere().is_none() {
        gateway.end_windows(true).await;
    }
    loop {
        for session in gateway.sockets.sessions() {
            // Repeated in each batch, because a connect may have been in progress.
            if began.elapsed() >= gateway.spread.mul_f64(session.socket.connection().spread()) {
                session.end("shutdown");
            }
        }
        tokio::time::sleep((gateway.spread / 50).clamp(BATCH_INTERVALS.0, BATCH_INTERVALS.1)).await;
    }
}

/// Closes connections older than `gateway.max_age` plus up to a tenth, so that clients that connected together do not reconnect
/// together.
pub async fn end_old_connections(gateway: Arc<Gateway>) {
    let most = gateway.config.max_age;
    if most.is_zero() {
        return;
    }
    loop {
        tokio::time::sleep((most / 20).clamp(AGE_CHECK_INTERVALS.0, AGE_CHECK_INTERVALS.1)).await;
        for session in gateway.sockets.sessions() {
            let age = session.permit.born.elapsed();
            if age >= most.mul_f64(1.0 + session.socket.connection().spread() / 10.0) && session.end("max_age") {
                gateway.services.metrics.connections_aged.inc();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_spread_past_the_deadline_is_refused() {
        let config = |spread| Config { spread: Some(Duration::from_secs(spread)), ..Config::default() };
        assert_eq!(config(8).check(), Ok(()));
        assert!(config(9).check().unwrap_err().to_string().contains("shutdown.deadline"));
    }
}
