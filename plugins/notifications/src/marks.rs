//! The read marks of one reader in one log. The unread count is computed from numbers, without reading the log.

use std::collections::BTreeMap;

use hubbub_sdk::{Result, clock, store};
use serde::{Deserialize, Serialize};

use crate::log::Log;

/// Numbers of a log's notifications and when they were read, in milliseconds since 1970. At most as many as the log keeps.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Marks {
    /// The reader gets no notification up to this number: a subscription begins after it.
    after: i64,
    /// Notifications that were read one by one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    read: BTreeMap<i64, u64>,
    /// Numbers up to which all notifications were read at once.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    all: BTreeMap<i64, u64>,
}

impl Marks {
    /// The marks of an inbox.
    pub(crate) fn of(log: &Log) -> Result<Self> {
        Ok(store::get(&log.marks_key())?.unwrap_or_default())
    }

    /// The marks of a new subscription.
    pub(crate) fn from_now(log: &Log) -> Result<Self> {
        Ok(Self { after: log.newest()?, ..Self::default() })
    }

    pub(crate) fn is_theirs(&self, number: i64) -> bool {
        number > self.after
    }

    /// The time of reading; absent if it is unread.
    pub(crate) fn read_at(&self, number: i64) -> Option<u64> {
        self.read.get(&number).or_else(|| self.all.range(number..).next().map(|(_, at)| at)).copied()
    }

    /// Marks one as read. Returns false if it was read already.
    pub(crate) fn read(&mut self, number: i64) -> bool {
        let unread = self.read_at(number).is_none();
        if unread {
            self.read.insert(number, clock::now());
        }
        unread
    }

    /// Marks all as read. Returns false if all were read already.
    pub(crate) fn read_all(&mut self, log: &Log) -> Result<bool> {
        let unread = self.unread(log)? > 0;
        if unread {
            self.all.insert(log.newest()?, clock::now());
        }
        Ok(unread)
    }

    /// The number of unread notifications that the log holds.
    pub(crate) fn unread(&self, log: &Log) -> Result<i64> {
        let newest = log.newest()?;
        let all_read = self.all.last_key_value().map_or(0, |(number, _)| *number);
        let below = self.after.max(all_read).max(newest - log.keeps);
        let read = self.read.range(below + 1..).count();
        Ok(newest - below - i64::try_from(read).unwrap_or(i64::MAX))
    }

    /// Deletes the marks of notifications that the log no longer holds.
    pub(crate) fn trim(&mut self, log: &Log) -> Result<()> {
        let kept = log.newest()? - log.keeps + 1;
        self.read = self.read.split_off(&kept);
        self.all = self.all.split_off(&kept);
        Ok(())
    }

    /// Stores the marks of an inbox.
    pub(crate) fn save(mut self, log: &Log) -> Result<()> {
        self.trim(log)?;
        store::put(&log.marks_key(), &self)
    }
}
