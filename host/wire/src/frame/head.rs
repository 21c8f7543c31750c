//! The header of a client's frame.

use super::{FrameError, Opcode};

/// The longest header of a frame that a client sends.
pub(super) const MAX: usize = 14;

/// A complete header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) opcode: Opcode,
    pub(super) is_final: bool,
    pub(super) mask: [u8; 4],
    /// Bytes of the header.
    pub(super) size: usize,
    /// Bytes of the payload, as announced.
    pub(super) length: u64,
}

impl Head {
    /// Reads the header at the start of the bytes. Returns None while it is incomplete.
    ///
    /// # Errors
    /// The header is not valid.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let is_final = first & 0x80 != 0;
        let opcode = match first & 15 {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return Err(FrameError::Protocol),
        };
        // No extension is negotiated, so the reserved bits must be zero.
        if first & 0x70 != 0 || (opcode.is_control() && !is_final) {
            return Err(FrameError::Protocol);
        }
        let Some(&second) = bytes.get(1) else { return Ok(None) };
        // Every frame of a client must be masked.
        if second & 0x80 == 0 || (opcode.is_control() && second & 0x7f > 125) {
            return Err(FrameError::Protocol);
        }
        let (length, at) = match second & 0x7f {
            126 => (bytes.get(2..4).and_then(|two| two.try_into().ok()).map(|two| u64::from(u16::from_be_bytes(two))), 4),
            127 => (bytes.get(2..10).and_then(|eight| eight.try_into().ok()).map(u64::from_be_bytes), 10),
            short => (Some(u64::from(short)), 2),
        };
        let mask = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
        let (Some(length), Some(mask)) = (length, mask) else { return Ok(None) };
        Ok(Some(Self { opcode, is_final, mask, size: at + 4, length }))
    }
}

/// Applies a mask to a part of a payload. `at` is its offset in the payload.
pub(super) fn unmask(bytes: &mut [u8], mask: [u8; 4], at: usize) {
    let mut mask = u32::from_le_bytes(mask);
    mask = mask.rotate_right(8 * (at % 4) as u32);
    let wide = u64::from(mask) << 32 | u64::from(mask);
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut eight = [0; 8];
        eight.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_le_bytes(eight) ^ wide).to_le_bytes());
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(wide.to_le_bytes()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_applies_at_any_place() {
        let (mask, plain) = ([1, 2, 3, 4], (0..100).collect::<Vec<u8>>());
        let masked: Vec<u8> = plain.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect();
        for cut in 0..plain.len() {
            let mut bytes = masked.clone();
            let (first, second) = bytes.split_at_mut(cut);
            unmask(first, mask, 0);
            unmask(second, mask, cut);
            assert_eq!(bytes, plain);
        }
    }
}
