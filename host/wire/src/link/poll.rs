//! The polling side of a connection's queue: one poll at a time takes what waits, and an upgrade moves the queue to a websocket.

use std::task::{Context, Poll};

use tokio::net::tcp::OwnedWriteHalf;

use super::{End, How, Link, Out, PollState, Transport};
use crate::message::SEPARATOR;

/// Packets of the engine.
const CLOSE: u8 = b'1';
const NOOP: u8 = b'6';

/// Why a poll is not answered with packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPoll {
    /// Another one waits.
    Overlap,
    /// The session has ended, and there is nothing more to say.
    Ended,
}

impl Link {
    /// A poll begins to wait.
    ///
    /// # Errors
    /// Another one waits, or the session has ended.
    pub(crate) fn begin_poll(&self) -> Result<(), NoPoll> {
        let mut out = self.out();
        let has_ended = out.end.is_some_and(|end| !end.is_told_later());
        match &mut out.transport {
            Transport::Polling(poll) if has_ended || poll.told => Err(NoPoll::Ended),
            Transport::Polling(poll) if poll.waiting => Err(NoPoll::Overlap),
            Transport::Polling(poll) => {
                poll.waiting = true;
                Ok(())
            }
            Transport::Websocket(_) => Ok(()),
            Transport::None => Err(NoPoll::Ended),
        }
    }

    /// The answer to the poll that waits.
    pub(crate) fn poll_answer(&self, cx: &Context<'_>) -> Poll<Vec<u8>> {
        let mut out = self.out();
        let answer = out.answer(self.config.poll_packets);
        if let Transport::Polling(poll) = &mut out.transport {
            match &answer {
                Some(_) => *poll = PollState { told: poll.told, ..PollState::default() },
                None => poll.waker = Some(cx.waker().clone()),
            }
        }
        self.note_crowd(&out);
        // A POST may wait for room; and where the end has been told, the session's task has nothing more to wait for.
        if answer.is_some() {
            out.wake();
        }
        answer.map_or(Poll::Pending, Poll::Ready)
    }

    /// Answers a waiting poll with a noop, so that its client can complete an upgrade. Whether one waited.
    pub(crate) fn release_poll(&self) -> bool {
        let mut out = self.out();
        let Transport::Polling(poll) = &mut out.transport else { return false };
        if poll.waiting {
            poll.release = true;
            poll.wake();
        }
        poll.waiting
    }

    /// Whether the client has been told of the end, in the answer to a poll.
    pub(crate) fn is_end_told(&self) -> bool {
        match &self.out().transport {
            Transport::Polling(poll) => poll.told,
            Transport::Websocket(_) | Transport::None => true,
        }
    }

    /// Moves the connection from polling to a websocket. What is queued goes there. `hand_over` gives the reading side to the
    /// connection's task, before that is woken. False: the connection has ended, or is a websocket already.
    pub(crate) fn upgrade(&self, writer: OwnedWriteHalf, hand_over: impl FnOnce()) -> bool {
        let mut out = self.out();
        if out.end.is_some() {
            return false;
        }
        let Transport::Polling(poll) = &mut out.transport else { return false };
        // A poll that still waits is answered with a noop.
        poll.wake();
        hand_over();
        out.transport = Transport::Websocket(writer);
        out.wake();
        true
    }
}

impl Out {
    /// None: the poll waits on.
    fn answer(&mut self, most: usize) -> Option<Vec<u8>> {
        let Transport::Polling(poll) = &mut self.transport else { return Some(vec![NOOP]) };
        match self.end {
            // The client has closed the session itself.
            Some(End { how: How::Gone, .. }) => {
                poll.told = true;
                return Some(vec![NOOP]);
            }
            Some(_) => poll.told = true,
            None => {}
        }
        let (ended, released) = (self.end.is_some(), poll.release);
        if !ended && self.queue.is_empty() {
            return released.then(|| vec![NOOP]);
        }
        // After an end there is no other poll: all that waits goes into this one.
        let mut body = Vec::with_capacity(self.bytes);
        let count = if ended { self.queue.len() } else { self.queue.len().min(most) };
        for message in self.queue.drain(..count) {
            self.bytes -= message.0.len();
            message.append_to_poll(&mut body);
        }
        if ended {
            if !body.is_empty() {
                body.push(SEPARATOR);
            }
            body.push(CLOSE);
        } else if body.is_empty() {
            body.push(NOOP);
        }
        if self.queue.is_empty() {
            self.queue = std::collections::VecDeque::new();
        }
        Some(body)
    }
}
