//! What is shared of one connection: the queue of packets for its client, and its end. Any task may send; the packet is written at
//! once where nothing waits before it, and else by the connection's own task.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;

use crate::asks::Asks;
use crate::config::Config;
use crate::id::SessionId;
use crate::message::Message;
use crate::reason::{QueueLimit, Reason};

pub(crate) mod poll;

/// One connection, as its sockets and the layer above reach it.
pub(crate) struct Link {
    pub(crate) id: SessionId,
    pub(crate) config: Arc<Config>,
    /// How many times the layer above has paused the reader, less how many times it has resumed it.
    paused: AtomicUsize,
    /// Set together with `Out::end`, to be read without its lock.
    ended: AtomicBool,
    /// So much waits for the client that nothing more is read from it: it must take its answers first.
    crowded: AtomicBool,
    out: Mutex<Out>,
    pub(crate) asks: Asks,
}

/// Packets that may keep their place in memory when a queue is empty again.
const KEPT_CAPACITY: usize = 16;

/// Pieces of one vectored write.
const PIECES: usize = 64;

struct Out {
    transport: Transport,
    queue: VecDeque<Message>,
    /// Bytes in the queue.
    bytes: usize,
    /// Bytes of the first packet that are written already.
    head: usize,
    /// Packets are only queued: the connection's task reads a burst, and writes what it answers all together.
    corked: bool,
    /// Sockets of this connection were disconnected by the layer above, and the connection's task is to see to them.
    left: bool,
    end: Option<End>,
    /// The connection's task.
    task: Option<Waker>,
    /// A POST that waits for its turn, or for the reader to be resumed.
    post: Option<Waker>,
}

enum Transport {
    Polling(PollState),
    Websocket(OwnedWriteHalf),
    /// The websocket is closed.
    None,
}

#[derive(Default)]
struct PollState {
    /// A poll waits for its answer.
    waiting: bool,
    waker: Option<Waker>,
    /// The poll is to be answered with a noop, so that the client can upgrade.
    release: bool,
    /// The client has been told of the end.
    told: bool,
}

/// Why a connection ends, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) reason: Reason,
    pub(crate) how: How,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// After what is queued: by a close frame, or by a close packet in the answer to the next poll.
    Flush,
    /// By a close frame with a code. A poll that waits is answered, and no other will be.
    Code(Option<u16>),
    /// The client has closed it, or is unreachable.
    Gone,
    /// At once, with what is queued thrown away.
    Abort,
}

impl End {
    /// Whether a polling client is told by its next poll, where none waits.
    pub(crate) fn is_told_later(self) -> bool {
        matches!(self.how, How::Flush | How::Gone)
    }
}

/// What a connection's task has to do.
pub(crate) struct Due {
    pub(crate) end: Option<End>,
    /// Sockets were disconnected by the layer above.
    pub(crate) left: bool,
    /// A websocket has taken the place of polling.
    pub(crate) upgraded: bool,
}

/// The outcome of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The kernel has taken the message.
    Written,
    /// The message waits for its turn.
    Queued,
    /// The message was volatile, and the client was not ready for it.
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

    fn new(id: SessionId, config: Arc<Config>, transport: Transport) -> Arc<Self> {
        let out = Out {
            transport,
            queue: VecDeque::new(),
            bytes: 0,
            head: 0,
            corked: false,
            left: false,
            end: None,
            task: None,
            post: None,
        };
        let asks = Asks::new(config.asks);
        Arc::new(Self {
            id,
            config,
            paused: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            crowded: AtomicBool::new(false),
            out: Mutex::new(out),
            asks,
        })
    }

    fn out(&self) -> MutexGuard<'_, Out> {
        // Under this lock values are moved and bytes are written: a panic leaves none half done.
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a message: written now, or queued.
    pub(crate) fn send(&self, message: &Message, volatile: bool) -> Sent {
        let mut out = self.out();
        if out.end.is_some() {
            return Sent::Closed;
        }
        let mut written = 0;
        if out.queue.is_empty() && !out.corked {
            match &out.transport {
                Transport::Websocket(writer) => match writer.try_write(&message.0) {
                    Ok(count) if count == message.0.len() => return Sent::Written,
                    Ok(count) => written = count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => {
                        self.end_in(&mut out, Reason::TransportError, How::Gone);
                        return Sent::Closed;
                    }
                },
                Transport::Polling(_) => {}
                Transport::None => return Sent::Closed,
            }
        }
        // What is written in part must be written to its end.
        if volatile && written == 0 && !out.is_waited_for() {
            return Sent::Dropped;
        }
        match out.push(message, written, &self.config) {
            Ok(()) => {
                if out.corked && out.queue.len() >= PIECES {
                    // More would not fit one write.
                    let _ = out.flush();
                }
                self.note_crowd(&out);
                Sent::Queued
            }
            Err(limit) => {
                self.end_in(&mut out, Reason::SlowConsumer(limit), How::Abort);
                Sent::Closed
            }
        }
    }

    /// Ends the connection, unless it has ended.
    pub(crate) fn end(&self, reason: Reason, how: How) -> bool {
        self.end_in(&mut self.out(), reason, how)
    }

    fn end_in(&self, out: &mut Out, reason: Reason, how: How) -> bool {
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

    /// How it has ended.
    pub(crate) fn ended(&self) -> Option<End> {
        if self.has_ended() { self.out().end } else { None }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// A socket was disconnected by the layer above.
    pub(crate) fn left(&self) {
        let mut out = self.out();
        out.left = true;
        out.wake();
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
        // More resumes than pauses are a mistake, and change nothing.
        let less = |paused: usize| paused.checked_sub(1);
        if self.paused.fetch_update(Ordering::AcqRel, Ordering::Acquire, less) == Ok(1) {
            self.wake();
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire) > 0
    }

    /// Whether nothing is read now: the layer above has paused the reader, or the client does not take its answers.
    pub(crate) fn is_held_up(&self) -> bool {
        self.is_paused() || self.crowded.load(Ordering::Acquire)
    }

    /// Half of the queue is left to what others send.
    fn note_crowd(&self, out: &Out) {
        let is_crowded = out.queue.len() * 2 >= self.config.queue_packets.max(2) || out.bytes * 2 >= self.config.queue_bytes;
        if self.crowded.load(Ordering::Relaxed) != is_crowded {
            self.crowded.store(is_crowded, Ordering::Release);
        }
    }

    /// Packets and bytes that wait.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let out = self.out();
        (out.queue.len(), out.bytes - out.head)
    }

    pub(crate) fn is_websocket(&self) -> bool {
        matches!(self.out().transport, Transport::Websocket(_))
    }

    /// What the connection's task has to do. It is woken when there is more.
    pub(crate) fn due(&self, cx: &Context<'_>) -> Due {
        let mut out = self.out();
        if !out.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            out.task = Some(cx.waker().clone());
        }
        Due { end: out.end, left: std::mem::take(&mut out.left), upgraded: matches!(out.transport, Transport::Websocket(_)) }
    }

    /// A POST waits until something has changed.
    pub(crate) fn wait(&self, cx: &Context<'_>) {
        self.out().post = Some(cx.waker().clone());
    }

    /// From now on messages are queued, until they are flushed together.
    pub(crate) fn cork(&self) {
        let mut out = self.out();
        out.corked = out.queue.is_empty();
    }

    /// Writes what is queued, as far as the client takes it.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut out = self.out();
        out.corked = false;
        let outcome = loop {
            match out.flush() {
                Ok(()) => break Poll::Ready(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => break self.failed(&mut out),
            }
            let Transport::Websocket(writer) = &out.transport else { break Poll::Pending };
            match AsRef::<TcpStream>::as_ref(writer).poll_write_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => break self.failed(&mut out),
                Poll::Pending => break Poll::Pending,
            }
        };
        self.note_crowd(&out);
        outcome
    }

    fn failed(&self, out: &mut Out) -> Poll<()> {
        self.end_in(out, Reason::TransportError, How::Gone);
        out.clear();
        Poll::Ready(())
    }

    /// Closes the websocket: no more is written.
    pub(crate) fn close(&self) {
        let mut out = self.out();
        out.clear();
        out.transport = Transport::None;
        out.task = None;
    }

    /// The polling session has ended, and its task with it. A poll that still waits takes its answer.
    pub(crate) fn rest(&self) {
        let mut out = self.out();
        out.task = None;
        if !matches!(&out.transport, Transport::Polling(poll) if poll.waiting) {
            out.clear();
        }
    }

    /// Queues a frame after the end, when nothing else is sent any more.
    pub(crate) fn last(&self, frame: Message) {
        let mut out = self.out();
        out.bytes += frame.0.len();
        out.queue.push_back(frame);
    }
}

impl Out {
    fn wake(&mut self) {
        if let Some(task) = &self.task {
            task.wake_by_ref();
        }
        if let Some(post) = self.post.take() {
            post.wake();
        }
    }

    /// Whether a packet can leave at once.
    fn is_waited_for(&self) -> bool {
        match &self.transport {
            Transport::Polling(poll) => poll.waiting && self.queue.is_empty(),
            Transport::Websocket(_) => self.corked,
            Transport::None => false,
        }
    }

    fn push(&mut self, message: &Message, written: usize, config: &Config) -> Result<(), QueueLimit> {
        if let Some(limit) = config.queue_limit(self.queue.len(), self.bytes, message.size()) {
            return Err(limit);
        }
        let was_empty = self.queue.is_empty();
        if was_empty {
            self.head = written;
        }
        self.bytes += message.0.len();
        self.queue.push_back(message.clone());
        match &mut self.transport {
            Transport::Polling(poll) => poll.wake(),
            // Where others wait already, the task knows, and so it does while it is corked.
            _ if was_empty && !self.corked => self.wake(),
            _ => {}
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.queue = VecDeque::new();
        (self.bytes, self.head) = (0, 0);
    }

    /// Writes as much as the kernel takes.
    fn flush(&mut self) -> io::Result<()> {
        while !self.queue.is_empty() {
            let written = match &self.transport {
                Transport::Websocket(writer) => self.write(writer)?,
                Transport::Polling(_) => return Err(io::ErrorKind::WouldBlock.into()),
                Transport::None => break,
            };
            self.advance(written);
        }
        Ok(())
    }

    fn write(&self, writer: &OwnedWriteHalf) -> io::Result<usize> {
        let head = self.queue.front().map_or(&[][..], |first| &first.0[self.head..]);
        if self.queue.len() == 1 {
            return writer.try_write(head);
        }
        let mut pieces = [io::IoSlice::new(&[]); PIECES];
        let rest = self.queue.iter().skip(1).map(|message| &message.0[..]);
        let mut count = 0;
        for (piece, bytes) in pieces.iter_mut().zip(std::iter::once(head).chain(rest)) {
            *piece = io::IoSlice::new(bytes);
            count += 1;
        }
        writer.try_write_vectored(&pieces[..count])
    }

    fn advance(&mut self, written: usize) {
        self.head += written;
        while let Some(first) = self.queue.front() {
            let length = first.0.len();
            if self.head < length {
                return;
            }
            self.head -= length;
            self.bytes -= length;
            self.queue.pop_front();
        }
        if self.queue.capacity() > KEPT_CAPACITY {
            self.queue = VecDeque::new();
        }
    }
}

impl PollState {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
