//! `random.wit`: randomness of the operating system, repeated in a rerun.

use crate::sandbox::imports::random::Host;
use crate::transaction::state::State;

/// The most bytes that one call returns.
const MAX_BYTES: u32 = 1024;

impl Host for State {
    fn bytes(&mut self, len: u32) -> wasmtime::Result<Vec<u8>> {
        self.import()?;
        let len = len.min(MAX_BYTES) as usize;
        let replay = &mut self.call.replay;
        let at = replay.next_random;
        replay.next_random += 1;
        if let Some(bytes) = replay.random.get(at).filter(|bytes| bytes.len() == len) {
            return Ok(bytes.clone());
        }
        let mut bytes = vec![0; len];
        getrandom::fill(&mut bytes).map_err(|e| wasmtime::Error::msg(e.to_string()))?;
        // A rerun that asks for another length has diverged: from here on its answers are new.
        replay.random.truncate(at);
        replay.random.push(bytes.clone());
        Ok(bytes)
    }
}
