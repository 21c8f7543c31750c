//! The wire format of a client: websocket frames, Engine.IO 4, Socket.IO 5. It must never touch a socket.

/// The longest header of a client's frame: 2 bytes, 2 of length, 4 of mask.
const HEADER: usize = 8;
/// Servers unmask with any key, and a constant one costs the generator no randomness.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// A packet of the server, with the details that measures need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packet<'a> {
    /// The Engine.IO session is open; the CONNECT may be sent.
    Open,
    Ping,
    /// The namespace has accepted the socket, with this JSON.
    Connected(&'a [u8]),
    /// The namespace has refused the socket, with this JSON.
    Refused(&'a [u8]),
    /// `["name",{…}]`
    Event(&'a [u8]),
    /// The id of the request, and `[{…}]`.
    Ack(u32, &'a [u8]),
    /// The server ended the session or the connection.
    Closed,
    Other,
}

/// Appends one masked text frame with the payload that `fill` writes.
///
/// # Errors
/// The payload is over 65 535 bytes, which no measure needs.
pub(crate) fn put_text(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) -> Result<(), TooLong> {
    put(out, TEXT, fill)
}

/// Appends the answer to a websocket ping.
pub(crate) fn put_pong(out: &mut Vec<u8>, payload: &[u8]) -> Result<(), TooLong> {
    put(out, PONG, |out| out.extend_from_slice(payload))
}

#[derive(Debug, thiserror::Error)]
#[error("a frame of more than 65535 bytes")]
pub(crate) struct TooLong;

fn put(out: &mut Vec<u8>, opcode: u8, fill: impl FnOnce(&mut Vec<u8>)) -> Result<(), TooLong> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    fill(out);
    let len = out.len() - start - HEADER;
    let body = start + HEADER;
    let mut head = [0x80 | opcode, 0x80, 0, 0];
    let used = if len < 126 {
        head[1] |= len as u8;
        2
    } else if let Ok(len) = u16::try_from(len) {
        head[1] |= 126;
        head[2..].copy_from_slice(&len.to_be_bytes());
        4
    } else {
        out.truncate(start);
        return Err(TooLong);
    };
    for (byte, key) in out[body..].iter_mut().zip(MASK.iter().cycle()) {
        *byte ^= key;
    }
    out[start..start + used].copy_from_slice(&head[..used]);
    out[start + used..start + used + 4].copy_from_slice(&MASK);
    if used == 2 {
        // The short header leaves two free bytes before the payload.
        out.drain(start + 6..start + HEADER);
    }
    Ok(())
}

/// One frame of the server at the front of the received bytes.
pub(crate) enum Frame<'a> {
    Text(&'a [u8]),
    Ping(&'a [u8]),
    Close,
    Other,
}

/// The first complete frame in `bytes` and its length, or nothing if more must be read. The servers here send neither masked nor
/// fragmented frames.
pub(crate) fn frame(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (len, start): (usize, usize) = match second & 0x7f {
        126 => (usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?])), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize, 10),
        short => (usize::from(short), 2),
    };
    let payload = bytes.get(start..start.checked_add(len)?)?;
    let frame = match first & 0x0f {
        TEXT => Frame::Text(payload),
        PING => Frame::Ping(payload),
        CLOSE => Frame::Close,
        _ => Frame::Other,
    };
    Some((frame, start + len))
}

/// Reads one Engine.IO text packet.
pub(crate) fn packet(text: &[u8]) -> Packet<'_> {
    match text {
        [b'0', ..] => Packet::Open,
        [b'1', ..] => Packet::Closed,
        [b'2', ..] => Packet::Ping,
        [b'4', kind, rest @ ..] => {
            let rest = past_namespace(rest);
            match kind {
                b'0' => Packet::Connected(rest),
                b'1' => Packet::Closed,
                b'2' => Packet::Event(number(rest).1),
                b'3' => {
                    let (id, args) = number(rest);
                    Packet::Ack(id, args)
                }
                b'4' => Packet::Refused(rest),
                _ => Packet::Other,
            }
        }
        _ => Packet::Other,
    }
}

fn past_namespace(rest: &[u8]) -> &[u8] {
    if rest.first() != Some(&b'/') {
        return rest;
    }
    memchr::memchr(b',', rest).map_or(&[], |comma| &rest[comma + 1..])
}

fn number(text: &[u8]) -> (u32, &[u8]) {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let value = text[..digits].iter().fold(0u32, |n, b| n.wrapping_mul(10).wrapping_add(u32::from(b - b'0')));
    (value, &text[digits..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_masked_and_its_header_fits_its_length() {
        for len in [0usize, 1, 125, 126, 4000] {
            let payload = vec![b'x'; len];
            let mut out = b"before".to_vec();
            put_text(&mut out, |out| out.extend_from_slice(&payload)).unwrap();
            let frame = &out[6..];
            assert_eq!(frame[0], 0x81);
            let head = if len < 126 { 2 } else { 4 };
            assert_eq!(frame.len(), head + 4 + len);
            let bare: Vec<u8> = frame[head + 4..].iter().zip(frame[head..head + 4].iter().cycle()).map(|(b, k)| b ^ k).collect();
            assert_eq!(bare, payload);
        }
        assert!(put_text(&mut Vec::new(), |out| out.resize(out.len() + 70_000, 0)).is_err());
    }

    #[test]
    fn a_frame_is_read_only_when_it_is_whole() {
        let bytes = [0x81, 3, b'4', b'2', b'[', 0x89];
        assert!(frame(&bytes[..4]).is_none());
        let Some((Frame::Text(text), 5)) = frame(&bytes) else { panic!("a text frame of five bytes") };
        assert_eq!(text, b"42[");
        assert!(frame(&bytes[5..]).is_none());
    }

    #[test]
    fn packets_are_distinguished() {
        assert_eq!(packet(b"0{\"sid\":\"a\"}"), Packet::Open);
        assert_eq!(packet(b"40{\"sid\":\"a\"}"), Packet::Connected(b"{\"sid\":\"a\"}"));
        assert_eq!(packet(b"40/chat,{\"sid\":\"a\"}"), Packet::Connected(b"{\"sid\":\"a\"}"));
        assert_eq!(packet(b"44/chat,{\"message\":\"no\"}"), Packet::Refused(b"{\"message\":\"no\"}"));
        assert_eq!(packet(b"42[\"a\",1]"), Packet::Event(b"[\"a\",1]"));
        assert_eq!(packet(b"42/chat,[\"a\"]"), Packet::Event(b"[\"a\"]"));
        assert_eq!(packet(b"4317[{}]"), Packet::Ack(17, b"[{}]"));
        assert_eq!(packet(b"43/chat,5[{}]"), Packet::Ack(5, b"[{}]"));
        assert_eq!(packet(b"2"), Packet::Ping);
    }
}
