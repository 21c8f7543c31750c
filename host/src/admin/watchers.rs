//! The operator's live figures: stock Socket.IO clients on the admin port, in a namespace and an engine of their own. Nobody is
//! let in without the admin token, and a watcher that does not read loses figures, never anyone's time.

use std::sync::Arc;

use engineioxide::service::NotFoundService;
use serde::Deserialize;
use socketioxide::SocketIo;
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::{SocketRef, TryData};
use socketioxide::handler::ConnectHandler as _;
use socketioxide::service::SocketIoService;
use socketioxide::{SendError, SocketError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::operators::Operators;
use super::status::Latest;
use super::taps;
use crate::socket::Gateway;
use crate::telemetry::Metrics;

/// Where the figures are told.
const NAMESPACE: &str = "/figures";

/// The one event, and its one argument is what `GET /admin/figures` answers.
const EVENT: &str = "figures";

/// The largest packet of a watcher, in bytes: a connect with the token is all that one has to say.
const MAX_PACKET: u64 = 16 << 10;

/// socketioxide's service, to serve on the admin port's `/socket.io/`.
pub type Service = SocketIoService<NotFoundService, LocalAdapter>;

/// Who may watch.
pub struct Watchers {
    /// None: nobody is let in.
    pub token: Option<String>,
    /// Watchers at a time. Past it one is refused.
    pub limit: usize,
    /// Tellings that may wait for one watcher. Past it they are dropped, for that one.
    pub queue: usize,
    /// Who listens in on a user or a room, and how.
    pub taps: taps::Config,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    token: String,
}

/// Kept by a watcher's socket: its place, free again when the socket has gone.
#[derive(Clone)]
struct WatcherPermit(#[expect(dead_code, reason = "held, not read")] Arc<OwnedSemaphorePermit>);

/// The service, and the handle that tells.
pub fn build(watchers: Watchers, gateway: &Gateway) -> (Service, SocketIo) {
    let (service, io) = SocketIo::builder()
        .req_path("/socket.io")
        .connect_timeout(gateway.config.connect_timeout)
        .max_buffer_size(watchers.queue)
        .max_payload(MAX_PACKET)
        .ws_max_message_size(MAX_PACKET as usize)
        .ws_max_frame_size(MAX_PACKET as usize)
        .build_svc();
    taps::open(&io, Operators::new(watchers.token.as_deref(), gateway), watchers.taps, gateway);
    let places = Arc::new(Semaphore::new(watchers.limit));
    let (operators, metrics) = (Operators::new(watchers.token.as_deref(), gateway), gateway.services.metrics.clone());
    let door = move |socket: SocketRef, TryData(auth): TryData<Auth>| {
        let checked = operators.check(&socket, &auth.unwrap_or_default().token);
        let admit = checked.and_then(|()| admit(&socket, &places));
        if admit.is_err() {
            metrics.watchers_refused.inc();
        }
        async move { admit }
    };
    // It only listens; what a watcher sends is nobody's.
    io.ns(NAMESPACE, (|_: SocketRef| async {}).with(door));
    (service, io)
}

fn admit(socket: &SocketRef, places: &Arc<Semaphore>) -> Result<(), &'static str> {
    let place = places.clone().try_acquire_owned().map_err(|_| "Too many are watching")?;
    socket.extensions.insert(WatcherPermit(Arc::new(place)));
    Ok(())
}

/// Tells each new figures to everyone who watches, until it is dropped.
pub async fn run(io: SocketIo, mut latest: Latest, metrics: Arc<Metrics>) {
    while latest.changed().await.is_ok() {
        let status = latest.borrow_and_update().clone();
        let (Some(status), Some(namespace)) = (status, io.of(NAMESPACE)) else { continue };
        let sockets = namespace.sockets();
        metrics.watchers.set(sockets.len() as i64);
        for socket in sockets {
            if let Err(SendError::Socket(SocketError::InternalChannelFull)) = socket.emit(EVENT, &*status) {
                metrics.watchers_behind.inc();
            }
        }
    }
}
