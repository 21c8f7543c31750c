//! The engine: compiles components, and limits what they may use.

use std::sync::Arc;

use tokio::sync::Semaphore;
use wasmtime::Engine;

use super::Linker;
use super::cache::CacheKey;
use super::compiler::Compiler;
use super::config::{Config, SandboxError, settings};
use super::deadline::Ticker;
use super::instance::{Guest, Pre, SLOW_CALLS, Template};

/// Compiles components and creates instances of them.
pub struct Sandbox {
    engine: Engine,
    compiler: Compiler,
    ticker: Arc<Ticker>,
    slow_lane: Arc<Semaphore>,
    config: Config,
}

impl Sandbox {
    pub fn new(config: Config, key: CacheKey) -> Result<Self, SandboxError> {
        let broken = |e: wasmtime::Error| SandboxError::Engine(format!("{e:#}"));
        let engine = Engine::new(&settings(&config)).map_err(broken)?;
        let ticker = Ticker::start(engine.clone()).map_err(|e| SandboxError::Engine(e.to_string()))?;
        let slow_lane = Arc::new(Semaphore::new(SLOW_CALLS));
        let compiler = Compiler::new(&engine, config.clone(), key);
        Ok(Self { engine, compiler, ticker: Arc::new(ticker), slow_lane, config })
    }

    /// Compiles a component and checks its imports against those of `add_imports`. A new component takes seconds: never call this
    /// on a thread that serves sockets.
    pub fn template<T: Guest>(
        &self,
        bytes: &[u8],
        add_imports: impl FnOnce(&mut Linker<T>) -> Result<(), wasmtime::Error>,
    ) -> Result<Template<T>, SandboxError> {
        self.config.check(bytes)?;
        let component = self.compiler.component(&self.engine, bytes)?;
        let world = |e: wasmtime::Error| SandboxError::World(format!("{e:#}"));
        let mut linker = Linker::new(&self.engine);
        add_imports(&mut linker).map_err(|e| SandboxError::Engine(format!("{e:#}")))?;
        let pre = linker.instantiate_pre(&component).map_err(world)?;
        let pre = Pre::new(pre).map_err(world)?;
        Ok(Template::new(pre, self.ticker.clone(), self.slow_lane.clone(), self.config.clone()))
    }
}
