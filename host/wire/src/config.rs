//! Every limit and interval of the wire, with its default. Each field says what happens at its limit; the handler gets it as a
//! [`Reason`](crate::Reason).

use std::time::Duration;

use crate::reason::QueueLimit;

/// The settings of a [`Wire`](crate::Wire). Each has a default, and no limit can be turned off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Time between a client's last pong and the next ping. Default 25 s.
    pub ping_interval: Duration,
    /// Time that a client has to answer a ping. Past it: [`Reason::PingTimeout`](crate::Reason::PingTimeout). Default 20 s.
    pub ping_timeout: Duration,
    /// Bytes of one message of a client, and of one body of a POST. Past it: close code 1009, or HTTP 413. Default 1 000 000.
    pub max_payload: usize,
    /// Time that a connection may be without any namespace. Past it:
    /// [`Limit::ConnectTimeout`](crate::Limit::ConnectTimeout). Default 45 s.
    pub connect_timeout: Duration,
    /// Whether a polling client is offered a websocket. Default true.
    pub upgrades: bool,
    /// Time that an upgrade from polling to websocket may take. Past it the websocket is closed, and the session stays a polling session.
    /// Default 10 s.
    pub upgrade_timeout: Duration,
    /// Packets that may wait to be sent to one client. Past it: [`Reason::SlowConsumer`](crate::Reason::SlowConsumer). Default 512.
    pub queue_packets: usize,
    /// Bytes that may wait to be sent to one client. A single message may be larger. Past it:
    /// [`Reason::SlowConsumer`](crate::Reason::SlowConsumer). Default 4 MiB.
    pub queue_bytes: usize,
    /// Packets in the answer to one poll. The rest waits for the next poll. Default 1024.
    pub poll_packets: usize,
    /// Packets in the body of one POST. Past it: [`Limit::PostPackets`](crate::Limit::PostPackets). Default 10 000.
    pub post_packets: usize,
    /// Time for the body of one POST. Past it the answer is HTTP 408, and the session stays open. Default 20 s.
    pub body_timeout: Duration,
    /// Attachments of one packet. Past it: [`Limit::Attachments`](crate::Limit::Attachments). Default 10.
    pub attachments: usize,
    /// Bytes of all attachments of one packet. Past it: [`Limit::AttachmentBytes`](crate::Limit::AttachmentBytes).
    /// Default 1 000 000.
    pub attachment_bytes: usize,
    /// Time between a packet and its last attachment. Past it:
    /// [`Limit::AttachmentTimeout`](crate::Limit::AttachmentTimeout). Default 10 s.
    pub attachment_timeout: Duration,
    /// Namespaces of one connection, including pending connects. Past it:
    /// [`Limit::Namespaces`](crate::Limit::Namespaces). Default 64.
    pub namespaces: usize,
    /// Bytes of a namespace's name. Past it: [`Limit::NamespaceBytes`](crate::Limit::NamespaceBytes). Default 512.
    pub namespace_bytes: usize,
    /// Events that a client may send to a namespace before its connect is answered. They are delivered after it. Past it:
    /// [`Limit::EarlyEvents`](crate::Limit::EarlyEvents). Default 64.
    pub early_events: usize,
    /// Acks that may be awaited from one client. Past it [`Socket::ask`](crate::Socket::ask) is refused. Default 1024.
    pub asks: usize,
    /// Time to send the queue and the close frame when a connection is closed. For a polling session: the wait for its next poll.
    /// Default 10 s.
    pub close_timeout: Duration,
}

impl Config {
    /// The limit that is exceeded by one more message, if any.
    pub(crate) fn queue_limit(&self, packets: usize, bytes: usize, message: usize) -> Option<QueueLimit> {
        if packets >= self.queue_packets {
            Some(QueueLimit::Packets)
        } else if packets > 0 && bytes + message > self.queue_bytes {
            Some(QueueLimit::Bytes)
        } else {
            None
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            ping_interval: seconds(25),
            ping_timeout: seconds(20),
            max_payload: 1_000_000,
            connect_timeout: seconds(45),
            upgrades: true,
            upgrade_timeout: seconds(10),
            queue_packets: 512,
            queue_bytes: 4 << 20,
            poll_packets: 1024,
            post_packets: 10_000,
            body_timeout: seconds(20),
            attachments: 10,
            attachment_bytes: 1_000_000,
            attachment_timeout: seconds(10),
            namespaces: 64,
            namespace_bytes: 512,
            early_events: 64,
            asks: 1024,
            close_timeout: seconds(10),
        }
    }
}
