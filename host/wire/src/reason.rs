//! The reasons for which sockets and connections end.

use std::fmt;

/// The reason for the end of a socket or a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The client sent Socket.IO's DISCONNECT for this namespace: it left on purpose.
    ClientDisconnect,
    /// [`Socket::disconnect`](crate::Socket::disconnect) was called. A stock client does not reconnect by itself.
    ServerDisconnect,
    /// The client closed its transport, as when a page is reloaded.
    TransportClose,
    /// Reading or writing failed, or the client violated the protocol of its transport.
    TransportError,
    /// A ping was not answered in time.
    PingTimeout,
    /// The client sent an invalid packet.
    BadPacket(BadPacket),
    /// The client's queue was full: it does not read fast enough.
    SlowConsumer(QueueLimit),
    /// Another limit was reached.
    Limit(Limit),
    /// The handler closed the connection, with this label.
    Closed(&'static str),
}

/// The defects of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadPacket {
    /// The type of the engine's packet, or of the packet in it, is unknown.
    Type,
    /// The number of attachments is not a number.
    AttachmentCount,
    /// The payload is not JSON, or not what this type of packet carries.
    Payload,
    /// A packet that is not allowed now: for a namespace that is not connected, or a second CONNECT.
    Unexpected,
    /// A text packet where an attachment was expected.
    MissingAttachment,
    /// An attachment that was not announced by a packet.
    UnexpectedAttachment,
    /// The body of a POST is not UTF-8, or an attachment in it is not base64.
    Encoding,
}

/// The limits of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueLimit {
    /// [`Config::queue_packets`](crate::Config::queue_packets)
    Packets,
    /// [`Config::queue_bytes`](crate::Config::queue_bytes)
    Bytes,
}

/// The other limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// [`Config::max_payload`](crate::Config::max_payload)
    Payload,
    /// [`Config::connect_timeout`](crate::Config::connect_timeout)
    ConnectTimeout,
    /// [`Config::post_packets`](crate::Config::post_packets)
    PostPackets,
    /// [`Config::attachments`](crate::Config::attachments)
    Attachments,
    /// [`Config::attachment_bytes`](crate::Config::attachment_bytes)
    AttachmentBytes,
    /// [`Config::attachment_timeout`](crate::Config::attachment_timeout)
    AttachmentTimeout,
    /// [`Config::namespaces`](crate::Config::namespaces)
    Namespaces,
    /// [`Config::namespace_bytes`](crate::Config::namespace_bytes)
    NamespaceBytes,
    /// [`Config::early_events`](crate::Config::early_events)
    EarlyEvents,
}

impl Reason {
    /// The reason as metrics and logs name it.
    pub fn label(self) -> &'static str {
        match self {
            Self::ClientDisconnect => "client",
            Self::ServerDisconnect => "server",
            Self::TransportClose => "transport_close",
            Self::TransportError => "transport_error",
            Self::PingTimeout => "heartbeat",
            Self::BadPacket(_) => "bad_packet",
            Self::SlowConsumer(_) => "slow_consumer",
            Self::Limit(limit) => limit.label(),
            Self::Closed(label) => label,
        }
    }
}

impl Limit {
    /// The limit as metrics and logs name it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Payload => "max_payload",
            Self::ConnectTimeout => "connect_timeout",
            Self::PostPackets => "post_packets",
            Self::Attachments => "attachments",
            Self::AttachmentBytes => "attachment_bytes",
            Self::AttachmentTimeout => "attachment_timeout",
            Self::Namespaces => "namespaces",
            Self::NamespaceBytes => "namespace_bytes",
            Self::EarlyEvents => "early_events",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl From<BadPacket> for Reason {
    fn from(bad: BadPacket) -> Self {
        Self::BadPacket(bad)
    }
}

impl From<Limit> for Reason {
    fn from(limit: Limit) -> Self {
        Self::Limit(limit)
    }
}
