//! A packet that waits for its attachments. Their number, bytes and time are limited.

use bytes::Bytes;
use tokio::time::Instant;

use crate::reason::Limit;

/// A packet and the attachments that were received.
pub(super) struct PendingPacket {
    text: String,
    count: usize,
    attachments: Vec<Bytes>,
    bytes: usize,
    /// The deadline for the last attachment.
    pub(super) by: Instant,
}

impl PendingPacket {
    pub(super) fn new(text: &str, count: usize, by: Instant) -> Box<Self> {
        Box::new(Self { text: text.to_owned(), count, attachments: Vec::new(), bytes: 0, by })
    }

    /// Adds an attachment. Returns whether it was the last.
    ///
    /// # Errors
    /// The attachments are too large.
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
