//! Where clients come in: transports, doors, sockets and their events. It calls plugins through `release`, and never knows which
//! version answers.

pub mod admission;
pub mod caller;
pub mod connect;
pub mod drain;
pub mod limit;
pub mod pace;
pub mod permits;
pub mod reaper;
pub mod session;
pub mod slow_consumers;
pub mod sockets;
pub mod tcp_permits;
pub mod transport;

use std::sync::Arc;
use std::time::Duration;

use engineioxide::service::NotFoundService;
use schemars::JsonSchema;
use serde::Deserialize;
use socketioxide::SocketIo;
use socketioxide::service::SocketIoService;
use socketioxide_core::Sid;
use tokio::sync::mpsc;

use crate::auth::logins::Logins;
use crate::bus::Bus;
use crate::call::registry::Registry;
use crate::proxies::Network;
pub use crate::rooms::Full as FullMembers;
use crate::rooms::adapter::Adapter;
use crate::transaction::services::Services;
use admission::Limits;
use drain::Drain;
use permits::Permits;
use sockets::Sockets;

/// `[gateway]`: connections of clients.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bytes of a client's packet. Past it the connection is closed, as the protocol defines.
    pub max_payload: u64,
    /// Packets that may wait to be sent to one client. Past it the client is disconnected. Metric: `slow_consumers`.
    pub client_queue: usize,
    /// Bytes that may wait to be sent to one client that does not read or poll; 0 means no limit. Past it the client is
    /// disconnected, at the next check (every 100 ms). Metric: `slow_consumers`.
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
    /// How long an empty namespace of a pattern, such as `/course/42`, is kept.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub namespace_idle: Duration,
    /// Namespaces of patterns such as `/course/{id}`. Past it those that have been empty the longest are removed.
    pub max_namespaces: usize,
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
            namespace_idle: seconds(60),
            max_namespaces: 10_000,
            expiry_grace: seconds(5),
            max_age: Duration::ZERO,
        }
    }
}

/// What every part of the gateway works on.
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
    /// Over how long a drain sends clients away.
    pub spread: Duration,
    /// Polling connections to end.
    pub polling_ends: mpsc::Sender<Sid>,
    pub config: Config,
}

/// socketioxide, with our adapter.
pub type Io = SocketIo<Adapter>;

/// socketioxide's service, to serve on `/socket.io/`.
pub type Service = SocketIoService<NotFoundService, Adapter>;

/// Makes socketioxide as this gateway wants it.
pub fn build_io(gateway: &Gateway) -> (Service, Io) {
    let config = &gateway.config;
    SocketIo::builder()
        .req_path("/socket.io")
        .ping_interval(config.ping_interval)
        .ping_timeout(config.ping_timeout)
        .connect_timeout(config.connect_timeout)
        .max_buffer_size(config.client_queue)
        .max_payload(config.max_payload)
        // `max_payload` bounds polling only.
        .ws_max_message_size(config.max_payload as usize)
        .ws_max_frame_size(config.max_payload as usize)
        // The buffer stays with the connection for life; a longer packet is read in pieces.
        .ws_read_buffer_size(READ_BUFFER)
        .with_adapter::<Adapter>(gateway.services.rooms.clone())
        .build_svc()
}

/// Bytes read from a websocket at a time.
const READ_BUFFER: usize = 512;

/// Who is to be ended, as others tell it.
pub struct Ends {
    /// Clients whose queue is full.
    pub full: mpsc::Receiver<FullMembers>,
    /// Connections that poll.
    pub polling: mpsc::Receiver<Sid>,
}

/// Starts what goes on beside the sockets: namespaces, expiring tokens, clients that have to leave. Ends when dropped.
pub fn start(gateway: &Arc<Gateway>, io: &Io, service: Service, ends: Ends) -> tokio::task::JoinSet<()> {
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(connect::open_namespaces(gateway.clone(), io.clone()));
    tasks.spawn(session::expiry::run(gateway.clone()));
    tasks.spawn(reaper::end_slow_clients(gateway.clone(), io.clone(), ends.full));
    tasks.spawn(slow_consumers::end_stalled_clients(gateway.clone()));
    tasks.spawn(drain::end_polling(service, ends.polling));
    tasks.spawn(drain::end_old_connections(gateway.clone()));
    tasks.spawn(drain::run(gateway.clone()));
    tasks.spawn(reaper::sweep_namespaces(gateway.clone(), io.clone()));
    tasks.spawn(reaper::trim_memory(gateway.clone()));
    tasks
}
