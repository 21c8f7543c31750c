//! The queue of a polling session: one poll at a time takes it, and an upgrade moves it to a websocket.

use std::task::{Context, Poll};

use tokio::net::tcp::OwnedWriteHalf;

use super::outbox::{Outbox, PollState, Transport};
use super::{End, How, Link};
use crate::message::SEPARATOR;
use crate::reason::Reason;

/// Packets of the engine.
const CLOSE: u8 = b'1';
const NOOP: u8 = b'6';

/// A poll that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPoll {
    /// Another poll is waiting.
    Overlap,
    /// The session has ended.
    Ended,
}

impl Link {
    /// Begins a poll.
    ///
    /// # Errors
    /// Another poll is waiting, or the session has ended.
    pub(crate) fn begin_poll(&self) -> Result<(), NoPoll> {
        let mut out = self.out();
        let has_ended = out.end.is_some_and(|end| !end.waits_for_poll());
        match &mut out.transport {
            Transport::Polling(poll) if has_ended || poll.end_sent => Err(NoPoll::Ended),
            Transport::Polling(poll) if poll.waiting => Err(NoPoll::Overlap),
            Transport::Polling(poll) => {
                poll.waiting = true;
                Ok(())
            }
            Transport::Websocket(_) => Ok(()),
            Transport::None => Err(NoPoll::Ended),
        }
    }

    /// Ends the session, unless a websocket has taken its place: requests from before an upgrade must not end the websocket.
    pub(crate) fn end_polling(&self, reason: Reason, how: How) {
        let mut out = self.out();
        if matches!(out.transport, Transport::Polling(_)) {
            self.end_in(&mut out, reason, how);
        }
    }

    /// The answer to the waiting poll.
    pub(crate) fn poll_answer(&self, cx: &Context<'_>) -> Poll<Vec<u8>> {
        let mut out = self.out();
        let answer = out.answer(self.config.poll_packets);
        if let Transport::Polling(poll) = &mut out.transport {
            match &answer {
                Some(_) => *poll = PollState { end_sent: poll.end_sent, ..PollState::default() },
                None => poll.waker = Some(cx.waker().clone()),
            }
        }
        self.update_backpressure(&out);
        // A POST may wait for room in the queue, and the task of an ended session for this poll.
        if answer.is_some() {
            out.wake();
        }
        answer.map_or(Poll::Pending, Poll::Ready)
    }

    /// Answers a waiting poll with a noop, so that its client can complete an upgrade.
    pub(crate) fn release_poll(&self) {
        if let Transport::Polling(poll) = &mut self.out().transport
            && poll.waiting
        {
            poll.release = true;
            poll.wake();
        }
    }

    /// Answers the waiting poll, or else the next one, with a noop.
    pub(crate) fn release_next_poll(&self) {
        if let Transport::Polling(poll) = &mut self.out().transport {
            poll.release = true;
            poll.wake();
        }
    }

    /// Whether the last poll was answered.
    pub(crate) fn is_end_sent(&self) -> bool {
        match &self.out().transport {
            Transport::Polling(poll) => poll.end_sent,
            Transport::Websocket(_) | Transport::None => true,
        }
    }

    /// Moves the connection and its queue from polling to a websocket. `hand_over` stores the reading side for the connection's task
    /// before the task is woken.
    ///
    /// # Errors
    /// The connection has ended or is a websocket already.
    pub(crate) fn upgrade(&self, writer: OwnedWriteHalf, hand_over: impl FnOnce()) -> Result<(), OwnedWriteHalf> {
        let mut out = self.out();
        let (None, Transport::Polling(poll)) = (out.end, &mut out.transport) else { return Err(writer) };
        // A waiting poll is answered with a noop.
        poll.wake();
        hand_over();
        out.transport = Transport::Websocket(writer);
        out.wake();
        Ok(())
    }
}

impl Outbox {
    /// Returns None while the poll is to wait.
    fn answer(&mut self, most: usize) -> Option<Vec<u8>> {
        let Transport::Polling(poll) = &mut self.transport else { return Some(vec![NOOP]) };
        match self.end {
            // The client has closed the session itself.
            Some(End { how: How::Gone, .. }) => {
                poll.end_sent = true;
                return Some(vec![NOOP]);
            }
            Some(_) => poll.end_sent = true,
            None => {}
        }
        let (ended, released) = (self.end.is_some(), poll.release);
        if !ended && self.queue.is_empty() {
            return released.then(|| vec![NOOP]);
        }
        // After the end there is no other poll, so this one takes the whole queue.
        let mut body = Vec::with_capacity(self.bytes);
        let count = if ended { self.queue.len() } else { self.queue.len().min(most) };
        for _ in 0..count {
            let Some(message) = self.queue.pop_front() else { break };
            self.popped(message.size());
            message.append_to_poll(&mut body);
        }
        // After a close packet Python's client does not reconnect. Without one, every client finds its session gone at the next poll.
        if self.end.is_some_and(|end| !matches!(end.reason, Reason::Closed(_))) {
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
