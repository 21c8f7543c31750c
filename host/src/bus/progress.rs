//! A plugin's position in the outbox. Only counts: rows are removed by the position of all plugins.

use std::collections::BTreeSet;

/// The rows that a plugin has handled: all up to `below`, and those above it that are not in `open`.
#[derive(Default)]
pub(crate) struct Progress {
    pub(crate) read: u64,
    below: u64,
    pub(crate) open: BTreeSet<u64>,
}

impl Progress {
    pub(crate) fn begin(&mut self, seq: u64, wanted: bool) {
        self.read = seq;
        if wanted {
            self.open.insert(seq);
        }
        self.below = self.done();
    }

    pub(crate) fn end(&mut self, seq: u64) {
        self.open.remove(&seq);
        self.below = self.done();
    }

    /// All rows up to this one are handled.
    pub(crate) fn done(&self) -> u64 {
        self.open.first().map_or(self.read, |open| open - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_done_up_to_the_first_open_one() {
        let mut progress = Progress::default();
        for seq in 1..=4 {
            progress.begin(seq, seq != 2);
        }
        assert_eq!(progress.done(), 0);
        progress.end(1);
        assert_eq!(progress.done(), 2);
        progress.end(4);
        assert_eq!(progress.done(), 2);
        progress.end(3);
        assert_eq!(progress.done(), 4);
    }
}
