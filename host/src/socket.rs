//! Clients' connections: transports, the check at connect, sockets and their events. It calls plugins through `call`, and never
//! depends on which release handles a call.

pub mod admission;
pub mod caller;
mod connect;
pub mod drain;
mod handler;
pub mod limit;
pub mod open;
pub mod pace;
pub mod permits;
pub mod resume;
pub mod session;
pub mod sockets;
pub mod tcp_permits;
mod trim;

use std::sync::Arc;
use std::time::Duration;

use hubbub_wire::Takeover;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::auth::logins::Logins;
use crate::bus::Bus;
use crate::call::registry::Registry;
use crate::proxies::Network;
use crate::telemetry::Often;
use crate::transaction::services::Services;
use admission::Limits;
use drain::Drain;
use permits::Permits;
use resume::Recovery;
use sockets::Sockets;

/// `[gateway]`: connections of clients.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bytes of a client's packet. Past it the connection is closed, as the protocol defines.
    pub max_payload: u64,
    /// Packets that may wait to be sent to one client, which is not read from while half as many wait. Past it the client is
    /// disconnected. Metric: `slow_consumers`.
    pub client_queue: usize,
    /// Bytes that may wait to be sent to one client that does not read or poll; 0 means no limit. The client is not read from
    /// while half as many wait. Past it the client is disconnected. Metric: `slow_consumers`.
    pub client_bytes: u64,
    /// Events of one socket that may wait for their turn. Past it an event is refused with `rate_limited`. Metric:
    /// `events_refused`.
    pub socket_queue: usize,
    /// Rooms that plugins may join one socket to. Past it the call is refused with `too_large`, and has no effect. Metric:
    /// `joins_refused`.
    pub socket_rooms: usize,
    /// The time between two pings of the server to a client.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub ping_interval: Duration,
    /// How long a client may take to answer a ping. Past it the connection is closed.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub ping_timeout: Duration,
    /// Names of the public port in the `Host` header of requests: `app.example.com`, `*.example.com` for all names under it, `*`
    /// for all. A request with another name is answered with HTTP 421. Addresses and `localhost` are always allowed. Default: all
    /// names in `serve`, no other name in `dev`.
    pub hosts: Option<Vec<String>>,
    /// TCP connections of the public port, websockets included; 0 means no limit. Past it only health checks are answered, and
    /// every other request with HTTP 503. Metric: `limits_passed`.
    pub tcp_connections: u64,
    /// TCP connections of one address (IPv6: one /64) to each port; 0 means no limit. It does not hold for loopback and
    /// `admission.trusted_proxies`. Past it a connection is closed before it is read. Metric: `limits_passed`.
    pub address_tcp_connections: u64,
    /// How long a connection may be open without a namespace, and a TCP connection without a first byte. Past it the connection
    /// is closed. Metric: `http_connections_closed`.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub connect_timeout: Duration,
    /// How long the head of a request may take, from its first byte to its last. Past it the connection is closed. Metric:
    /// `http_connections_closed`.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub head_timeout: Duration,
    /// How long the body of a request may take. Past it the request is answered with HTTP 408, and the connection is closed.
    /// Metric: `http_connections_closed`.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub body_timeout: Duration,
    /// Bytes of a body that give it one more second; 0 means that none do.
    pub body_rate: u64,
    /// How long a client may read nothing of an answer. Past it the connection is closed. Metric: `http_connections_closed`.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub write_timeout: Duration,
    /// How long an HTTP connection may wait for its next request. It must be longer than the idle timeout of a load balancer.
    /// Past it the connection is closed. Metric: `http_connections_closed`.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub http_idle: Duration,
    /// How long an upgrade from polling to websocket may take. Past it the websocket is closed, and the client goes on polling.
    /// Metric: `upgrades_failed`.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub upgrade_timeout: Duration,
    /// How long a connect waits while its plugin is replaced; a stock client does not retry a refused connect. Past it the client
    /// gets the `connect_error` "Service unavailable". Metric: `socket_connects_refused`.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub connect_wait: Duration,
    /// How long a socket stays after its token has expired, so that the client can send a new one. Past it the connection is
    /// closed, and a stock client reconnects with the token that its `auth` gives then. Metric: `connections_expired`.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub expiry_grace: Duration,
    /// The longest time that a connection lasts, plus up to a tenth; `0s` means no limit. Past it the connection is closed, and a
    /// stock client reconnects. Metric: `connections_aged`.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub max_age: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            max_payload: 100_000,
            client_queue: 512,
            client_bytes: 4 << 20,
            socket_queue: 64,
            socket_rooms: 64,
            ping_interval: seconds(25),
            ping_timeout: seconds(20),
            hosts: None,
            tcp_connections: 200_000,
            address_tcp_connections: 0,
            connect_timeout: seconds(10),
            head_timeout: seconds(10),
            body_timeout: seconds(20),
            body_rate: 16 << 10,
            write_timeout: seconds(60),
            http_idle: seconds(75),
            upgrade_timeout: seconds(10),
            connect_wait: seconds(5),
            expiry_grace: seconds(5),
            max_age: Duration::ZERO,
        }
    }
}

/// The state that all parts of the gateway share.
pub struct Gateway {
    pub services: Arc<Services>,
    pub registry: Arc<Registry>,
    pub bus: Arc<Bus>,
    pub keyring: crate::auth::keyring::Current,
    pub operators: Arc<Logins>,
    pub backends: Arc<Logins>,
    pub sockets: Sockets,
    pub expiring: session::expiry::Expiring,
    pub permits: Arc<Permits>,
    pub limits: Limits,
    pub trusted_proxies: Vec<Network>,
    pub drain: Drain,
    /// The time over which a drain spreads the disconnects.
    pub spread: Duration,
    pub slow_consumers: Often,
    pub recovery: Recovery,
    pub config: Config,
}

/// The Socket.IO service, to serve on `/socket.io/`.
pub type Wire = hubbub_wire::Wire<Gateway>;

/// Events that a client may send to a namespace before its connect is answered. A stock client sends none.
const EARLY_EVENTS: usize = 64;

/// How long a connection that is closed may take to receive what is queued for it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Builds the Socket.IO service. `takeover` takes a websocket out of hyper.
pub fn wire(gateway: &Arc<Gateway>, takeover: Takeover) -> Wire {
    let config = &gateway.config;
    let max_payload = usize::try_from(config.max_payload).unwrap_or(usize::MAX);
    let wire = hubbub_wire::Config {
        ping_interval: config.ping_interval,
        ping_timeout: config.ping_timeout,
        max_payload,
        connect_timeout: config.connect_timeout,
        upgrade_timeout: config.upgrade_timeout,
        queue_packets: config.client_queue,
        queue_bytes: usize::try_from(config.client_bytes).ok().filter(|bytes| *bytes > 0).unwrap_or(usize::MAX),
        // The port limits it, and answers in its own form.
        body_timeout: Duration::MAX,
        attachment_bytes: max_payload,
        early_events: EARLY_EVENTS,
        close_timeout: CLOSE_TIMEOUT,
        ..hubbub_wire::Config::default()
    };
    Wire::with_takeover(gateway.clone(), wire, takeover)
}

/// Starts the tasks that run beside the sockets. They end when the set is dropped.
pub fn start(gateway: &Arc<Gateway>) -> tokio::task::JoinSet<()> {
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(connect::keep_namespaces(gateway.clone()));
    tasks.spawn(session::expiry::run(gateway.clone()));
    tasks.spawn(drain::end_old_connections(gateway.clone()));
    tasks.spawn(drain::run(gateway.clone()));
    tasks.spawn(resume::run(gateway.clone()));
    tasks.spawn(resume::anywhere::run(gateway.clone()));
    tasks.spawn(resume::anywhere::end_windows(gateway.clone()));
    tasks.spawn(resume::sweep(gateway.clone()));
    tasks.spawn(trim::trim_memory(gateway.clone()));
    tasks
}
