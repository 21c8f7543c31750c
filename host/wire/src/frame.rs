//! Websocket frames (RFC 6455). A frame for writing is a header and a payload in shared memory; frames are read by a
//! [`Decoder`](decoder::Decoder).

pub(crate) mod decoder;
mod head;

/// The opcodes of RFC 6455.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// The longest header of a frame that a server sends.
pub(crate) const MAX_HEADER: usize = 10;

/// Appends the header of a whole frame that is not masked.
pub(crate) fn header(opcode: Opcode, length: usize, out: &mut Vec<u8>) {
    out.push(0x80 | opcode as u8);
    match length {
        0..=125 => out.push(length as u8),
        126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// Bytes of a frame with a payload of this length.
pub(crate) fn size(length: usize) -> usize {
    length
        + match length {
            0..=125 => 2,
            126..=0xffff => 4,
            _ => MAX_HEADER,
        }
}

/// A close frame with a code, or with none.
pub(crate) fn close(code: Option<u16>) -> Vec<u8> {
    let mut frame = Vec::with_capacity(4);
    header(Opcode::Close, if code.is_some() { 2 } else { 0 }, &mut frame);
    frame.extend(code.map(u16::to_be_bytes).into_iter().flatten());
    frame
}

/// Splits the first frame off frames that [`header`] made: its opcode, its payload and the rest.
pub(crate) fn split(frames: &[u8]) -> Option<(Opcode, &[u8], &[u8])> {
    let (first, second) = (*frames.first()?, *frames.get(1)?);
    let (length, size) = match second {
        126 => (usize::from(u16::from_be_bytes(frames.get(2..4)?.try_into().ok()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(frames.get(2..10)?.try_into().ok()?)).ok()?, MAX_HEADER),
        short => (usize::from(short), 2),
    };
    let opcode = match first & 15 {
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        _ => Opcode::Pong,
    };
    let payload = frames.get(size..size.checked_add(length)?)?;
    Some((opcode, payload, &frames[size + length..]))
}

/// Errors after which no frame can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// The frame is not valid: close code 1002.
    Protocol,
    /// A text that is not UTF-8: close code 1007.
    Utf8,
    /// A message above the limit: close code 1009.
    TooLong,
}

impl FrameError {
    /// The code to close the websocket with.
    pub(crate) fn code(self) -> u16 {
        match self {
            Self::Protocol => 1002,
            Self::Utf8 => 1007,
            Self::TooLong => 1009,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_splits_into_what_it_was_made_of() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let mut frames = Vec::new();
            header(Opcode::Text, length, &mut frames);
            frames.extend(vec![b'x'; length]);
            frames.extend(close(Some(1009)));
            assert_eq!(frames.len(), size(length) + 4);
            let (opcode, payload, rest) = split(&frames).unwrap();
            assert_eq!((opcode, payload.len()), (Opcode::Text, length));
            assert_eq!(split(rest), Some((Opcode::Close, &[3, 241][..], &[][..])));
            assert_eq!(split(&frames[..length]), None);
        }
    }
}
