//! A packet whose attachments are coming: bounded in number by its reader, in bytes here, and in time.

use bytes::Bytes;
use tokio::time::Instant;

use crate::reason::Limit;

/// A packet and the attachments that have come.
pub(super) struct Parcel {
    text: String,
    count: usize,
    attachments: Vec<Bytes>,
    bytes: usize,
    /// When the last one must have come.
    pub(super) by: Instant,
}

impl Parcel {
    pub(super) fn new(text: &str, count: usize, by: Instant) -> Box<Self> {
        Box::new(Self { text: text.to_owned(), count, attachments: Vec::new(), bytes: 0, by })
    }

    /// Adds an attachment. Whether it was the last.
    ///
    /// # Errors
    /// There are more bytes than may be.
    pub(super) fn add(&mut self, bytes: Bytes, most: usize) -> Result<bool, Limit> {
        self.bytes += bytes.len();
        if self.bytes > most {
            return Err(Limit::AttachmentBytes);
        }
        self.attachments.push(bytes);
        Ok(self.attachments.len() == self.count)
    }

    /// The text and all attachments.
    pub(super) fn open(self) -> (String, Vec<Bytes>) {
        (self.text, self.attachments)
    }
}
