//! `clock.wit`: the time at which the call began.

use crate::sandbox::imports::clock::Host;
use crate::transaction::state::State;

impl Host for State {
    fn now(&mut self) -> wasmtime::Result<u64> {
        self.import()?;
        Ok(self.call.now_ms)
    }
}
