//! Connections that must leave, at a drain or at their age: spread over time, and in a way that makes stock clients come again. It
//! never hurries anyone whose turn has not come, and lets nobody in.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::body::Body;
use hyper::service::Service as _;
use schemars::JsonSchema;
use serde::Deserialize;
use socketioxide_core::Sid;
use tokio::sync::{Notify, mpsc};

use super::permits::ConnectionPermit;
use super::{Gateway, Service};

/// Between two looks at who is still here.
const LOOK: Duration = Duration::from_millis(10);

/// Between two batches of a drain, at least and at most: each looks at every socket.
const BATCHES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));

/// Between two looks at ages, at least and at most.
const AGES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// The part of the deadline that is left for closing what clients do not see.
const CLOSING: u32 = 5;

/// Polling connections that may wait to be ended. Those past it are told again at the next look.
pub const POLLING_ENDS: usize = 1024;

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

/// Settings that do not fit each other.
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

    /// How long clients have to leave.
    pub fn leaving(&self) -> Duration {
        self.deadline - self.deadline / CLOSING
    }

    /// # Errors
    /// Where the last clients would be asked to leave after the time to do so.
    pub fn check(&self) -> Result<(), NoTime> {
        let (spread, most) = (self.spread(), self.leaving());
        if spread > most { Err(NoTime { spread, most }) } else { Ok(()) }
    }
}

/// Whether this node sends its clients away. It does so once, and for good.
#[derive(Default)]
pub struct Drain {
    began: OnceLock<Instant>,
    begins: Notify,
}

impl Drain {
    pub fn begin(&self) {
        if self.began.set(Instant::now()).is_ok() {
            tracing::info!("draining: clients are sent away, and none is let in");
            self.begins.notify_one();
        }
    }

    pub fn has_begun(&self) -> bool {
        self.began.get().is_some()
    }
}

impl Gateway {
    /// Ends a connection by its transport, so that a stock client comes again. Answers whether this was the first to do so.
    pub fn end(&self, sid: Sid, permit: &ConnectionPermit) -> bool {
        let first = permit.closer.close();
        if permit.polls {
            // Where there is no room, whoever wants it gone looks again.
            let _ = self.polling_ends.try_send(sid);
        }
        first
    }

    /// Resolves when nobody is here, and the plugins have been told of everyone who was.
    pub async fn drained(&self) {
        while self.sockets.connections() > 0 || self.sockets.has_disconnecting() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Sends everyone away, once the drain begins.
pub async fn run(gateway: Arc<Gateway>) {
    gateway.drain.begins.notified().await;
    let Some(began) = gateway.drain.began.get() else { return };
    loop {
        for session in gateway.sockets.sessions() {
            // Again each time: a handshake may have been under way.
            if began.elapsed() >= gateway.spread.mul_f64(share(session.sid)) {
                gateway.end(session.sid, &session.permit);
            }
        }
        tokio::time::sleep((gateway.spread / 50).clamp(BATCHES.0, BATCHES.1)).await;
    }
}

/// Ends connections of `gateway.max_age`. Each lives up to a tenth longer, so that those that came together do not leave together.
pub async fn end_old_connections(gateway: Arc<Gateway>) {
    let most = gateway.config.max_age;
    if most.is_zero() {
        return;
    }
    loop {
        tokio::time::sleep((most / 20).clamp(AGES.0, AGES.1)).await;
        for session in gateway.sockets.sessions() {
            let age = session.permit.born.elapsed();
            if age >= most.mul_f64(1.0 + share(session.sid) / 10.0) && gateway.end(session.sid, &session.permit) {
                gateway.services.metrics.connections_aged.inc();
            }
        }
    }
}

/// Where a connection stands among all, from 0 to 1: the engine's numbers are random.
fn share(sid: Sid) -> f64 {
    let mut hasher = DefaultHasher::new();
    sid.hash(&mut hasher);
    hasher.finish() as f64 / u64::MAX as f64
}

/// Ends polling connections by the one way that the engine offers: the packet by which a client takes its leave. One that a
/// websocket has taken over meanwhile is left as it is.
pub async fn end_polling(service: Service, mut ends: mpsc::Receiver<Sid>) {
    while let Some(sid) = ends.recv().await {
        let uri = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
        if let Ok(request) = http::Request::post(uri).body(Body::from("1")) {
            // One that has gone meanwhile is no news.
            let _ = service.call(request).await;
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

    #[test]
    fn connections_leave_all_over_the_spread() {
        let mut tenths = [0; 10];
        for _ in 0..1000 {
            tenths[(share(Sid::new()) * 10.0) as usize % 10] += 1;
        }
        assert!(tenths.iter().all(|count| (50..=150).contains(count)), "{tenths:?}");
    }
}
