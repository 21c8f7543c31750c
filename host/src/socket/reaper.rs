//! Ends what must not stay: clients that do not read, namespaces that nobody is in, and sockets of a namespace that was made
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

/// Between two looks at the namespaces.
const LOOK: Duration = Duration::from_millis(500);

/// A storm has passed when nobody has connected for so long.
const STORM: Duration = Duration::from_millis(250);

/// Connects after which it is worth looking for free memory.
const TRIM_AFTER: u64 = 500;

/// Ends the clients whose queue is full. Their transport is closed, so that stock clients come again.
pub async fn end_slow_clients(gateway: Arc<Gateway>, io: Io, mut full: mpsc::Receiver<SlowMembers>) {
    while let Some(SlowMembers { namespace, sids }) = full.recv().await {
        let Some(namespace) = io.of(&*namespace) else { continue };
        for socket in sids.into_iter().filter_map(|sid| namespace.get_socket(sid)) {
            if is_full(&socket) && end(&gateway, &socket) {
                gateway.services.metrics.slow_consumer("queue");
                tracing::info!(namespace = socket.ns(), "a client was ended: it does not read what it is sent (slow_consumer)");
            }
        }
    }
}

/// Whether a socket's queue has no place. Sends nothing: the place is asked for before the value is serialized, and this one
/// cannot be.
fn is_full(socket: &Socket<Adapter>) -> bool {
    struct Never;
    impl Serialize for Never {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(S::Error::custom("never"))
        }
    }
    matches!(socket.emit("never", &Never), Err(SendError::Socket(SocketError::InternalChannelFull)))
}

/// Ends a socket's transport, and answers whether this was the first to do so.
pub fn end(gateway: &Gateway, socket: &Socket<Adapter>) -> bool {
    socket.req_parts().extensions.get::<Arc<ConnectionPermit>>().is_some_and(|permit| gateway.end(socket.id, permit))
}

/// Gives free memory back to the system when a storm of connects has passed.
pub async fn trim_memory(gateway: Arc<Gateway>) {
    let (mut trimmed_at, mut seen) = (0, 0);
    loop {
        tokio::time::sleep(STORM).await;
        let connects = gateway.services.metrics.connects.get();
        let quiet = connects == seen;
        seen = connects;
        if quiet && connects - trimmed_at >= TRIM_AFTER {
            trimmed_at = connects;
            // The end of a blocking task that cannot panic is no news.
            let _ = tokio::task::spawn_blocking(crate::memory::trim).await;
        }
    }
}

/// Deletes namespaces made from patterns that nobody is in.
pub async fn remove_idle_namespaces(gateway: Arc<Gateway>, io: Io) {
    loop {
        tokio::time::sleep(LOOK).await;
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

/// The namespaces to delete: empty for long enough, or the longest empty of too many.
fn idle(gateway: &Gateway) -> Vec<Arc<str>> {
    let routes = gateway.registry.routes();
    let is_made = |adapter: &Arc<Adapter>| routes.namespace(adapter.path()).is_some_and(|route| !route.pattern.is_literal());
    let made: Vec<_> = gateway.services.rooms.all().into_iter().filter(is_made).collect();
    let mut empty: Vec<_> = made.iter().filter_map(|adapter| Some((adapter.empty_for()?, adapter.path().clone()))).collect();
    empty.sort_unstable_by(|a, b| b.cmp(a));
    let too_many = made.len().saturating_sub(gateway.config.max_namespaces);
    let idle = |(index, (since, _)): &(usize, (Duration, Arc<str>))| *index < too_many || *since >= gateway.config.namespace_idle;
    empty.into_iter().enumerate().filter(idle).map(|(_, (_, path))| path).collect()
}
