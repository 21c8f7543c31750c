//! The queue of packets for one client, and its transport. All of it is behind the lock of a [`Link`](super::Link).

use std::collections::VecDeque;
use std::io;
use std::task::Waker;

use tokio::net::tcp::OwnedWriteHalf;

use super::end::End;
use crate::config::Config;
use crate::message::Message;
use crate::reason::QueueLimit;

/// The capacity that an empty queue may keep.
const KEPT_CAPACITY: usize = 16;

/// Packets in one vectored write.
pub(super) const PIECES: usize = 64;

pub(super) struct Outbox {
    pub(super) transport: Transport,
    pub(super) queue: VecDeque<Message>,
    /// Bytes in the queue.
    pub(super) bytes: usize,
    /// Packets of the queue, and their bytes, that a resumed socket has missed. They do not count in its limits.
    missed: (usize, usize),
    /// Bytes of the first packet that were written.
    pub(super) head: usize,
    /// Packets are queued without a write: the connection's task is reading a burst, and flushes after it.
    pub(super) corked: bool,
    /// The handler has disconnected sockets, which the connection's task is to end.
    pub(super) sweep: bool,
    /// A write has failed. The connection ends when everything that the client has sent before was read.
    pub(super) failed: bool,
    pub(super) end: Option<End>,
    /// The connection's task.
    pub(super) task: Option<Waker>,
    /// A POST that waits for the reader.
    pub(super) post: Option<Waker>,
}

pub(super) enum Transport {
    Polling(PollState),
    Websocket(OwnedWriteHalf),
    /// The websocket is closed.
    None,
}

#[derive(Default)]
pub(super) struct PollState {
    /// A poll is waiting.
    pub(super) waiting: bool,
    pub(super) waker: Option<Waker>,
    /// The waiting poll is to be answered with a noop, so that the client can upgrade.
    pub(super) release: bool,
    /// The last poll was answered.
    pub(super) end_sent: bool,
}

impl Outbox {
    pub(super) fn new(transport: Transport) -> Self {
        Self {
            transport,
            queue: VecDeque::new(),
            bytes: 0,
            missed: (0, 0),
            head: 0,
            corked: false,
            sweep: false,
            failed: false,
            end: None,
            task: None,
            post: None,
        }
    }

    pub(super) fn wake(&mut self) {
        if let Some(task) = &self.task {
            task.wake_by_ref();
        }
        if let Some(post) = self.post.take() {
            post.wake();
        }
    }

    /// The packets and bytes that count in the limits of the queue.
    pub(super) fn counted(&self) -> (usize, usize) {
        // Missed packets may be popped in any order of sockets, so the difference may be below zero.
        (self.queue.len().saturating_sub(self.missed.0), self.bytes.saturating_sub(self.missed.1))
    }

    pub(super) fn push(&mut self, message: &Message, written: usize, config: &Config) -> Result<(), QueueLimit> {
        let (packets, bytes) = self.counted();
        if let Some(limit) = config.queue_limit(packets, bytes, message.size()) {
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
            // The task is awake already if the queue was not empty, and while it is corked.
            _ if was_empty && !self.corked => self.wake(),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn push_missed(&mut self, missed: &[Message]) {
        let bytes: usize = missed.iter().map(Message::size).sum();
        self.bytes += bytes;
        self.missed = (self.missed.0 + missed.len(), self.missed.1 + bytes);
        self.queue.extend(missed.iter().cloned());
        match &mut self.transport {
            Transport::Polling(poll) => poll.wake(),
            Transport::Websocket(_) | Transport::None => self.wake(),
        }
    }

    /// Notes that the first packet has left the queue.
    pub(super) fn popped(&mut self, size: usize) {
        self.bytes -= size;
        self.missed = match self.queue.is_empty() {
            true => (0, 0),
            false => (self.missed.0.saturating_sub(1), self.missed.1.saturating_sub(size)),
        };
    }

    /// Notes that a write has failed.
    pub(super) fn fail(&mut self) {
        self.failed = true;
        self.clear();
        self.wake();
    }

    pub(super) fn clear(&mut self) {
        self.queue = VecDeque::new();
        (self.bytes, self.head, self.missed) = (0, 0, (0, 0));
    }

    /// Writes until the queue is empty or the kernel takes no more.
    pub(super) fn flush(&mut self) -> io::Result<()> {
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

    pub(super) fn write(&self, writer: &OwnedWriteHalf) -> io::Result<usize> {
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

    pub(super) fn advance(&mut self, written: usize) {
        self.head += written;
        while let Some(first) = self.queue.front() {
            let length = first.0.len();
            if self.head < length {
                return;
            }
            self.head -= length;
            self.queue.pop_front();
            self.popped(length);
        }
        if self.queue.capacity() > KEPT_CAPACITY {
            self.queue = VecDeque::new();
        }
    }
}

impl PollState {
    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
