//! The log of a node: each event once that it has sent to clients that may come back, for the time in which they may, within a limit
//! of bytes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hubbub_wire::Message;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::offset::{Offset, Position};
use crate::clock::Clock;
use crate::names::SocketId;

/// Bytes that an event takes in memory besides its message.
const OVERHEAD: usize = 192;

/// Bits of a log's id.
const ID_BITS: u64 = (1 << 40) - 1;

/// The log of this node.
pub struct Log {
    /// Changed only before the first event.
    id: AtomicU64,
    keep_ms: u64,
    max_bytes: usize,
    clock: Clock,
    /// The next position. The first is 1.
    next: AtomicU64,
    events: Mutex<Events>,
}

#[derive(Default)]
struct Events {
    /// The position of the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    bytes: usize,
}

struct Slot {
    at_ms: u64,
    found: Found,
}

/// An event of the log.
pub struct Logged {
    pub message: Message,
    /// The members of these rooms did not get it.
    pub except: Box<[String]>,
    pub except_socket: Option<SocketId>,
    /// Only the members of this room of the host got it.
    pub only: Option<Box<str>>,
}

/// A reserved position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved {
    pub position: u64,
    /// The first position that is in the log.
    pub first: u64,
}

/// The content of a position.
#[derive(Clone)]
pub enum Found {
    Event(Arc<Logged>),
    /// The event is being encoded.
    Writing,
    /// An event that is not sent again.
    Nothing,
    /// The event is no longer in the log.
    Dropped,
}

impl Log {
    /// An empty log that keeps events for `keep` and up to `max_bytes`. `id` is random.
    pub fn new(id: u64, keep: Duration, max_bytes: usize, clock: Clock) -> Self {
        let events = Mutex::new(Events { first: 1, ..Events::default() });
        Self {
            id: AtomicU64::new(id & ID_BITS),
            keep_ms: crate::duration::millis(keep),
            max_bytes,
            clock,
            next: AtomicU64::new(1),
            events,
        }
    }

    /// A log that keeps nothing.
    pub fn off() -> Arc<Self> {
        Arc::new(Self::new(0, Duration::ZERO, 0, Clock::system()))
    }

    /// Takes the next position for an event, which is written by [`Log::write`] or [`Log::skip`].
    pub fn reserve(&self) -> Reserved {
        let at_ms = self.clock.steady_ms();
        let mut events = self.events.lock();
        events.trim(at_ms.saturating_sub(self.keep_ms), self.max_bytes);
        events.slots.push_back(Slot { at_ms, found: Found::Writing });
        Reserved { position: self.next.fetch_add(1, Ordering::AcqRel), first: events.first }
    }

    /// Writes the event of a reserved position.
    pub fn write(&self, position: u64, logged: Logged) {
        let mut events = self.events.lock();
        let size = logged.size();
        if events.set(position, Found::Event(Arc::new(logged))) {
            events.bytes += size;
        }
    }

    /// Marks a reserved position as an event that is not sent again.
    pub fn skip(&self, position: u64) {
        self.events.lock().set(position, Found::Nothing);
    }

    pub fn get(&self, position: u64) -> Found {
        let events = self.events.lock();
        let slot = position.checked_sub(events.first).and_then(|at| events.slots.get(usize::try_from(at).ok()?));
        slot.map_or(Found::Dropped, |slot| slot.found.clone())
    }

    /// Drops what is too old. Returns the first position that is left.
    pub fn trim(&self) -> u64 {
        let before_ms = self.clock.steady_ms().saturating_sub(self.keep_ms);
        let mut events = self.events.lock();
        events.trim(before_ms, self.max_bytes);
        events.first
    }

    /// The first position that is in the log.
    pub fn first(&self) -> u64 {
        self.events.lock().first
    }

    /// The position that the next event gets.
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// Bytes of the events.
    pub fn bytes(&self) -> usize {
        self.events.lock().bytes
    }

    /// The log as it is now, to store it.
    pub fn save(&self) -> Saved {
        let now_ms = self.clock.steady_ms();
        let events = self.events.lock();
        let saved = |slot: &Slot| {
            let event = match &slot.found {
                Found::Event(logged) => Some(SavedEvent {
                    frames: logged.message.frames().to_vec(),
                    except: logged.except.to_vec(),
                    except_socket: logged.except_socket,
                    only: logged.only.as_deref().map(str::to_owned),
                }),
                Found::Writing | Found::Nothing | Found::Dropped => None,
            };
            (now_ms.saturating_sub(slot.at_ms), event)
        };
        Saved { id: self.id.load(Ordering::Relaxed), first: events.first, slots: events.slots.iter().map(saved).collect() }
    }

    /// Takes over a log that was stored some time ago, before the first event.
    pub fn restore(&self, saved: Saved, age: Duration) {
        let age_ms = crate::duration::millis(age);
        let mut events = self.events.lock();
        self.id.store(saved.id & ID_BITS, Ordering::Relaxed);
        events.first = saved.first;
        for (before_ms, event) in saved.slots {
            let at_ms = self.clock.steady_ms().saturating_sub(before_ms.saturating_add(age_ms));
            let found = event.map_or(Found::Nothing, |event| {
                let logged = Logged {
                    message: Message::from_frames(event.frames.into()),
                    except: event.except.into(),
                    except_socket: event.except_socket,
                    only: event.only.map(Into::into),
                };
                events.bytes += logged.size();
                Found::Event(Arc::new(logged))
            });
            events.slots.push_back(Slot { at_ms, found });
        }
        self.next.store(events.first + events.slots.len() as u64, Ordering::Release);
    }

    /// The offset of a position, for clients.
    pub fn offset(&self, position: u64) -> Position {
        Position { log: self.id.load(Ordering::Relaxed), position }
    }

    /// The position of a client's offset: none if it is of an earlier log, which was before its session began.
    ///
    /// # Errors
    /// The log has not got that far.
    pub fn position(&self, offset: &Offset) -> Result<Option<u64>, NoPosition> {
        let log = self.id.load(Ordering::Relaxed);
        match offset.of(log) {
            _ if !offset.names(log) => Ok(None),
            position if position >= self.next() => Err(NoPosition),
            position => Ok(Some(position)),
        }
    }
}

/// An offset that names no position of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the offset names no position of the log")]
pub struct NoPosition;

/// The stored form of a log.
#[derive(Serialize, Deserialize)]
pub struct Saved {
    id: u64,
    first: u64,
    /// Each with its age in milliseconds.
    slots: Vec<(u64, Option<SavedEvent>)>,
}

#[derive(Serialize, Deserialize)]
struct SavedEvent {
    frames: Vec<u8>,
    except: Vec<String>,
    except_socket: Option<SocketId>,
    only: Option<String>,
}

impl Events {
    /// Returns false if the position was dropped meanwhile.
    fn set(&mut self, position: u64, found: Found) -> bool {
        let at = position.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        let Some(slot) = at.and_then(|at| self.slots.get_mut(at)) else { return false };
        slot.found = found;
        true
    }

    fn trim(&mut self, before_ms: u64, max_bytes: usize) {
        while let Some(slot) = self.slots.front()
            && (slot.at_ms < before_ms || self.bytes > max_bytes)
        {
            if let Found::Event(logged) = &slot.found {
                self.bytes -= logged.size();
            }
            self.slots.pop_front();
            self.first += 1;
        }
    }
}

impl Logged {
    fn size(&self) -> usize {
        OVERHEAD + self.message.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(log: &Log, bytes: usize) -> u64 {
        let Reserved { position, .. } = log.reserve();
        let message = Message::event("/", &"x".repeat(bytes));
        log.write(position, Logged { message, except: Box::default(), except_socket: None, only: None });
        position
    }

    fn is_event(log: &Log, position: u64) -> bool {
        matches!(log.get(position), Found::Event(_))
    }

    #[test]
    fn events_are_kept_for_their_time() {
        let clock = Clock::manual(1000);
        let log = Log::new(7, Duration::from_secs(10), 1 << 20, clock.clone());
        let first = write(&log, 10);
        clock.advance(9_000);
        let second = write(&log, 10);
        assert!(is_event(&log, first) && is_event(&log, second) && !is_event(&log, 3));
        clock.advance(2_000);
        assert_eq!((log.trim(), log.next()), (2, 3));
        assert!(matches!(log.get(first), Found::Dropped) && is_event(&log, second));
    }

    #[test]
    fn the_oldest_event_past_the_limit_of_bytes_is_dropped() {
        let log = Log::new(7, Duration::from_secs(10), 1000, Clock::manual(0));
        let positions: Vec<_> = (0..4).map(|_| write(&log, 200)).collect();
        log.trim();
        assert_eq!(positions.iter().map(|position| is_event(&log, *position)).collect::<Vec<_>>(), [false, false, true, true]);
        assert!(log.bytes() <= 1000);
    }

    #[test]
    fn a_stored_log_goes_on_where_it_ended() {
        let clock = Clock::manual(100_000);
        let log = Log::new(7, Duration::from_secs(10), 1 << 20, clock.clone());
        let (first, second) = (write(&log, 10), write(&log, 10));
        let next = Log::new(8, Duration::from_secs(10), 1 << 20, clock.clone());
        next.restore(log.save(), Duration::from_secs(4));
        assert!(is_event(&next, first) && is_event(&next, second) && next.bytes() == log.bytes());
        assert_eq!((next.offset(3), next.next()), (log.offset(3), 3));
        clock.advance(7_000);
        assert_eq!(next.trim(), 3, "the age is counted");
    }

    #[test]
    fn an_offset_past_the_end_names_no_position() {
        let log = Log::new(7, Duration::from_secs(10), 1000, Clock::manual(0));
        let Reserved { position, .. } = log.reserve();
        assert_eq!(log.position(&log.offset(position).into()), Ok(Some(1)));
        assert_eq!(log.position(&log.offset(position + 1).into()), Err(NoPosition));
        assert_eq!(log.position(&Position { log: 8, position: 100 }.into()), Ok(None));
    }
}
