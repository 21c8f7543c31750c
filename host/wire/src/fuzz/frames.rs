//! Frames of a client: the decoder against tungstenite, and against itself with other pieces of input.

use std::io::{Cursor, Read, Write};

use tungstenite::error::ProtocolError;
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};

use crate::frame::FrameError;
use crate::frame::decoder::{Decoder, Item};

/// The longest message.
const MAX: usize = 300;

/// The final fragment of a message, empty and masked.
const FINAL: [u8; 6] = [0x80, 0x80, 0, 0, 0, 0];

/// An item that was read by either decoder.
#[derive(Debug, PartialEq, Eq, Clone)]
pub(crate) enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
    Refused,
    /// Refused, since a text is not UTF-8.
    NotUtf8,
}

impl Seen {
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused | Self::NotUtf8)
    }

    fn is_message(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Binary(_))
    }
}

/// Frames after four bytes: the sizes of the pieces in which they are read as well.
pub fn frames(bytes: &[u8]) {
    let Some((sizes, bytes)) = bytes.split_first_chunk::<4>() else { return };
    let pieces = sizes.iter().cycle().map(|size| usize::from(*size).max(1));
    check(bytes, pieces);
}

/// Asserts that the frames read as tungstenite reads them, in one piece and in these. Returns the items.
pub(crate) fn check(bytes: &[u8], pieces: impl Iterator<Item = usize>) -> Vec<Seen> {
    let ((whole, rest), theirs) = (ours(bytes, std::iter::once(bytes.len())), theirs(bytes));
    let agrees = whole.last() == Some(&Seen::Refused) && is_long_control_frame(rest) || agree(bytes, &whole, &theirs);
    assert!(agrees, "frames {bytes:?}: read {whole:?}, but tungstenite {theirs:?}");
    assert_eq!(ours(bytes, pieces).0, whole, "the same frames in pieces: {bytes:?}");
    whole
}

/// The length of a control frame must be in one byte. Tungstenite reads others as well; Node's server does not.
fn is_long_control_frame(bytes: &[u8]) -> bool {
    matches!(bytes, [first, second, ..] if first & 8 != 0 && second & 0x7f > 125)
}

/// Both read the same, but may refuse the same frames at other times: tungstenite waits for a payload where we refuse the header, and
/// checks UTF-8 at each fragment.
fn agree(bytes: &[u8], ours: &[Seen], theirs: &[Seen]) -> bool {
    let same = ours.iter().zip(theirs).take_while(|(ours, theirs)| ours == theirs).count();
    match (&ours[same..], &theirs[same..]) {
        ([], []) => true,
        // There may be more than one reason.
        ([ours], [theirs]) if ours.is_refusal() && theirs.is_refusal() => true,
        ([ours], []) if ours.is_refusal() => {
            // The frame must not be a fragment that tungstenite has accepted.
            let completed = self::theirs(&[bytes, &FINAL].concat());
            !completed[same..].iter().any(Seen::is_message)
        }
        // Control frames may come between the fragments.
        (after, [Seen::NotUtf8]) => !after.iter().any(Seen::is_message),
        _ => false,
    }
}

/// The items, and the bytes after them that were not read.
fn ours(bytes: &[u8], pieces: impl Iterator<Item = usize>) -> (Vec<Seen>, &[u8]) {
    let (mut decoder, mut read, mut rest) = (Decoder::new(MAX), Vec::new(), bytes);
    for size in pieces {
        let size = size.min(rest.len());
        let mut piece = rest[..size].to_vec();
        let mut input = &mut piece[..];
        loop {
            match decoder.next(&mut input) {
                Ok(Some(item)) => read.push(seen(item)),
                Ok(None) => break,
                Err(FrameError::Utf8) => read.push(Seen::NotUtf8),
                Err(_) => read.push(Seen::Refused),
            }
            // Nothing is read after a close frame.
            if matches!(read.last(), Some(Seen::Close(_) | Seen::Refused | Seen::NotUtf8)) {
                return (read, &rest[size - input.len()..]);
            }
        }
        rest = &rest[size..];
        if rest.is_empty() {
            break;
        }
    }
    (read, rest)
}

fn seen(item: Item<'_>) -> Seen {
    let seen = match item {
        Item::Text(text) => Seen::Text(text.to_owned()),
        Item::Binary(bytes) => Seen::Binary(bytes.to_vec()),
        Item::Ping(bytes) => Seen::Ping(bytes.to_vec()),
        Item::Pong => Seen::Pong,
        Item::Close(code) => return close(code),
    };
    assert!(!matches!(&seen, Seen::Text(text) if text.len() > MAX), "a text is too long");
    assert!(!matches!(&seen, Seen::Binary(bytes) if bytes.len() > MAX), "a binary message is too long");
    seen
}

/// Tungstenite reads a code that is not allowed as 1002, so that code counts as refused. It does not allow 1014, but Node's server does.
fn close(code: Option<u16>) -> Seen {
    if matches!(code, Some(1002 | 1014)) { Seen::Refused } else { Seen::Close(code) }
}

fn theirs(bytes: &[u8]) -> Vec<Seen> {
    let config = WebSocketConfig::default().max_message_size(Some(MAX)).max_frame_size(Some(MAX));
    let mut socket = WebSocket::from_raw_socket(Stream(Cursor::new(bytes.to_vec())), Role::Server, Some(config));
    let mut read = Vec::new();
    loop {
        read.push(match socket.read() {
            Ok(Message::Text(text)) => Seen::Text(text.to_string()),
            Ok(Message::Binary(bytes)) => Seen::Binary(bytes.to_vec()),
            Ok(Message::Ping(bytes)) => Seen::Ping(bytes.to_vec()),
            Ok(Message::Pong(_)) => Seen::Pong,
            Ok(Message::Close(frame)) => close(frame.map(|frame| frame.code.into())),
            // The end of the bytes.
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) | Error::Io(_)) => return read,
            Err(Error::Utf8(_)) => Seen::NotUtf8,
            // Only writers make messages of single frames.
            Ok(Message::Frame(_)) | Err(_) => Seen::Refused,
        });
        if matches!(read.last(), Some(Seen::Close(_) | Seen::Refused | Seen::NotUtf8)) {
            return read;
        }
    }
}

/// The bytes of a client. Writes are dropped.
struct Stream(Cursor<Vec<u8>>);

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
