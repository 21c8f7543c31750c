//! Closes what must not stay: clients that do not read, namespaces without members, and sockets of a namespace that was created
//! twice.

use std::sync::Arc;
use std::time::Duration;

use serde::ser::{Error, Serialize, Serializer};
use socketioxide::SendError;
use socketioxide::SocketError;
use socketioxide::socket::Socket;
use tokio::sync::mpsc;

use super::permits::ConnectionPermit;
use super::{Gateway, Io};
use crate::rooms::SlowMembers;
use crate::rooms::adapter::Adapter;

/// The time between two checks of the namespaces.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// A storm of connects has ended when no client has connected for this long.
const STORM: Duration = Duration::from_millis(250);

/// Connects after which it is worth releasing free memory.
const TRIM_AFTER: u64 = 500;

/// Disconnects clients with a full queue by closing their transport, so that stock clients reconnect.
pub async fn end_slow_clients(gateway: Arc<Gateway>, io: Io, mut full: mpsc::Receiver<SlowMembers>) {
    while let Some(SlowMembers { namespace, sids }) = full.recv().await {
        let Some(namespace) = io.of(&*namespace) else { continue };
        for socket in sids.into_iter().filter_map(|sid| namespace.get_socket(sid)) {
            if is_full(&socket) && end(&gateway, &socket) {
                gateway.services.metrics.slow_consumer("queue");
                tracing::info!(
                    namespace = socket.ns(),
                    "a client was disconnected: it does not read what it is sent (slow_consumer)"
                );
            }
        }
    }
}

/// Whether a socket's queue is full. Sends nothing: socketioxide reserves the place before it serializes the value, and this value
/// fails to serialize.
fn is_full(socket: &Socket<Adapter>) -> bool {
    struct Never;
    impl Serialize for Never {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(S::Error::custom("never"))
        }
    }
    matches!(socket.emit("never", &Never), Err(SendError::Socket(SocketError::InternalChannelFull)))
}

/// Closes a socket's transport. Returns whether this call was the first.
pub fn end(gateway: &Gateway, socket: &Socket<Adapter>) -> bool {
    socket.req_parts().extensions.get::<Arc<ConnectionPermit>>().is_some_and(|permit| gateway.end(socket.id, permit))
}

/// Releases free memory to the system after a storm of connects.
pub async fn trim_memory(gateway: Arc<Gateway>) {
    let (mut trimmed_at, mut seen) = (0, 0);
    loop {
        tokio::time::sleep(STORM).await;
        let connects = gateway.services.metrics.connects.get();
        let quiet = connects == seen;
        seen = connects;
        if quiet && connects - trimmed_at >= TRIM_AFTER {
            trimmed_at = connects;
            // The task cannot panic.
            let _ = tokio::task::spawn_blocking(crate::memory::trim).await;
        }
    }
}

/// Removes empty namespaces of patterns, and closes the sockets of replaced adapters.
pub async fn reap_namespaces(gateway: Arc<Gateway>, io: Io) {
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        for adapter in gateway.services.rooms.take_replaced() {
            for id in adapter.members(|members| members.sockets().collect::<Vec<_>>()) {
                if let Some(session) = gateway.sockets.get(id) {
                    gateway.end(session.sid, &session.permit);
                }
            }
        }
        for path in idle(&gateway) {
            gateway.services.rooms.remove(&path);
            io.delete_ns(&*path);
        }
    }
}

/// The namespaces to remove: those empty for long enough, and, past the limit, those empty the longest.
fn idle(gateway: &Gateway) -> Vec<Arc<str>> {
    let routes = gateway.registry.routes();
    let is_dynamic = |adapter: &Arc<Adapter>| routes.namespace(adapter.path()).is_some_and(|route| !route.pattern.is_literal());
    let dynamic: Vec<_> = gateway.services.rooms.all().into_iter().filter(is_dynamic).collect();
    let mut empty: Vec<_> = dynamic.iter().filter_map(|adapter| Some((adapter.empty_for()?, adapter.path().clone()))).collect();
    empty.sort_unstable_by(|a, b| b.cmp(a));
    let too_many = dynamic.len().saturating_sub(gateway.config.max_namespaces);
    let idle = |(index, (since, _)): &(usize, (Duration, Arc<str>))| *index < too_many || *since >= gateway.config.namespace_idle;
    empty.into_iter().enumerate().filter(idle).map(|(_, (_, path))| path).collect()
}
