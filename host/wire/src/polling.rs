//! A polling session. Its task keeps the heartbeat, its GETs take the queue, its POSTs bring packets. After an upgrade the same task
//! serves the websocket.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::{Instant, Sleep, sleep};

use crate::frame::decoder::Decoder;
use crate::handler::Handler;
use crate::io::Incoming;
use crate::link::{End, How, Link};
use crate::reader::Reader;
use crate::reason::Reason;
use crate::websocket;

pub(crate) mod get;
pub(crate) mod post;

/// The first wake-up of the timer. It is reset at the first poll.
const LOOK: Duration = Duration::from_secs(1);

/// The time in which a poll can arrive that was sent before the client closed the session.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// A session that polls.
pub(crate) struct Session<H: Handler> {
    pub(crate) link: Arc<Link>,
    /// Taken by the task or by a POST while it uses it.
    reader: Mutex<Option<Box<Reader<H>>>>,
    /// A POST is under way.
    posting: AtomicBool,
    /// An upgrade is under way.
    pub(crate) upgrading: AtomicBool,
    /// The websocket after an upgrade, until the task takes it.
    websocket: Mutex<Option<(Incoming, Decoder)>>,
}

enum Next<H: Handler> {
    Websocket(Box<Reader<H>>),
    End(Box<Reader<H>>, End),
}

impl<H: Handler> Session<H> {
    pub(crate) fn new(reader: Box<Reader<H>>) -> Arc<Self> {
        Arc::new(Self {
            link: reader.link.clone(),
            reader: Mutex::new(Some(reader)),
            posting: AtomicBool::new(false),
            upgrading: AtomicBool::new(false),
            websocket: Mutex::new(None),
        })
    }

    fn take(&self) -> Option<Box<Reader<H>>> {
        lock(&self.reader).take()
    }

    fn put_back(&self, reader: Box<Reader<H>>) {
        *lock(&self.reader) = Some(reader);
        self.link.wake_post();
    }

    /// Upgrades the session to a websocket.
    ///
    /// # Errors
    /// The session has ended or is a websocket already.
    pub(crate) fn upgrade(
        &self,
        incoming: Incoming,
        decoder: Decoder,
        writer: OwnedWriteHalf,
    ) -> Result<(), (Incoming, OwnedWriteHalf)> {
        let mut reading = Some((incoming, decoder));
        let upgraded = self.link.upgrade(writer, || *lock(&self.websocket) = reading.take());
        match (upgraded, reading) {
            (Err(writer), Some((incoming, _))) => Err((incoming, writer)),
            _ => Ok(()),
        }
    }

    /// The work of the task at each wake-up.
    fn poll(&self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<Next<H>> {
        loop {
            let due = self.link.due(cx);
            let Some(mut reader) = self.take() else {
                // A POST has it, and wakes this task when it puts it back.
                if due.sweep {
                    self.link.sweep_later();
                }
                return Poll::Pending;
            };
            // Even if it has ended: the websocket must be closed.
            if due.upgraded {
                return Poll::Ready(Next::Websocket(reader));
            }
            if let Some(end) = due.end {
                return Poll::Ready(Next::End(reader, end));
            }
            if due.sweep {
                reader.sweep();
            }
            let _ = reader.poll_connects(cx);
            if timer.deadline() != reader.deadline() {
                timer.as_mut().reset(reader.deadline());
            }
            let mut outcome = Ok(());
            let is_due = timer.as_mut().poll(cx).is_ready();
            if is_due {
                outcome = reader.tick(Instant::now());
                timer.as_mut().reset(reader.deadline());
            }
            self.put_back(reader);
            match outcome {
                Err(end) => {
                    self.link.end(end.reason, end.how);
                }
                Ok(()) if is_due => {}
                Ok(()) => return Poll::Pending,
            }
        }
    }
}

/// Serves a session from its handshake to its end.
pub(crate) async fn run<H: Handler>(session: Arc<Session<H>>) {
    let next = {
        let mut timer = pin!(sleep(LOOK));
        poll_fn(|cx| session.poll(timer.as_mut(), cx)).await
    };
    match next {
        Next::Websocket(reader) => {
            let websocket = lock(&session.websocket).take();
            drop(session);
            if let Some((incoming, decoder)) = websocket {
                websocket::run(reader, incoming, decoder).await;
            }
        }
        Next::End(reader, end) => finish(session, reader, end).await,
    }
}

async fn finish<H: Handler>(session: Arc<Session<H>>, mut reader: Box<Reader<H>>, end: End) {
    // The session may have to stay until its next poll.
    let waits_for_poll = end.waits_for_poll() && !session.link.is_end_sent();
    reader.finish(end.reason);
    let timeout = session.link.config.close_timeout;
    // A client that closed the session itself gets no packets any more.
    let timeout = if end.how == How::Gone { timeout.min(ON_ITS_WAY) } else { timeout };
    let mut timer = pin!(sleep(timeout));
    let mut is_sent = !waits_for_poll;
    // The process must not stop before the client has completed an upgrade that it can no longer give up.
    let is_upgrading = || end.how == How::Flush && session.upgrading.load(Ordering::Acquire);
    poll_fn(|cx| {
        let _ = session.link.due(cx);
        is_sent = is_sent || session.link.is_end_sent() || timer.as_mut().poll(cx).is_ready();
        if is_sent {
            reader.forget();
        }
        if is_upgrading() && timer.as_mut().poll(cx).is_pending() {
            let _ = reader.poll_connects(cx);
            return Poll::Pending;
        }
        let finished = reader.poll_finished(cx);
        if is_sent { finished } else { Poll::Pending }
    })
    .await;
    session.link.detach();
}

/// Ends the session on drop, unless `complete` was called: hyper drops a request when its client disconnects.
struct EndOnDrop {
    link: Arc<Link>,
    complete: bool,
}

impl EndOnDrop {
    fn new(link: Arc<Link>) -> Self {
        Self { link, complete: false }
    }

    fn complete(mut self) {
        self.complete = true;
    }
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if !self.complete {
            self.link.end_polling(Reason::TransportError, How::Code(None));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that can panic runs under this lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<H: Handler> Session<H> {
    /// Begins a POST. Returns None if another one is under way.
    fn begin_post(&self) -> Option<PostGuard<'_>> {
        (!self.posting.swap(true, Ordering::AcqRel)).then_some(PostGuard(&self.posting))
    }
}

/// A POST that is under way.
struct PostGuard<'a>(&'a AtomicBool);

impl Drop for PostGuard<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
