//! Disconnects clients that do not read while more than `gateway.client_bytes` wait for them. The waiting bytes are not read from a
//! queue: they are the bytes sent to a stalled client and to its rooms, less the bytes that the kernel took. It never disconnects a
//! client that reads.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Gateway;
use super::transport::Closer;
use crate::names::SocketId;

/// The time between two checks of stalled clients. Without any, nothing is checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Clients disconnected in one check. A disconnect is work for other parts too, so further clients wait for the next check.
const AT_ONCE: usize = 128;

/// Clients checked before other tasks run.
const TOGETHER: usize = 64;

/// Checks stalled clients until the future is dropped.
pub async fn end_stalled_clients(gateway: Arc<Gateway>) {
    let stalls = gateway.permits.stalls.clone();
    let mut watched: Vec<Watched> = Vec::new();
    loop {
        gateway.services.metrics.stalled_clients.set(watched.len() as i64);
        if watched.is_empty() {
            stalls.some().await;
        } else {
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
        watched.extend(stalls.take().into_iter().map(Watched::new));
        let mut round = Round::default();
        let mut at = 0;
        while at < watched.len() {
            if round.check(&mut watched[at], &gateway) {
                at += 1;
            } else {
                watched.swap_remove(at);
            }
            if round.checks % TOGETHER == 0 {
                tokio::task::yield_now().await;
            }
        }
        if round.ended > 0 {
            let Round { ended, bytes, .. } = round;
            tracing::info!(
                clients = ended,
                bytes,
                "clients were disconnected: they do not read what they are sent (slow_consumer)"
            );
        }
    }
}

/// One check of all stalled clients.
#[derive(Default)]
struct Round {
    checks: usize,
    ended: usize,
    /// Bytes that waited for the disconnected clients.
    bytes: u64,
}

impl Round {
    /// Checks a client. Returns whether to check it again.
    fn check(&mut self, client: &mut Watched, gateway: &Gateway) -> bool {
        self.checks += 1;
        if !client.ending {
            if !client.measure(gateway) {
                return false;
            }
            let most = gateway.config.client_bytes;
            client.ending = most > 0 && client.backlog.waiting() > most;
        }
        if !client.ending || self.ended == AT_ONCE {
            return true;
        }
        let end = client.end(gateway);
        if end == End::Begun {
            self.ended += 1;
            self.bytes += client.backlog.waiting();
        }
        end != End::Done
    }
}

/// A connection with a client that does not read.
struct Watched {
    closer: Closer,
    backlog: Backlog,
    /// It is being disconnected, which is repeated until it is removed.
    ending: bool,
}

impl Watched {
    fn new(closer: Closer) -> Self {
        Self { closer, backlog: Backlog::default(), ending: false }
    }

    /// Counts the bytes since the last check. False: the client reads again, or has disconnected.
    fn measure(&mut self, gateway: &Gateway) -> bool {
        if !self.closer.is_stalled() {
            return false;
        }
        let sessions = self.closer.named().map(|sid| gateway.sockets.of_connection(sid)).unwrap_or_default();
        if sessions.is_empty() {
            // It has disconnected, or has no socket yet. A polling connection stays watched: its client may connect sockets and
            // never poll.
            let awaited = self.closer.named().is_some_and(|sid| gateway.permits.polling(sid).is_some());
            if !awaited {
                self.closer.unlist();
            }
            return awaited;
        }
        for session in sessions {
            let socket = session.id;
            self.backlog.count_sent(socket, Source::Host, session.answered.load(Ordering::Relaxed));
            session.adapter.members(|members| {
                for (room, sent) in members.sent(socket) {
                    self.backlog.count_sent(socket, room.map_or(Source::Plugins, |room| Source::Room(room.clone())), sent);
                }
            });
        }
        self.backlog.count_written(self.closer.written());
        true
    }

    fn end(&self, gateway: &Gateway) -> End {
        let sockets = self.closer.named().map(|sid| gateway.sockets.of_connection(sid)).unwrap_or_default();
        let Some(session) = sockets.first() else { return End::Done };
        if !gateway.end(session.sid, &session.permit) {
            return End::UnderWay;
        }
        gateway.services.metrics.slow_consumer("bytes");
        End::Begun
    }
}

/// How far the disconnect of a client is.
#[derive(PartialEq, Eq)]
enum End {
    Begun,
    UnderWay,
    Done,
}

/// The sender of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Source {
    Host,
    Plugins,
    Room(Arc<str>),
}

/// The bytes that wait for one client since it stalled.
#[derive(Debug, Default)]
struct Backlog {
    /// Each source's count at the last check. A new source begins at its current count: earlier bytes were not for this client.
    seen: HashMap<(SocketId, Source), u64>,
    written: Option<u64>,
    sent: u64,
    taken: u64,
}

impl Backlog {
    fn count_sent(&mut self, socket: SocketId, source: Source, count: u64) {
        let before = self.seen.insert((socket, source), count).unwrap_or(count);
        // The count of a room that was emptied and made again starts at 0.
        self.sent += count.saturating_sub(before);
    }

    fn count_written(&mut self, count: u64) {
        let before = self.written.replace(count).unwrap_or(count);
        self.taken += count.saturating_sub(before);
    }

    fn waiting(&self) -> u64 {
        self.sent.saturating_sub(self.taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_bytes_are_those_sent_less_those_taken() {
        let (mut backlog, room) = (Backlog::default(), || Source::Room("r".into()));
        backlog.count_sent(1, room(), 1000);
        backlog.count_written(500);
        assert_eq!(backlog.waiting(), 0, "bytes before the stall are not counted");
        backlog.count_sent(1, room(), 1700);
        backlog.count_sent(1, Source::Host, 40);
        backlog.count_written(600);
        assert_eq!(backlog.waiting(), 600, "bytes of a room from before the client joined are not counted");
        backlog.count_sent(1, Source::Host, 90);
        assert_eq!(backlog.waiting(), 650);
    }
}
