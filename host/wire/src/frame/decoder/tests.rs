//! Differential tests: the decoder against tungstenite, and against itself with other pieces of input.

use super::*;
use crate::fuzz::frames;

const MAX: usize = 300;

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// A frame that is mostly valid.
    fn frame(&mut self, out: &mut Vec<u8>) {
        let opcode = self.one_of(&[1u8, 1, 1, 2, 2, 0, 0, 8, 9, 10, 3, 11]);
        let is_final = self.below(3) > 0 || opcode >= 8 && self.below(20) > 0;
        let reserved = if self.below(60) == 0 { 0x40 } else { 0 };
        let payload = self.payload(opcode);
        out.push(opcode | reserved | u8::from(is_final) << 7);
        let masked = if self.below(60) == 0 { 0 } else { 0x80 };
        match payload.len() {
            length @ ..126 => out.push(masked | length as u8),
            length => {
                out.push(masked | 126);
                out.extend_from_slice(&(length as u16).to_be_bytes());
            }
        }
        let mask = [self.below(256) as u8, self.below(256) as u8, self.below(256) as u8, self.below(256) as u8];
        if masked > 0 {
            out.extend_from_slice(&mask);
        }
        out.extend(payload.iter().enumerate().map(|(at, byte)| if masked > 0 { byte ^ mask[at % 4] } else { *byte }));
    }

    fn payload(&mut self, opcode: u8) -> Vec<u8> {
        let length = self.one_of(&[0, 1, 2, 3, 7, 8, 9, 20, 125, 126, 150, 290, 301]);
        if opcode == 8 {
            let code = self.one_of(&[1000u16, 1001, 1005, 1006, 1007, 999, 3000, 4999, 5000, 1015, 2999]);
            let text: &[u8] = self.one_of(&[&b""[..], b"bye", b"\xff"]);
            return if length < 2 { vec![1; length] } else { [&code.to_be_bytes()[..], text].concat() };
        }
        let text = if self.below(40) == 0 { "\u{80}" } else { self.one_of(&["a", "é", "🦀"]) };
        let mut bytes = text.repeat(length / text.len().max(1)).into_bytes();
        if self.below(30) == 0 {
            bytes.push(0xc3);
        }
        bytes
    }
}

#[test]
fn the_decoder_reads_as_tungstenite_does() {
    let mut random = Random(3);
    let mut refused = 0;
    for _ in 0..40_000 {
        let mut bytes = Vec::new();
        for _ in 0..=random.below(6) {
            random.frame(&mut bytes);
        }
        frames::check(&bytes, std::iter::repeat(1));
        let pieces: Vec<usize> = (0..bytes.len()).map(|_| 1 + random.below(40)).collect();
        let read = frames::check(&bytes, pieces.into_iter());
        refused += usize::from(read.last().is_some_and(frames::Seen::is_refusal));
    }
    assert!((4_000..36_000).contains(&refused), "{refused} refused of 40 000");
}

#[test]
fn a_length_that_is_too_long_is_refused_by_the_header_alone() {
    let mut header = [0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    assert_eq!(Decoder::new(MAX).next(&mut &mut header[..]), Err(FrameError::TooLong));
}

#[test]
fn no_memory_is_kept_between_messages() {
    let mut decoder = Decoder::new(1 << 20);
    let mut bytes = vec![0x82, 0xfe, 0xff, 0xff, 0, 0, 0, 0];
    bytes.extend(vec![7; 0xffff]);
    for piece in bytes.chunks_mut(1000) {
        let mut input = piece;
        while decoder.next(&mut input).unwrap().is_some() {}
    }
    assert_eq!((decoder.message.capacity(), decoder.control.capacity()), (0, 0));
}
