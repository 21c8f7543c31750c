//! The shared part of a connection: the queue of packets for its client, and its end. Any task may send. A packet is written at once
//! if the queue is empty, and otherwise by the connection's own task.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;

use crate::asks::Asks;
use crate::config::Config;
use crate::id::SessionId;
use crate::message::Message;
use crate::reason::Reason;
pub(crate) use end::{End, How};
use outbox::{Outbox, PIECES, PollState, Transport};

pub(crate) mod end;
mod outbox;
pub(crate) mod poll;

/// The shared part of a connection.
pub(crate) struct Link {
    pub(crate) id: SessionId,
    pub(crate) config: Arc<Config>,
    /// The number of pauses that were not resumed yet.
    paused: AtomicUsize,
    /// Whether reading was resumed since the last call of `take_resumed`.
    resumed: AtomicBool,
    /// The handler has disconnected all sockets of the connection.
    leaving: AtomicBool,
    /// Whether `Outbox::end` is set, to be read without its lock.
    ended: AtomicBool,
    /// The queue is half full, so nothing more is read from the client until it takes its answers.
    backpressure: AtomicBool,
    out: Mutex<Outbox>,
    pub(crate) asks: Asks,
}

/// The work that is due for a connection's task.
pub(crate) struct Due {
    pub(crate) end: Option<End>,
    /// The handler has disconnected sockets.
    pub(crate) sweep: bool,
    /// A write has failed.
    pub(crate) failed: bool,
    /// The transport is a websocket, from the start or by an upgrade.
    pub(crate) upgraded: bool,
}

/// The outcome of sending a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The kernel has taken the message.
    Written,
    /// The message is queued.
    Queued,
    /// The message was volatile, and the queue is full.
    Dropped,
    /// The socket or its connection has ended.
    Closed,
}

impl Link {
    pub(crate) fn polling(id: SessionId, config: Arc<Config>) -> Arc<Self> {
        Self::new(id, config, Transport::Polling(PollState::default()))
    }

    pub(crate) fn websocket(id: SessionId, config: Arc<Config>, writer: OwnedWriteHalf) -> Arc<Self> {
        Self::new(id, config, Transport::Websocket(writer))
    }

    /// A connection without a client.
    pub(crate) fn unconnected() -> Arc<Self> {
        Self::new(SessionId::random(), Arc::default(), Transport::None)
    }

    fn new(id: SessionId, config: Arc<Config>, transport: Transport) -> Arc<Self> {
        let out = Outbox::new(transport);
        let asks = Asks::new(config.asks);
        Arc::new(Self {
            id,
            config,
            paused: AtomicUsize::new(0),
            resumed: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            backpressure: AtomicBool::new(false),
            out: Mutex::new(out),
            asks,
        })
    }

    fn out(&self) -> MutexGuard<'_, Outbox> {
        // No code that can panic runs under this lock.
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a message, or queues it.
    pub(crate) fn send(&self, message: &Message, volatile: bool) -> Sent {
        self.send_noting(message, volatile, || {})
    }

    /// As [`Link::send`]. `note` is called under the lock that orders the messages, unless the connection has ended.
    pub(crate) fn send_noting(&self, message: &Message, volatile: bool, note: impl FnOnce()) -> Sent {
        let mut out = self.out();
        if out.end.is_some() || out.failed {
            return Sent::Closed;
        }
        note();
        let mut written = 0;
        if out.queue.is_empty() && !out.corked {
            match &out.transport {
                Transport::Websocket(writer) => match writer.try_write(&message.0) {
                    Ok(count) if count == message.0.len() => return Sent::Written,
                    Ok(count) => written = count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => {
                        out.fail();
                        return Sent::Closed;
                    }
                },
                Transport::Polling(_) => {}
                Transport::None => return Sent::Closed,
            }
        }
        match out.push(message, written, &self.config) {
            Ok(()) => {
                if out.corked && out.queue.len() >= PIECES {
                    // More would not fit in one vectored write.
                    let _ = out.flush();
                }
                self.update_backpressure(&out);
                Sent::Queued
            }
            // Not reached by a message that is written in part: the queue was empty then.
            Err(_) if volatile => Sent::Dropped,
            Err(limit) => {
                self.end_in(&mut out, Reason::SlowConsumer(limit), How::Abort);
                Sent::Closed
            }
        }
    }

    /// Queues the messages that a resumed socket has missed. They do not count in the limits of the queue, and are written when the
    /// connection's task flushes.
    pub(crate) fn send_missed(&self, missed: &[Message]) {
        let mut out = self.out();
        if out.end.is_none() && !out.failed && !missed.is_empty() {
            out.push_missed(missed);
        }
    }

    /// Ends the connection. Returns false if it had ended before.
    pub(crate) fn end(&self, reason: Reason, how: How) -> bool {
        self.end_in(&mut self.out(), reason, how)
    }

    fn end_in(&self, out: &mut Outbox, reason: Reason, how: How) -> bool {
        if out.end.is_some() {
            return false;
        }
        out.end = Some(End { reason, how });
        self.ended.store(true, Ordering::Release);
        if matches!(how, How::Abort | How::Gone) {
            out.clear();
        }
        if let Transport::Polling(poll) = &mut out.transport {
            poll.wake();
        }
        out.wake();
        true
    }

    /// The end of the connection, if it has ended.
    pub(crate) fn ended(&self) -> Option<End> {
        if self.has_ended() { self.out().end } else { None }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Lets the connection's task end the sockets that the handler has disconnected.
    pub(crate) fn sweep_later(&self) {
        let mut out = self.out();
        out.sweep = true;
        out.wake();
    }

    /// Lets the connection's task disconnect all its sockets.
    pub(crate) fn disconnect_all(&self) {
        self.leaving.store(true, Ordering::Release);
        self.sweep_later();
    }

    /// Whether all sockets are to be disconnected, since the last call.
    pub(crate) fn take_leaving(&self) -> bool {
        self.leaving.swap(false, Ordering::AcqRel)
    }

    /// Wakes the connection's task.
    pub(crate) fn wake(&self) {
        self.out().wake();
    }

    /// Wakes a POST that waits for the reader.
    pub(crate) fn wake_post(&self) {
        if let Some(post) = self.out().post.take() {
            post.wake();
        }
    }

    pub(crate) fn pause(&self) {
        self.paused.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn resume(&self) {
        // A resume without a pause changes nothing.
        let less = |paused: usize| paused.checked_sub(1);
        if self.paused.fetch_update(Ordering::AcqRel, Ordering::Acquire, less) == Ok(1) {
            self.resumed.store(true, Ordering::Release);
            self.wake();
        }
    }

    /// Ends all pauses, since the connection is ending.
    pub(crate) fn unblock(&self) {
        self.paused.store(0, Ordering::Release);
        self.backpressure.store(false, Ordering::Release);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire) > 0
    }

    pub(crate) fn take_resumed(&self) -> bool {
        self.resumed.swap(false, Ordering::AcqRel)
    }

    /// Whether reading is stopped: the handler has paused it, or the client does not take its answers.
    pub(crate) fn is_blocked(&self) -> bool {
        self.is_paused() || self.backpressure.load(Ordering::Acquire)
    }

    /// Answers to the client's own events fill at most half of its queue. The other half is left for broadcasts.
    fn update_backpressure(&self, out: &Outbox) {
        let is_half_full = out.queue.len() * 2 >= self.config.queue_packets.max(2) || out.bytes * 2 >= self.config.queue_bytes;
        if self.backpressure.load(Ordering::Relaxed) != is_half_full {
            self.backpressure.store(is_half_full, Ordering::Release);
        }
    }

    /// Packets and bytes in the queue.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let out = self.out();
        (out.queue.len(), out.bytes - out.head)
    }

    /// Packets in the queue that count in its limit.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn counted(&self) -> usize {
        self.out().counted().0
    }

    pub(crate) fn is_websocket(&self) -> bool {
        matches!(self.out().transport, Transport::Websocket(_))
    }

    /// The work that is due for the connection's task, which is woken when there is more.
    pub(crate) fn due(&self, cx: &Context<'_>) -> Due {
        let mut out = self.out();
        if !out.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            out.task = Some(cx.waker().clone());
        }
        let upgraded = matches!(out.transport, Transport::Websocket(_));
        Due { end: out.end, sweep: std::mem::take(&mut out.sweep), failed: out.failed, upgraded }
    }

    /// Registers a POST that waits for a change.
    pub(crate) fn wait(&self, cx: &Context<'_>) {
        self.out().post = Some(cx.waker().clone());
    }

    /// Queues messages until `poll_flush`, so that they are written together. Has no effect if messages wait for the kernel already.
    pub(crate) fn cork(&self) {
        let mut out = self.out();
        out.corked = out.queue.is_empty();
    }

    /// Writes the queue, and ends a cork.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut out = self.out();
        out.corked = false;
        let outcome = loop {
            match out.flush() {
                Ok(()) => break Poll::Ready(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    out.fail();
                    break Poll::Ready(());
                }
            }
            let Transport::Websocket(writer) = &out.transport else { break Poll::Pending };
            match AsRef::<TcpStream>::as_ref(writer).poll_write_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => {
                    out.fail();
                    break Poll::Ready(());
                }
                Poll::Pending => break Poll::Pending,
            }
        };
        self.update_backpressure(&out);
        outcome
    }

    /// Closes the writing side of the websocket.
    pub(crate) fn close(&self) {
        let mut out = self.out();
        out.clear();
        out.transport = Transport::None;
        out.task = None;
    }

    /// Detaches the task of a polling session that has ended. A waiting poll still gets its answer.
    pub(crate) fn detach(&self) {
        let mut out = self.out();
        out.task = None;
        if !matches!(&out.transport, Transport::Polling(poll) if poll.waiting) {
            out.clear();
        }
    }

    /// Queues a close frame. Nothing else is sent after the end.
    pub(crate) fn push_last(&self, frame: Message) {
        let mut out = self.out();
        out.bytes += frame.0.len();
        out.queue.push_back(frame);
    }
}
