//! `config.wit`: the plugin's own section of the configuration.

use crate::sandbox::imports::config::Host;
use crate::transaction::state::State;

impl Host for State {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        self.import()?;
        Ok(self.profile.config.get(&key).map(ToString::to_string))
    }
}
