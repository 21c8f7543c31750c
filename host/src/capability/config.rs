//! `config.wit`: the plugin's own section of the configuration.

use super::state::State;
use crate::sandbox::imports::config::Host;

impl Host for State {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        self.import()?;
        Ok(self.profile.config.get(&key).map(ToString::to_string))
    }
}
