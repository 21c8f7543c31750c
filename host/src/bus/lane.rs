//! A lane: the messages of one key, and of other keys that share the lane, in order. Handles no message.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use super::work::Work;

/// The messages of one lane, with those that were taken out and are still to be handled.
pub(crate) struct Lane {
    receiver: mpsc::Receiver<Work>,
    ahead: VecDeque<Work>,
}

impl Lane {
    pub(crate) fn new(receiver: mpsc::Receiver<Work>) -> Self {
        Self { receiver, ahead: VecDeque::new() }
    }

    /// Waits for a message, and takes those that already wait behind it.
    pub(crate) async fn next(&mut self, most: usize) -> Option<Vec<Work>> {
        let first = match self.ahead.pop_front() {
            Some(first) => first,
            None => self.receiver.recv().await?,
        };
        let mut together = vec![first];
        while together.len() < most
            && let Some(work) = self.try_next()
        {
            together.push(work);
        }
        Some(together)
    }

    pub(crate) fn try_next(&mut self) -> Option<Work> {
        self.ahead.pop_front().or_else(|| self.receiver.try_recv().ok())
    }

    pub(crate) fn put_back(&mut self, works: Vec<Work>) {
        for work in works.into_iter().rev() {
            self.ahead.push_front(work);
        }
    }
}
