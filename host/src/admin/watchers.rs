//! The operator's live metrics over Socket.IO on the admin port, in a namespace and an engine of their own. A connection needs the
//! admin token. A slow watcher must never delay anything else: it loses updates.

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

/// The namespace of live metrics.
const NAMESPACE: &str = "/figures";

/// The only event. Its argument is the body of `GET /admin/figures`.
const EVENT: &str = "figures";

/// The largest packet of a watcher, in bytes: it only sends a connect packet with the token.
const MAX_PACKET: u64 = 16 << 10;

/// socketioxide's service, to serve on the admin port's `/socket.io/`.
pub type Service = SocketIoService<NotFoundService, LocalAdapter>;

/// Limits on watchers.
pub struct Watchers {
    /// None: every connection is refused.
    pub token: Option<String>,
    /// The most watchers at a time; more are refused.
    pub limit: usize,
    /// The most updates that wait for one watcher; more are dropped, for that watcher only.
    pub queue: usize,
    /// Limits of the live tap.
    pub taps: taps::Config,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    token: String,
}

/// Held by a watcher's socket and released when the socket closes.
#[derive(Clone)]
struct WatcherPermit(#[expect(dead_code, reason = "held, not read")] Arc<OwnedSemaphorePermit>);

/// The service, and the handle that [`run`] sends with.
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
    let permits = Arc::new(Semaphore::new(watchers.limit));
    let (operators, metrics) = (Operators::new(watchers.token.as_deref(), gateway), gateway.services.metrics.clone());
    let authenticate = move |socket: SocketRef, TryData(auth): TryData<Auth>| {
        let checked = operators.check(&socket, &auth.unwrap_or_default().token);
        let admit = checked.and_then(|()| admit(&socket, &permits));
        if admit.is_err() {
            metrics.watchers_refused.inc();
        }
        async move { admit }
    };
    // No handler is registered: events from a watcher are ignored.
    io.ns(NAMESPACE, (|_: SocketRef| async {}).with(authenticate));
    (service, io)
}

fn admit(socket: &SocketRef, permits: &Arc<Semaphore>) -> Result<(), &'static str> {
    let permit = permits.clone().try_acquire_owned().map_err(|_| "Too many are watching")?;
    socket.extensions.insert(WatcherPermit(Arc::new(permit)));
    Ok(())
}

/// Sends each new [`Status`](super::status::Status) to all watchers, until it is dropped.
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
