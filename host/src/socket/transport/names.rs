//! Rewrites event names that contain JSON escapes (`"ol\u00e1"`, as Python's clients write them). The engine's parser accepts none
//! and closes the connection, so the names are unescaped before the engine reads them, in the same number of bytes. Nothing else is
//! changed.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::{io, mem};

use axum::body::Body;
use bytes::Bytes;
use http::{Request, header};
use tokio::io::{AsyncRead, ReadBuf};

use super::{Connection, unless_closed};
use crate::json;

/// The longest name that is rewritten, in received bytes: 256 characters, each an escaped surrogate pair. Longer names are invalid.
const MAX_NAME: usize = 256 * 12;

/// Replaces a character that must be escaped in JSON. The host accepts it in no event name.
const NO_NAME: u8 = 0x7f;

/// Bytes read at a time until a name is complete.
const PIECE: usize = 512;

/// Between two packets of a POST.
const SEPARATOR: u8 = 0x1e;

impl Connection {
    /// Reads a websocket and unescapes the names of its events.
    pub(crate) fn poll_plain(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if !self.held.is_empty() {
                let Some(names) = &mut self.names else { return Poll::Ready(Ok(())) };
                if names.finish(&mut self.held) == Rest::Partial {
                    let mut piece = [0; PIECE];
                    let mut more = ReadBuf::new(&mut piece);
                    std::task::ready!(self.poll_io(cx, &mut more))?;
                    if !more.filled().is_empty() {
                        self.held.extend_from_slice(more.filled());
                        continue;
                    }
                    // The connection ended inside the name.
                    self.names = None;
                }
                self.early = Bytes::from(mem::take(&mut self.held));
            }
            let start = buf.filled().len();
            std::task::ready!(self.poll_io(cx, buf))?;
            let Some(at) = self.names.as_mut().and_then(|names| names.escape(&buf.filled()[start..])) else {
                return Poll::Ready(Ok(()));
            };
            self.held.extend_from_slice(&buf.filled()[start + at..]);
            self.held.extend_from_slice(&mem::take(&mut self.early));
            buf.set_filled(start + at);
            if at > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads bytes that were received early, then from the network.
    fn poll_io(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let early = self.early.split_to(self.early.len().min(buf.remaining()));
            buf.put_slice(&early);
            return Poll::Ready(Ok(()));
        }
        let Self { io, closer, .. } = self;
        unless_closed(closer, |ending| &ending.reader, cx, |cx| Pin::new(io).poll_read(cx, buf))
    }
}

/// Unescapes the event names in a POST. A body that is too long, or has no length, is left to the engine.
///
/// # Errors
/// If the body cannot be read in full.
pub async fn with_plain_names(request: Request<Body>, longest: u64) -> Result<Request<Body>, axum::Error> {
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let Some(length) = declared.filter(|length| *length <= longest).and_then(|length| usize::try_from(length).ok()) else {
        return Ok(request);
    };
    let (parts, body) = request.into_parts();
    let mut body = axum::body::to_bytes(body, length).await?;
    if body.contains(&b'\\') {
        let mut packets = body.to_vec();
        packets.split_mut(|byte| *byte == SEPARATOR).for_each(Names::rewrite);
        body = packets.into();
    }
    Ok(Request::from_parts(parts, body.into()))
}

/// Follows a client's packets byte by byte up to the end of the event's name. The rest of a packet is skipped at once.
#[derive(Default)]
pub struct Names {
    frame: Frame,
    at: At,
}

/// The websocket frame that is being read.
#[derive(Default)]
struct Frame {
    header: [u8; 14],
    have: usize,
    mask: [u8; 4],
    /// Bytes of the payload that were read, and that remain.
    read: usize,
    left: usize,
}

/// The position of the next byte in a packet.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum At {
    /// After the name, or in a packet without a name.
    #[default]
    Rest,
    Engine,
    Kind,
    Attachments,
    Namespace,
    Path,
    Ack,
    Array,
    Name,
}

/// Whether the rest of an escaped name is complete.
#[derive(Debug, PartialEq, Eq)]
pub enum Rest {
    /// More bytes are needed.
    Partial,
    /// It was rewritten, or cannot be. The engine reads it.
    Done,
}

impl Names {
    /// Rewrites the name in a packet that is not in a websocket frame.
    pub fn rewrite(packet: &mut [u8]) {
        let frame = Frame { left: packet.len(), ..Frame::default() };
        let mut names = Self { frame, at: At::Engine };
        if let Some(at) = names.escape(packet) {
            names.finish(&mut packet[at..]);
        }
    }

    /// The position of a name's first escape, which stays the next byte to read.
    pub fn escape(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            if self.frame.left == 0 {
                self.at = self.frame.begin(bytes[at]);
                at += 1;
            } else if self.at == At::Rest {
                let skipped = self.frame.left.min(bytes.len() - at);
                self.frame.advance(skipped);
                at += skipped;
            } else {
                let Some(next) = self.at.after(self.frame.unmasked(0, bytes[at])) else { return Some(at) };
                self.at = next;
                self.frame.advance(1);
                at += 1;
            }
        }
        None
    }

    /// Rewrites the rest of a name from its first escape, if it is complete.
    pub fn finish(&mut self, bytes: &mut [u8]) -> Rest {
        let frame = &self.frame;
        let there = bytes.len().min(frame.left).min(MAX_NAME);
        let plain: Vec<u8> = bytes[..there].iter().enumerate().map(|(at, byte)| frame.unmasked(at, *byte)).collect();
        let Some(end) = end_of_string(&plain) else {
            if there == bytes.len() && there < frame.left && there < MAX_NAME {
                return Rest::Partial;
            }
            self.at = At::Rest;
            return Rest::Done;
        };
        if let Some(mut name) = decoded(&plain[..end]) {
            name.push(b'"');
            // JSON allows spaces after the name.
            name.resize(end + 1, b' ');
            for (at, (byte, plain)) in bytes.iter_mut().zip(name).enumerate() {
                *byte = frame.unmasked(at, plain);
            }
        }
        self.at = At::Rest;
        Rest::Done
    }
}

impl At {
    /// The position after a byte. None if the byte begins an escape in a name.
    fn after(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Engine, b'4') => Self::Kind,
            (Self::Kind, b'2') => Self::Namespace,
            (Self::Kind, b'5') => Self::Attachments,
            (Self::Attachments, b'0'..=b'9') => Self::Attachments,
            (Self::Attachments, b'-') => Self::Namespace,
            (Self::Namespace, b'/') => Self::Path,
            (Self::Path, b',') => Self::Ack,
            (Self::Path, _) => Self::Path,
            (Self::Namespace | Self::Ack, b'0'..=b'9') => Self::Ack,
            (Self::Namespace | Self::Ack, b'[') => Self::Array,
            (Self::Array, b' ' | b'\t' | b'\r' | b'\n') => Self::Array,
            (Self::Array, b'"') => Self::Name,
            (Self::Name, b'\\') => return None,
            (Self::Name, byte) if byte != b'"' => Self::Name,
            _ => Self::Rest,
        })
    }
}

impl Frame {
    /// Reads a byte of a frame's header. Returns the position in the payload once the header is complete.
    fn begin(&mut self, byte: u8) -> At {
        self.header[self.have] = byte;
        self.have += 1;
        let [first, second, ..] = self.header;
        let (extended, masked) = (second & 0x7f, second & 0x80 != 0);
        let length = match extended {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let whole = 2 + length + if masked { 4 } else { 0 };
        if self.have < 2 || self.have < whole {
            return At::Rest;
        }
        let long = self.header[2..2 + length].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        self.left = if length == 0 { usize::from(extended) } else { long };
        self.mask = [0; 4];
        if masked {
            self.mask.copy_from_slice(&self.header[2 + length..whole]);
        }
        (self.have, self.read) = (0, 0);
        // Only a text frame that begins a packet has a name.
        if first & 0xf == 1 && self.left > 0 { At::Engine } else { At::Rest }
    }

    fn advance(&mut self, bytes: usize) {
        self.read += bytes;
        self.left -= bytes;
    }

    /// Masks or unmasks the payload's byte at this distance from the current one.
    fn unmasked(&self, ahead: usize, byte: u8) -> u8 {
        byte ^ self.mask[(self.read + ahead) % 4]
    }
}

/// The position of the closing quote.
fn end_of_string(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    None
}

/// The unescaped content of a JSON string, given without its quotes.
fn decoded(inside: &[u8]) -> Option<Vec<u8>> {
    let quoted = format!("\"{}\"", str::from_utf8(inside).ok()?);
    let name: String = serde_json::from_str(&json::well_formed(&quoted)).ok()?;
    let must_be_escaped = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
    Some(name.bytes().map(|byte| if must_be_escaped(&byte) { NO_NAME } else { byte }).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rewritten(packet: &str) -> String {
        let mut bytes = packet.as_bytes().to_vec();
        Names::rewrite(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_escaped_name_is_unescaped_in_the_same_length() {
        for (packet, plain) in [
            (r#"42["a\ud83d",{}]"#, "42[\"a\u{fffd}\"   ,{}]"),
            (r#"42/chat,7["ol\u00e1"]"#, "42/chat,7[\"olá\"    ]"),
            (r#"42[ "\ud83d\ude00"]"#, "42[ \"😀\"        ]"),
            (r#"451-/a,12["\u0061b","\u0061"]"#, "451-/a,12[\"ab\"     ,\"\\u0061\"]"),
            (r#"42["a\nb\"c\\"]"#, "42[\"a\u{7f}b\u{7f}c\u{7f}\"   ]"),
        ] {
            assert_eq!(rewritten(packet), plain);
        }
    }

    #[test]
    fn other_packets_are_unchanged() {
        for packet in [
            "",
            "2",
            "4",
            "42",
            r#"42["chat:message",{"a":"\ud83d"}]"#,
            r#"40/chat,{"token":"\u0061"}"#,
            r#"42{"\u0061":1}"#,
            r#"43["\u0061"]"#,
            r#"42["a\"#,
            r#"42["a\ud8"]"#,
            r#"42["a\x"]"#,
            r#"42["a\u0061"#,
        ] {
            assert_eq!(rewritten(packet), packet);
        }
    }

    /// A client's text frame.
    fn frame(packet: &str, mask: [u8; 4]) -> Vec<u8> {
        let mut frame = vec![0x81];
        match packet.len() {
            length @ ..=125 => frame.push(0x80 | length as u8),
            length => frame.extend([0x80 | 126, (length >> 8) as u8, length as u8]),
        }
        frame.extend(mask);
        frame.extend(packet.bytes().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
        frame
    }

    /// Reads a stream in pieces, as a connection does.
    fn read(stream: &[u8], piece: usize) -> Vec<u8> {
        let (mut names, mut out, mut held) = (Names::default(), Vec::new(), Vec::new());
        for piece in stream.chunks(piece) {
            held.extend_from_slice(piece);
            while !held.is_empty() {
                let at = names.escape(&held);
                out.extend(held.drain(..at.unwrap_or(held.len())));
                if at.is_some() && names.finish(&mut held) == Rest::Partial {
                    break;
                }
            }
        }
        out
    }

    #[test]
    fn names_are_unescaped_across_reads_of_any_size() {
        let long = format!(r#"42["plain",{{"text":"{}"}}]"#, "x".repeat(300));
        let packets = [r#"42["a\ud83d",{}]"#, &long, "3", r#"42/chat,1["\u0061bc",1]"#, r#"42["plain"]"#];
        let plain = ["42[\"a\u{fffd}\"   ,{}]", &long, "3", "42/chat,1[\"abc\"     ,1]", r#"42["plain"]"#];
        let mask = [0x1f, 0xa0, 0x5c, 0x03];
        let stream = |packets: &[&str]| packets.iter().flat_map(|packet| frame(packet, mask)).collect::<Vec<_>>();
        for piece in [1, 2, 3, 7, 64, 4096] {
            assert_eq!(read(&stream(&packets), piece), stream(&plain), "in pieces of {piece}");
        }
    }

    #[test]
    fn a_name_without_an_end_is_unchanged() {
        let packet = format!("42[\"\\u0061{}", "x".repeat(2 * MAX_NAME));
        let stream = frame(&packet, [1, 2, 3, 4]);
        assert_eq!(read(&stream, 512), stream);
    }
}
