//! `clock.wit`: the moment the call began.

use super::state::State;
use crate::sandbox::imports::clock::Host;

impl Host for State {
    fn now(&mut self) -> wasmtime::Result<u64> {
        self.import()?;
        Ok(self.call.now_ms)
    }
}
