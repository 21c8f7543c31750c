//! A session that polls: its task keeps the heartbeat, its polls take what waits, its POSTs bring packets. Where a websocket takes
//! its place, the task goes on with that.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

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

/// Before the task looks again whether a POST has given the reader back. It is woken when it does, so this is rarely waited for.
const LOOK: Duration = Duration::from_secs(1);

/// How long a poll may be on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// A session that polls.
pub(crate) struct Session<H: Handler> {
    pub(crate) link: Arc<Link>,
    /// Taken by whoever reads.
    reader: Mutex<Option<Box<Reader<H>>>>,
    /// A POST is under way.
    posting: AtomicBool,
    /// An upgrade is under way.
    pub(crate) upgrading: AtomicBool,
    /// The websocket that takes the place of polling.
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

    /// Hands the session a websocket, which its task goes on with. False: the session has ended, or has one already.
    pub(crate) fn upgrade(&self, incoming: Incoming, decoder: Decoder, writer: tokio::net::tcp::OwnedWriteHalf) -> bool {
        self.link.upgrade(writer, || *lock(&self.websocket) = Some((incoming, decoder)))
    }

    /// What the task does at each wake.
    fn poll(&self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<Next<H>> {
        loop {
            let due = self.link.due(cx);
            let Some(mut reader) = self.take() else {
                // A POST has it, and wakes this task when it is done.
                if due.left {
                    self.link.left();
                }
                return Poll::Pending;
            };
            // Also where it has ended: the websocket is closed in its own way.
            if due.upgraded {
                return Poll::Ready(Next::Websocket(reader));
            }
            if let Some(end) = due.end {
                return Poll::Ready(Next::End(reader, end));
            }
            if due.left {
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
    // Where the client is to be told by its next poll, the session stays until then.
    let is_told_later = end.is_told_later() && !session.link.is_end_told();
    reader.finish(end.reason);
    let timeout = session.link.config.close_timeout;
    // A client that has closed the session itself may have a poll on its way.
    let timeout = if end.how == How::Gone { timeout.min(ON_ITS_WAY) } else { timeout };
    let mut timer = pin!(sleep(timeout));
    let mut is_told = !is_told_later;
    poll_fn(|cx| {
        let _ = session.link.due(cx);
        is_told = is_told || session.link.is_end_told() || timer.as_mut().poll(cx).is_ready();
        if is_told {
            reader.forget();
        }
        let finished = reader.poll_finished(cx);
        if is_told { finished } else { Poll::Pending }
    })
    .await;
    session.link.rest();
}

/// Ends a session unless it is told that all went well: its request may be dropped at any wait.
struct OrEnd<'a> {
    link: &'a Link,
    went_well: bool,
}

impl<'a> OrEnd<'a> {
    fn new(link: &'a Link) -> Self {
        Self { link, went_well: false }
    }

    fn went_well(mut self) {
        self.went_well = true;
    }
}

impl Drop for OrEnd<'_> {
    fn drop(&mut self) {
        if !self.went_well {
            self.link.end(Reason::TransportError, How::Code(None));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Under this lock a value is moved.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<H: Handler> Session<H> {
    /// A POST begins. None: another one is under way.
    fn begin_post(&self) -> Option<Posting<'_>> {
        (!self.posting.swap(true, Ordering::AcqRel)).then_some(Posting(&self.posting))
    }
}

/// A POST that is under way.
struct Posting<'a>(&'a AtomicBool);

impl Drop for Posting<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
