//! Ends clients that do not read while more bytes wait for them than `gateway.client_bytes`. What waits is not looked up in any
//! queue: it is what was sent to a stalled client's rooms and to itself, less what the kernel took. It never touches who reads.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Gateway;
use super::transport::Closer;
use crate::names::SocketId;

/// Between two looks at the stalled ones. While there are none, nobody looks.
const LOOK: Duration = Duration::from_millis(100);

/// Clients ended at one look. Each end is work for others, too: whoever else must go waits for the next looks.
const AT_ONCE: usize = 128;

/// Clients looked at before others get their turn.
const TOGETHER: usize = 64;

/// Looks until it is dropped.
pub async fn end_stalled_clients(gateway: Arc<Gateway>) {
    let stalls = gateway.permits.stalls.clone();
    let mut watched: Vec<Watched> = Vec::new();
    loop {
        gateway.services.metrics.stalled_clients.set(watched.len() as i64);
        if watched.is_empty() {
            stalls.some().await;
        } else {
            tokio::time::sleep(LOOK).await;
        }
        watched.extend(stalls.take().into_iter().map(Watched::new));
        let mut round = Round::default();
        let mut at = 0;
        while at < watched.len() {
            if round.keeps(&mut watched[at], &gateway) {
                at += 1;
            } else {
                watched.swap_remove(at);
            }
            if round.looks % TOGETHER == 0 {
                tokio::task::yield_now().await;
            }
        }
        if round.ended > 0 {
            let Round { ended, bytes, .. } = round;
            tracing::info!(clients = ended, bytes, "ended: they do not read what they are sent (slow_consumer)");
        }
    }
}

/// One look at all of them.
#[derive(Default)]
struct Round {
    looks: usize,
    ended: usize,
    /// What waited for those that were ended.
    bytes: u64,
}

impl Round {
    /// Whether a client is to be looked at again.
    fn keeps(&mut self, client: &mut Watched, gateway: &Gateway) -> bool {
        self.looks += 1;
        if !client.ending {
            if !client.look(gateway) {
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

/// A connection whose client does not read.
struct Watched {
    closer: Closer,
    backlog: Backlog,
    /// It is to be ended: said again until it has gone.
    ending: bool,
}

impl Watched {
    fn new(closer: Closer) -> Self {
        Self { closer, backlog: Backlog::default(), ending: false }
    }

    /// Counts what has come since the last look. False: the client reads again, or has gone.
    fn look(&mut self, gateway: &Gateway) -> bool {
        if !self.closer.is_stalled() {
            return false;
        }
        let sessions = self.closer.named().map(|sid| gateway.sockets.of_connection(sid)).unwrap_or_default();
        if sessions.is_empty() {
            // It has gone, or is not there yet. One that polls may come without ever asking for a packet.
            let awaited = self.closer.named().is_some_and(|sid| gateway.permits.polling(sid).is_some());
            if !awaited {
                self.closer.unlist();
            }
            return awaited;
        }
        for session in sessions {
            let socket = session.id;
            self.backlog.saw(socket, Source::Host, session.answered.load(Ordering::Relaxed));
            session.adapter.members(|members| {
                for (room, sent) in members.sent(socket) {
                    self.backlog.saw(socket, room.map_or(Source::Plugins, |room| Source::Room(room.clone())), sent);
                }
            });
        }
        self.backlog.wrote(self.closer.written());
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

/// How far the end of a client is.
#[derive(PartialEq, Eq)]
enum End {
    Begun,
    UnderWay,
    Done,
}

/// Where bytes come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Source {
    Host,
    Plugins,
    Room(Arc<str>),
}

/// What waits for one client since it was seen to stall.
#[derive(Debug, Default)]
struct Backlog {
    /// Each source's count at the last look. One that is new begins here: what a room was sent before is none of this client's.
    seen: HashMap<(SocketId, Source), u64>,
    written: Option<u64>,
    sent: u64,
    taken: u64,
}

impl Backlog {
    fn saw(&mut self, socket: SocketId, source: Source, count: u64) {
        let before = self.seen.insert((socket, source), count).unwrap_or(count);
        // A room that everyone left and that was made again counts from nothing.
        self.sent += count.saturating_sub(before);
    }

    fn wrote(&mut self, count: u64) {
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
    fn what_waits_is_what_was_sent_since_less_what_was_taken() {
        let (mut backlog, room) = (Backlog::default(), || Source::Room("r".into()));
        backlog.saw(1, room(), 1000);
        backlog.wrote(500);
        assert_eq!(backlog.waiting(), 0, "what came before the stall is not counted");
        backlog.saw(1, room(), 1700);
        backlog.saw(1, Source::Host, 40);
        backlog.wrote(600);
        assert_eq!(backlog.waiting(), 600, "nor what a room had been sent before the client joined it");
        backlog.saw(1, Source::Host, 90);
        assert_eq!(backlog.waiting(), 650);
    }
}
