//! `metrics.wit`: a plugin's own metrics, limited in number.

use crate::sandbox::imports::metrics::Host;
use crate::transaction::state::State;

impl Host for State {
    fn count(&mut self, name: String, by: u64) -> wasmtime::Result<()> {
        self.import()?;
        self.services.metrics.custom.count(&self.profile.name, &name, by);
        Ok(())
    }

    fn observe(&mut self, name: String, value: f64) -> wasmtime::Result<()> {
        self.import()?;
        self.services.metrics.custom.observe(&self.profile.name, &name, value);
        Ok(())
    }

    fn gauge(&mut self, name: String, value: f64) -> wasmtime::Result<()> {
        self.import()?;
        self.services.metrics.custom.gauge(&self.profile.name, &name, value);
        Ok(())
    }
}
