//! Client sockets: transports, connect, sessions and their events. They call plugins through `call`, and never know which release
//! answers.

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
use serde::Deserialize;
use socketioxide::SocketIo;
use socketioxide::service::SocketIoService;
use socketioxide_core::Sid;
use tokio::sync::mpsc;

use crate::auth::logins::Logins;
use crate::bus::Bus;
use crate::call::registry::Registry;
use crate::proxies::Network;
use crate::rooms::SlowMembers;
use crate::rooms::adapter::Adapter;
use crate::transaction::services::Services;
use admission::Limits;
use drain::Drain;
use permits::Permits;
use sockets::Sockets;

/// `[gateway]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The largest packet of a client, in bytes. A larger one ends its connection, as the protocol has it. Default 100 000.
    pub max_payload: u64,
    /// Packets that may wait to be sent to one client. Past it the client is ended, and counted. Default 512.
    pub client_queue: usize,
    /// Bytes that may wait to be sent to one client that does not read, or does not poll. Past it, at the next look every 100 ms,
    /// the client is ended, and counted. Default 4 MiB; 0: no limit.
    pub client_bytes: u64,
    /// Events of one socket that may wait for their turn. Past it an event is refused with `rate_limited`. Default 64.
    pub socket_queue: usize,
    /// Rooms that plugins may join one socket to. Past it a join is refused with `too_large`. Default 64.
    pub socket_rooms: usize,
    /// Default 25 s.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    pub ping_interval: Duration,
    /// Default 20 s.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    pub ping_timeout: Duration,
    /// The names that the public port is reached by, with any port: `app.example.com`, `*.example.com` for all under it, `*` for all.
    /// A request with another `Host` is answered 421. Addresses and `localhost` are always among them. Default: all in `serve`, none
    /// but those in `dev`.
    pub hosts: Option<Vec<String>>,
    /// TCP connections of the public port, those of websockets included. Past it, health checks alone are answered, all else with
    /// HTTP 503. Default 200 000; 0: no limit.
    pub tcp_connections: u64,
    /// TCP connections of one address (IPv6: of one /64) to each port. Past it they are closed, unread. Loopback and
    /// `admission.trusted_proxies` are left out. Default 0, no limit.
    pub address_tcp_connections: u64,
    /// How long a connection may be open without a namespace, and a TCP connection without a first byte. Default 10 s.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    pub connect_timeout: Duration,
    /// How long a client may take from the first byte of a request's head to its last; then the connection is closed. Default 10 s.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    pub head_timeout: Duration,
    /// How long the body of a request may take; then it is answered 408, and the connection is closed. Default 20 s.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    pub body_timeout: Duration,
    /// Bytes of a body that give it a second more. Default 16 384; 0: none do.
    pub body_rate: u64,
    /// How long a client may take nothing of an answer that waits for it; then the connection is closed. Default 60 s.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    pub write_timeout: Duration,
    /// How long an HTTP connection may wait for its next request; then it is closed. More than a load balancer keeps its own
    /// connections idle. Default 75 s.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    pub http_idle: Duration,
    /// How long an upgrade from polling to websocket may take. Past it the websocket is closed, and the client goes on polling.
    /// Default 10 s.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    pub upgrade_timeout: Duration,
    /// How long a connect waits for its plugin while that is being replaced. A stock client never tries again by itself.
    /// Default 5 s.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    pub connect_wait: Duration,
    /// How long a namespace like `/course/42` stays when nobody is in it. Default 60 s.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    pub namespace_idle: Duration,
    /// Namespaces made from patterns. Past it the ones that have been empty for longest go at once. Default 10 000.
    pub max_namespaces: usize,
    /// How long a socket lives on when its token has expired, for a fresh one to come. Then its connection is closed, and a stock
    /// client comes back with whatever its `auth` gives. Default 5 s.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    pub expiry_grace: Duration,
    /// How long a connection may last, and up to a tenth longer. Then it is ended, and a stock client comes again, where the
    /// load balancer sends it. Default 0, for ever.
    #[serde(deserialize_with = "crate::duration::deserialize")]
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
    pub full: mpsc::Receiver<SlowMembers>,
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
    tasks.spawn(reaper::remove_idle_namespaces(gateway.clone(), io.clone()));
    tasks.spawn(reaper::trim_memory(gateway.clone()));
    tasks
}
