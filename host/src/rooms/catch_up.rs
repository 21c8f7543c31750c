//! A socket that comes back in a cluster: while the node reads the events that its client has missed, new ones wait here. An event that was
//! read is not sent once more, whenever it arrives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hubbub_wire::{Message, Socket};
use parking_lot::Mutex;

use super::At;
use crate::names::SocketId;
use crate::recovery::offset::Offset;

/// Events that may wait. Past it the client gets a new socket.
const MAX_WAITING: usize = 4096;

/// A socket that comes back.
pub struct ComingBack<'a> {
    pub id: SocketId,
    pub socket: Socket,
    /// The user, scoped by the tenant.
    pub user: Option<Arc<str>>,
    pub catch_up: Arc<CatchUp>,
    /// The rooms that it was in.
    pub rooms: &'a [Arc<str>],
}

#[derive(Debug, Default)]
pub struct CatchUp(Mutex<State>);

#[derive(Debug)]
enum State {
    /// The logs are being read.
    Reading(Vec<Waiting>),
    /// The client has what was read of each log, and this node has not received all of it yet. `until`: no log has it any more.
    Read {
        read: Offset,
        until: Instant,
    },
    TooMany,
    CaughtUp,
}

impl Default for State {
    fn default() -> Self {
        Self::Reading(Vec::new())
    }
}

#[derive(Debug)]
struct Waiting {
    at: At,
    text: String,
}

impl CatchUp {
    /// Sends an event, or lets it wait, or drops it: the client has it. `message` is the packet for all other recipients.
    pub fn deliver(&self, socket: &Socket, event: (&str, &str), at: &At, message: &Message) {
        let (namespace, text) = event;
        let mut state = self.0.lock();
        match &mut *state {
            State::CaughtUp => drop(socket.send(message)),
            State::TooMany => {}
            // A volatile one.
            State::Reading(_) if !at.is_logged => {}
            State::Reading(waiting) if waiting.len() == MAX_WAITING => *state = State::TooMany,
            State::Reading(waiting) => waiting.push(Waiting { at: at.clone(), text: text.to_owned() }),
            State::Read { read, .. } if at.is_logged && at.position <= read.of(at.log) => {}
            State::Read { read, until } => match raised(at, read) {
                Some(offset) if Instant::now() < *until => drop(socket.send(&Message::event_at(namespace, text, &offset))),
                _ => {
                    *state = State::CaughtUp;
                    socket.send(message);
                }
            },
        }
    }

    /// Ends the reading: the client gets everything up to `read`, which logs have for the time `keep`. Returns what has arrived meanwhile
    /// and was not read; None if it was too much.
    pub fn finish(&self, namespace: &str, read: &Offset, keep: Duration) -> Option<Vec<Message>> {
        let next = State::Read { read: read.clone(), until: Instant::now() + keep };
        let State::Reading(waiting) = std::mem::replace(&mut *self.0.lock(), next) else { return None };
        let unread = waiting.into_iter().filter(|Waiting { at, .. }| at.position > read.of(at.log));
        let message = |Waiting { at, text }| Message::event_at(namespace, &text, &raised(&at, read).unwrap_or(at.offset));
        Some(unread.map(message).collect())
    }
}

/// The offset of an event for a client that has what was read: an offset must not fall back. None if that has all of it.
fn raised(at: &At, read: &Offset) -> Option<String> {
    let here = Offset::parse(&at.offset)?;
    let mut raised = here.clone();
    raised.merge(read);
    (raised != here).then(|| raised.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::recovery::offset::Position;
    use crate::rooms::members::unconnected;

    fn at(log: u64, position: u64, offset: &str) -> At {
        At { log, position, is_logged: true, offset: offset.to_owned() }
    }

    fn deliver(catch_up: &CatchUp, at: &At) {
        catch_up.deliver(&unconnected(), ("/chat", "[\"e\"]"), at, &Message::event_at("/chat", "[\"e\"]", &at.offset));
    }

    #[test]
    fn what_was_read_does_not_wait_any_more() {
        let catch_up = CatchUp::default();
        (1..=5).for_each(|position| deliver(&catch_up, &at(1, position, "0000000001.1")));
        let read = Offset::from(Position { log: 1, position: 3 });
        assert_eq!(catch_up.finish("/chat", &read, Duration::from_secs(9)).unwrap().len(), 2);
    }

    #[test]
    fn more_events_than_may_wait_end_it() {
        let (catch_up, other) = (CatchUp::default(), CatchUp::default());
        (0..MAX_WAITING).for_each(|_| deliver(&catch_up, &at(1, 9, "0000000001.9")));
        (0..=MAX_WAITING).for_each(|_| deliver(&other, &at(1, 9, "0000000001.9")));
        let finish =
            |catch_up: &CatchUp| catch_up.finish("/chat", &Offset::default(), Duration::from_secs(9)).map(|all| all.len());
        assert_eq!((finish(&catch_up), finish(&other)), (Some(MAX_WAITING), None));
    }

    #[test]
    fn an_offset_does_not_fall_back() {
        let mut read = Offset::from(Position { log: 1, position: 3 });
        read.raise(2, 7);
        assert_eq!(raised(&at(1, 4, "0000000001.4,0000000002.5"), &read).unwrap(), "0000000001.4,0000000002.7");
        assert_eq!(raised(&at(1, 4, "0000000001.4,0000000002.8"), &read), None);
    }
}
