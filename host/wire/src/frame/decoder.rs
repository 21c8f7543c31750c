//! Reads a client's frames from bytes in pieces of any size. A message that is complete in one piece is not copied; any other is
//! collected, and its memory is freed after it was read.

use super::head::{self, Head, unmask};
use super::{FrameError, Opcode};

/// A message or control frame of a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    Ping(&'a [u8]),
    Pong,
    /// The client closes the websocket, with a code or with none.
    Close(Option<u16>),
}

/// The state between two pieces of input.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// The longest message, in bytes.
    max: usize,
    /// The first bytes of a header that is incomplete.
    header: [u8; head::MAX],
    have: u8,
    /// The frame whose payload is incomplete, and the bytes of it that were read.
    frame: Option<(Head, usize)>,
    /// The opcode of a fragmented message that is incomplete.
    fragmented: Option<Opcode>,
    /// The payload of a message that is incomplete.
    message: Vec<u8>,
    /// The payload of a control frame that is incomplete. Control frames may come between the fragments of a message.
    control: Vec<u8>,
    /// The last item was returned from one of these buffers, which is to be freed.
    handed: Option<Opcode>,
}

impl Decoder {
    /// A decoder that refuses messages of more than `max` bytes.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            header: [0; head::MAX],
            have: 0,
            frame: None,
            fragmented: None,
            message: Vec::new(),
            control: Vec::new(),
            handed: None,
        }
    }

    /// Reads the next item, and leaves the rest in `input`. Returns None when all of `input` was read and no item is complete.
    ///
    /// # Errors
    /// No more frames can be read.
    pub(crate) fn next<'d, 'i: 'd>(&'d mut self, input: &mut &'i mut [u8]) -> Result<Option<Item<'d>>, FrameError> {
        self.forget();
        loop {
            let (head, had) = match self.frame.take() {
                Some(frame) => frame,
                None => match self.head(input)? {
                    Some(head) => (head, 0),
                    None => return Ok(None),
                },
            };
            // It fits in `usize`: a longer frame was refused by its header.
            let length = head.length as usize;
            let count = (length - had).min(input.len());
            let (taken, rest) = std::mem::take(input).split_at_mut(count);
            *input = rest;
            unmask(taken, head.mask, had);
            let is_whole = had + count == length;
            if is_whole && had == 0 && head.is_final && self.fragmented.is_none_or(|_| head.opcode.is_control()) {
                return item(head.opcode, taken).map(Some);
            }
            if head.opcode.is_control() { &mut self.control } else { &mut self.message }.extend_from_slice(taken);
            if !is_whole {
                self.frame = Some((head, had + count));
                return Ok(None);
            }
            if head.opcode.is_control() {
                self.handed = Some(head.opcode);
                return item(head.opcode, &self.control).map(Some);
            }
            if head.is_final {
                let opcode = self.fragmented.take().unwrap_or(head.opcode);
                self.handed = Some(opcode);
                return item(opcode, &self.message).map(Some);
            }
            self.fragmented.get_or_insert(head.opcode);
        }
    }

    fn forget(&mut self) {
        match self.handed.take() {
            Some(opcode) if opcode.is_control() => self.control = Vec::new(),
            Some(_) => self.message = Vec::new(),
            None => {}
        }
    }

    /// Reads a header, and checks that its frame is allowed now. Returns None while it is incomplete.
    fn head(&mut self, input: &mut &mut [u8]) -> Result<Option<Head>, FrameError> {
        let head = loop {
            if self.have == 0
                && let Some(head) = Head::parse(input)?
            {
                *input = &mut std::mem::take(input)[head.size..];
                break head;
            }
            let Some(byte) = input.first().copied() else { return Ok(None) };
            *input = &mut std::mem::take(input)[1..];
            self.header[usize::from(self.have)] = byte;
            self.have += 1;
            if let Some(head) = Head::parse(&self.header[..usize::from(self.have)])? {
                self.have = 0;
                break head;
            }
        };
        if head.opcode.is_control() {
            return Ok(Some(head));
        }
        if (head.opcode == Opcode::Continuation) != self.fragmented.is_some() {
            return Err(FrameError::Protocol);
        }
        if head.length > (self.max - self.message.len()) as u64 {
            return Err(FrameError::TooLong);
        }
        Ok(Some(head))
    }
}

fn item(opcode: Opcode, payload: &[u8]) -> Result<Item<'_>, FrameError> {
    Ok(match opcode {
        Opcode::Text => Item::Text(std::str::from_utf8(payload).map_err(|_| FrameError::Utf8)?),
        Opcode::Binary => Item::Binary(payload),
        Opcode::Ping => Item::Ping(payload),
        Opcode::Pong => Item::Pong,
        Opcode::Close => Item::Close(close_code(payload)?),
        // A message has the opcode of its first frame.
        Opcode::Continuation => return Err(FrameError::Protocol),
    })
}

fn close_code(payload: &[u8]) -> Result<Option<u16>, FrameError> {
    match payload {
        [] => Ok(None),
        [_] => Err(FrameError::Protocol),
        [high, low, text @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err(FrameError::Protocol);
            }
            std::str::from_utf8(text).map_err(|_| FrameError::Utf8)?;
            Ok(Some(code))
        }
    }
}

#[cfg(test)]
mod tests;
