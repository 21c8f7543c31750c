//! How many may come, and how often: the section `[admission]`. It decides and counts; the refusal is its caller's, in the words of
//! its transport.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::limit::Limit;
use crate::descriptors;
use crate::error::{Code, Refusal};
use crate::proxies::Network;
use crate::rate::Flow;

/// `[admission]`: limits on how many clients may connect and how fast. 0 means no limit. With `KEY_dry_run = true` the server
/// counts what is past the limit, and refuses nothing.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Connections of this node, including those that wait for their turn. Past it the client gets HTTP 503 with `Retry-After`.
    /// Metric: `limits_passed`.
    pub connections: u64,
    /// Whether `connections` is a dry run.
    pub connections_dry_run: bool,
    /// File descriptors that clients cannot use: they are kept for health checks, the admin port, storage and other systems. At
    /// most a quarter of the process's limit. Past the rest the client gets HTTP 503. Metric: `limits_passed`.
    pub descriptors_reserved: u64,
    /// Connections of one address (IPv6: one /64). Behind a proxy that is not in `trusted_proxies`, all clients have one address.
    /// Past it the client gets HTTP 429 with `Retry-After`. Metric: `limits_passed`.
    pub address_connections: u64,
    /// Whether `address_connections` is a dry run.
    pub address_connections_dry_run: bool,
    /// Sockets (connections to a namespace) of one user. Past it the client gets the `connect_error` "Too many connections".
    /// Metric: `limits_passed`.
    pub user_sockets: u64,
    /// Whether `user_sockets` is a dry run.
    pub user_sockets_dry_run: bool,
    /// New connections a second, with a burst of the same number. Past it a connection waits for its turn, up to
    /// `gateway.connect_timeout`, and is then answered with HTTP 503. Metric: `connects_waiting`, `limits_passed`.
    pub connects_per_second: u64,
    /// Whether `connects_per_second` is a dry run. In a dry run no connection waits.
    pub connects_per_second_dry_run: bool,
    /// Connections that may wait for their turn; 0 means that none waits. Past it the client gets HTTP 503 with `Retry-After`.
    /// Metric: `limits_passed`.
    pub connect_queue: u64,
    /// Events of one connection a second, in all its namespaces. Past it an event is refused with `rate_limited`. Metric:
    /// `limits_passed`.
    pub connection_events_per_second: u64,
    /// Whether `connection_events_per_second` is a dry run.
    pub connection_events_per_second_dry_run: bool,
    /// Events of one user a second, over all connections. Past it an event is refused with `rate_limited`. Metric:
    /// `limits_passed`.
    pub user_events_per_second: u64,
    /// Whether `user_events_per_second` is a dry run.
    pub user_events_per_second_dry_run: bool,
    /// CPU cores that the calls of one user may use, over all connections; for a visitor, of one connection. At most 1024; the
    /// burst is one second's worth. `auth:refresh` and a refused CONNECT count as 5 ms, an event without a handler as 0.1 ms.
    /// Past it an event is refused with `rate_limited`, and a CONNECT with "Too many attempts". Metric: `limits_passed`.
    pub user_cpu: f64,
    /// Events for one plugin a second. Past it an event is refused with `rate_limited`. Metric: `limits_passed`.
    pub plugin_events_per_second: u64,
    /// Whether `plugin_events_per_second` is a dry run.
    pub plugin_events_per_second_dry_run: bool,
    /// Addresses and networks of proxies whose `X-Forwarded-For` is believed, such as `10.0.0.7` or `10.0.0.0/8`.
    #[schemars(with = "Vec<String>")]
    pub trusted_proxies: Vec<Network>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connections: 100_000,
            connections_dry_run: false,
            descriptors_reserved: descriptors::RESERVED,
            address_connections: 0,
            address_connections_dry_run: false,
            user_sockets: 10_000,
            user_sockets_dry_run: false,
            connects_per_second: 5000,
            connects_per_second_dry_run: false,
            connect_queue: 10_000,
            connection_events_per_second: 50_000,
            connection_events_per_second_dry_run: false,
            user_events_per_second: 0,
            user_events_per_second_dry_run: false,
            user_cpu: 1.0,
            plugin_events_per_second: 0,
            plugin_events_per_second_dry_run: false,
            trusted_proxies: Vec::new(),
        }
    }
}

/// All limits of `[admission]`.
#[derive(Debug, Clone)]
pub struct Limits {
    pub connections: Limit,
    pub address_connections: Limit,
    pub user_sockets: Limit,
    pub connects: Limit,
    /// How long a queue of `admission.connect_queue` takes: turns are booked in order, so that one bounds the other.
    pub longest_wait: Duration,
    pub connection_events: Limit,
    pub user_events: Limit,
    pub plugin_events: Limit,
    /// Nanoseconds of CPU a second.
    pub user_cpu: Option<Flow>,
}

/// What an event costs its user that is refused before a plugin sees it, unless for sending too much.
pub const REFUSAL_COST: Duration = Duration::from_micros(100);

/// What it costs to show a fresh token, or a connection to be refused by a namespace: checking a signature, and room for a guess.
pub const TOKEN_COST: Duration = Duration::from_millis(5);

impl Limits {
    pub fn new(c: &Config) -> Self {
        Self {
            connections: Limit::new("connections", c.connections, c.connections_dry_run),
            address_connections: Limit::new("address_connections", c.address_connections, c.address_connections_dry_run),
            user_sockets: Limit::new("user_sockets", c.user_sockets, c.user_sockets_dry_run),
            connects: Limit::new("connects_per_second", c.connects_per_second, c.connects_per_second_dry_run),
            longest_wait: Duration::from_nanos(c.connect_queue.saturating_mul(1_000_000_000) / c.connects_per_second.max(1)),
            connection_events: Limit::new(
                "connection_events_per_second",
                c.connection_events_per_second,
                c.connection_events_per_second_dry_run,
            ),
            user_events: Limit::new("user_events_per_second", c.user_events_per_second, c.user_events_per_second_dry_run),
            plugin_events: Limit::new("plugin_events_per_second", c.plugin_events_per_second, c.plugin_events_per_second_dry_run),
            // Not a number is no limit.
            user_cpu: Flow::per_second((c.user_cpu.clamp(0.0, 1024.0) * 1e9) as u64),
        }
    }
}

/// When to send again what found a socket's queue full.
pub const QUEUE_PAUSE: Duration = Duration::from_millis(100);

/// The refusal of an event, in the words that clients know.
pub fn too_many(wait: Duration) -> Refusal {
    let wait = u64::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
    Refusal { retry_after_ms: Some(wait), ..Refusal::new(Code::RateLimited, "Too many events") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::rate::Meter;
    use crate::telemetry::Metrics;

    #[test]
    fn a_dry_run_is_counted_and_refuses_nobody() {
        let metrics = Metrics::new();
        let (enforced, dry, off) = (Limit::new("a", 1, false), Limit::new("b", 1, true), Limit::new("c", 0, false));
        let refused = [enforced, dry, off].map(|limit| [limit.refuses(1, &metrics), limit.refuses(2, &metrics)]);
        assert_eq!(refused, [[false, true], [false, false], [false, false]]);
        let meter = Meter::default();
        assert_eq!([dry.take(&meter, &metrics), dry.take(&meter, &metrics)], [Ok(()), Ok(())]);
        let text = metrics.encode().unwrap();
        assert!(text.contains(r#"hubbub_limits_passed_total{limit="a",outcome="refused"} 1"#), "{text}");
        assert!(text.contains(r#"hubbub_limits_passed_total{limit="b",outcome="allowed"} 2"#), "{text}");
    }
}
