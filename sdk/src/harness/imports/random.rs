//! Randomness that is the same in every run of the test.

use crate::harness::call::{self, Answer};

/// The most bytes of one call.
const MAX_BYTES: u32 = 1024;

pub(crate) fn bytes(len: u32) -> Vec<u8> {
    call::import(|call, world| {
        let answer = call.answer(|| Answer::Random((0..len.min(MAX_BYTES)).map(|_| world.random()).collect()));
        match answer {
            Answer::Random(bytes) => bytes,
            Answer::Budget(_) => Vec::new(),
        }
    })
}
