//! The only code that uses wasmtime (besides the capabilities' `impl Host`): turns the bytes of a component into instances that
//! can be called within limits. It does not depend on plugins' names or on the work of their imports.

mod bindings;
mod cache;
mod compiler;
mod config;
mod deadline;
mod engine;
mod instance;
pub mod v0_1;

pub use bindings::exports::hubbub::plugin::handler as exports;
pub use bindings::hubbub::plugin as imports;
pub use cache::CacheKey;
pub use compiler::{COMMAND, CompileError, PANICKED, compile};
pub use config::{Config, SandboxError};
pub use engine::Sandbox;
pub use instance::{Fault, Guest, Instance, Limit, Limiter, Template, World, metered, within};

/// The linker that capabilities add their imports to.
pub type Linker<T> = wasmtime::component::Linker<T>;
