//! The messages of one key, and of others that share its lane, one behind the other. Keeps their order; handles none.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use super::work::Work;

/// The messages of one lane, with those that were taken out of it and are still to be handled.
pub(super) struct Lane {
    receiver: mpsc::Receiver<Work>,
    ahead: VecDeque<Work>,
}

impl Lane {
    pub(super) fn new(receiver: mpsc::Receiver<Work>) -> Self {
        Self { receiver, ahead: VecDeque::new() }
    }

    /// Waits for a message, and takes those behind it that are there already.
    pub(super) async fn next(&mut self, most: usize) -> Option<Vec<Work>> {
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

    pub(super) fn try_next(&mut self) -> Option<Work> {
        self.ahead.pop_front().or_else(|| self.receiver.try_recv().ok())
    }

    pub(super) fn put_back(&mut self, works: Vec<Work>) {
        for work in works.into_iter().rev() {
            self.ahead.push_front(work);
        }
    }
}
