//! The numbers of this node's events, and the last events that its clients have received from each node.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::recovery::offset::Offset;
use crate::rooms::At;
use crate::rooms::packet::ends_in_text;

/// The numbers of events.
#[derive(Default)]
pub(super) struct Sequence {
    pub(super) last: u64,
    /// The last event of each node.
    pub(super) received: Offset,
    /// When each node sent it.
    received_at: HashMap<u64, Instant>,
    /// How long a log keeps its events.
    pub(super) keep: Duration,
    /// The last event that could not be queued, until that is logged.
    pub(super) lost: u64,
}

impl Sequence {
    pub(super) fn new(keep: Duration) -> Self {
        Self { keep, ..Self::default() }
    }

    pub(super) fn raise(&mut self, log: u64, position: u64) {
        let now = Instant::now();
        if self.received_at.insert(log, now).is_none() {
            // A log keeps its events for that time only.
            self.received_at.retain(|_, at| now.duration_since(*at) < self.keep);
            self.received.retain(|log| self.received_at.contains_key(&log));
        }
        self.received.raise(log, position);
    }

    /// The place of an event of this node.
    pub(super) fn at(&mut self, me: u64, is_logged: bool, text: &str) -> Option<At> {
        let last = self.last;
        self.received(me, last, is_logged, text)
    }

    /// The place of an event that the clients here receive now.
    pub(super) fn received(&mut self, log: u64, position: u64, is_logged: bool, text: &str) -> Option<At> {
        if is_logged {
            self.raise(log, position);
        } else if !ends_in_text(text) {
            return None;
        }
        Some(At { log, position, is_logged, offset: self.received.to_string() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_event_has_everything_that_was_received_before_it() {
        let mut sequence = Sequence { keep: Duration::from_secs(10), ..Sequence::default() };
        assert_eq!(sequence.received(1, 4, true, "[]").unwrap().offset, "0000000001.4");
        assert_eq!(sequence.received(2, 9, true, "[]").unwrap().offset, "0000000001.4,0000000002.9");
        // A volatile event has an offset only where a client would take its last argument for one.
        assert!(sequence.received(2, 10, false, "[\"e\"]").is_none_or(|at| at.offset == "0000000001.4,0000000002.9"));
        assert!(sequence.received(2, 11, false, "[\"e\",1]").is_none());
    }

    #[test]
    fn a_log_that_is_silent_for_long_is_forgotten() {
        let mut sequence = Sequence::default();
        sequence.raise(1, 4);
        sequence.raise(2, 9);
        assert_eq!(sequence.received.to_string(), "0000000002.9");
    }
}
