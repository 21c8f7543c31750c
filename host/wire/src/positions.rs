//! The order in which events with positions were sent to one socket. Broadcasts from several threads may reach a socket in another
//! order than that of their positions; what its client has at an offset depends on that order.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Late events that are remembered for one socket.
const MAX_LATE: usize = 1024;

/// The positions that were sent to one socket.
#[derive(Default)]
pub(crate) struct Positions {
    last: AtomicU64,
    late: Mutex<Sequence>,
}

/// The order of what was sent to a socket, as far as it differs from the order of the positions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sequence {
    /// The events that were sent after one with a higher position, in the order of sending.
    pub late: Vec<Late>,
    /// Late events up to this position are forgotten: it is not known what a client with a lower offset has.
    pub forgotten: u64,
}

/// An event that was sent after one with a higher position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late {
    /// Its position.
    pub position: u64,
    /// The highest position that was sent before it.
    pub after: u64,
}

impl Positions {
    /// Notes that an event is sent. Only called under the lock that orders what is sent to the socket.
    pub(crate) fn note(&self, position: u64) {
        let last = self.last.load(Ordering::Relaxed);
        if position > last {
            return self.last.store(position, Ordering::Relaxed);
        }
        let mut sequence = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        if sequence.late.len() == MAX_LATE {
            let oldest = sequence.late.remove(0);
            sequence.forgotten = sequence.forgotten.max(oldest.after);
        }
        sequence.late.push(Late { position, after: last });
    }

    pub(crate) fn sequence(&self) -> Sequence {
        self.late.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Sequence {
    /// Whether a client whose last event is `offset` has the event at `position`, if both were sent to it. None: forgotten.
    pub fn has(&self, position: u64, offset: u64) -> Option<bool> {
        if offset < self.forgotten {
            return None;
        }
        let sent_at = |position: u64| self.late.iter().rposition(|late| late.position == position);
        // The highest position that was sent before the offset, and the number of late events sent up to it.
        let (highest, late) = match sent_at(offset) {
            Some(at) => (self.late[at].after, at + 1),
            None => (offset, self.late.partition_point(|late| late.after < offset)),
        };
        Some(match sent_at(position) {
            Some(at) => at < late,
            None => position <= highest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(positions: &[u64]) -> Positions {
        let sent = Positions::default();
        positions.iter().for_each(|position| sent.note(*position));
        sent
    }

    #[test]
    fn a_client_has_what_was_sent_up_to_its_offset() {
        let order = [1, 4, 2, 3, 7, 6, 8, 5, 9];
        let sequence = sent(&order).sequence();
        for (at, offset) in order.iter().enumerate() {
            for (other, position) in order.iter().enumerate() {
                assert_eq!(sequence.has(*position, *offset), Some(other <= at), "{position} at {offset}");
            }
        }
        assert_eq!((sequence.has(1, 0), sequence.has(9, 12)), (Some(false), Some(true)));
    }

    #[test]
    fn positions_in_order_take_no_memory() {
        assert_eq!(sent(&[1, 2, 5, 100]).sequence(), Sequence::default());
    }

    #[test]
    fn the_oldest_late_events_are_forgotten() {
        let mut order = vec![10, 5];
        order.extend((0..MAX_LATE as u64).flat_map(|at| [101 + 2 * at, 100 + 2 * at]));
        let sequence = sent(&order).sequence();
        assert_eq!((sequence.late.len(), sequence.forgotten), (MAX_LATE, 10));
        assert_eq!((sequence.has(5, 9), sequence.has(100, 103)), (None, Some(true)));
    }
}
