//! How a connection ends.

use crate::reason::Reason;

/// The end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) reason: Reason,
    pub(crate) how: How,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// After the queue was sent. A polling session waits for its next poll to send the close packet.
    Flush,
    /// By a close frame with this code. A waiting poll gets the close packet; later polls are refused.
    Code(Option<u16>),
    /// The client has closed it, or cannot be reached.
    Gone,
    /// At once: the queue is dropped, and TCP is reset.
    Abort,
}

impl End {
    /// Whether a polling session stays until its next poll.
    pub(crate) fn waits_for_poll(self) -> bool {
        matches!(self.how, How::Flush | How::Gone)
    }
}
