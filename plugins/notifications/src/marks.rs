//! What one reader has read of one log. Counts what is unread by arithmetic, and must never look through the log for it.

use std::collections::BTreeMap;

use hubbub_sdk::{Result, clock, store};
use serde::{Deserialize, Serialize};

use crate::log::Log;

/// Numbers of a log's notifications and when they were read, in milliseconds since 1970. At most as many as the log keeps.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Marks {
    /// Up to this number nothing is the reader's: a subscription begins after it.
    after: i64,
    /// Read one by one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    read: BTreeMap<i64, u64>,
    /// Read all at once, up to these numbers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    all: BTreeMap<i64, u64>,
}

impl Marks {
    /// Those of an inbox.
    pub(crate) fn of(log: &Log) -> Result<Self> {
        Ok(store::get(&log.marks_key())?.unwrap_or_default())
    }

    /// Those of a reader who begins now.
    pub(crate) fn from_now(log: &Log) -> Result<Self> {
        Ok(Self { after: log.newest()?, ..Self::default() })
    }

    pub(crate) fn is_theirs(&self, number: i64) -> bool {
        number > self.after
    }

    /// When the reader read it; absent if they have not.
    pub(crate) fn read_at(&self, number: i64) -> Option<u64> {
        self.read.get(&number).or_else(|| self.all.range(number..).next().map(|(_, at)| at)).copied()
    }

    /// Marks one as read. False where it was already.
    pub(crate) fn read(&mut self, number: i64) -> bool {
        let unread = self.read_at(number).is_none();
        if unread {
            self.read.insert(number, clock::now());
        }
        unread
    }

    /// Marks as read whatever is not. False where all was already.
    pub(crate) fn read_all(&mut self, log: &Log) -> Result<bool> {
        let unread = self.unread(log)? > 0;
        if unread {
            self.all.insert(log.newest()?, clock::now());
        }
        Ok(unread)
    }

    /// How many the log keeps that are the reader's and not read.
    pub(crate) fn unread(&self, log: &Log) -> Result<i64> {
        let newest = log.newest()?;
        let all_read = self.all.last_key_value().map_or(0, |(number, _)| *number);
        let below = self.after.max(all_read).max(newest - log.keeps);
        let read = self.read.range(below + 1..).count();
        Ok(newest - below - i64::try_from(read).unwrap_or(i64::MAX))
    }

    /// Lets go of what is said of notifications that the log has forgotten.
    pub(crate) fn trim(&mut self, log: &Log) -> Result<()> {
        let kept = log.newest()? - log.keeps + 1;
        self.read = self.read.split_off(&kept);
        self.all = self.all.split_off(&kept);
        Ok(())
    }

    /// Stores those of an inbox.
    pub(crate) fn save(mut self, log: &Log) -> Result<()> {
        self.trim(log)?;
        Ok(store::put(&log.marks_key(), &self)?)
    }
}
