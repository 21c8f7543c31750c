//! Acks that are awaited from a client, by their number.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::link::Link;

/// The next number of an ask. Numbers are the process's own, so that one message can ask many clients.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A number for [`Outgoing::ask`](crate::Outgoing::ask), different from all others of this process.
pub fn next_ask() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A client's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The arguments as JSON, without the array's brackets.
    pub args: String,
    /// The attachments, in the order of their numbers.
    pub attachments: Vec<Bytes>,
}

/// The reasons for a missing answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskError {
    /// The client owes [`Config::asks`](crate::Config::asks) answers already.
    TooMany,
    /// The socket or its connection has ended.
    Closed,
}

impl std::fmt::Display for AskError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TooMany => "too many answers are awaited from this client",
            Self::Closed => "the socket has ended",
        })
    }
}

impl std::error::Error for AskError {}

/// Resolves to a client's answer. Dropping it cancels the wait. It has no timeout of its own.
pub struct Asked {
    number: u64,
    link: Weak<Link>,
    answer: oneshot::Receiver<Answer>,
}

impl Future for Asked {
    type Output = Result<Answer, AskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(cx).map_err(|_| AskError::Closed)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(link) = self.link.upgrade() {
            link.asks.forget(self.number);
        }
    }
}

/// The answers that one connection owes.
pub(crate) struct Asks {
    most: usize,
    waiting: Mutex<Vec<Waiting>>,
}

struct Waiting {
    number: u64,
    namespace: Box<str>,
    answer: oneshot::Sender<Answer>,
}

impl Asks {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, waiting: Mutex::new(Vec::new()) }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers an answer that is awaited.
    pub(crate) fn add(&self, link: Weak<Link>, namespace: &str, number: u64) -> Result<Asked, AskError> {
        let (sender, answer) = oneshot::channel();
        let mut waiting = self.waiting();
        if waiting.len() >= self.most {
            return Err(AskError::TooMany);
        }
        waiting.push(Waiting { number, namespace: namespace.into(), answer: sender });
        Ok(Asked { number, link, answer })
    }

    /// Resolves the [`Asked`] with this number. An answer without one is ignored, since it may have come too late.
    pub(crate) fn answer(&self, namespace: &str, number: u64, answer: Answer) {
        let found = self.take(|waiting| waiting.number == number && *waiting.namespace == *namespace);
        if let Some(waiting) = found {
            // The receiver may have been dropped just now.
            let _ = waiting.answer.send(answer);
        }
    }

    fn forget(&self, number: u64) {
        drop(self.take(|waiting| waiting.number == number));
    }

    fn take(&self, is_wanted: impl Fn(&Waiting) -> bool) -> Option<Waiting> {
        let mut all = self.waiting();
        let at = all.iter().position(is_wanted)?;
        let found = all.swap_remove(at);
        if all.is_empty() {
            // Most connections are rarely asked anything, and keep no memory for it.
            *all = Vec::new();
        }
        Some(found)
    }

    /// Drops what is awaited from one namespace, or from all.
    pub(crate) fn end(&self, namespace: Option<&str>) {
        let mut all = self.waiting();
        all.retain(|waiting| namespace.is_some_and(|namespace| *waiting.namespace != *namespace));
        if all.is_empty() {
            *all = Vec::new();
        }
    }
}
