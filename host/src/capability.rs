//! The imports of plugins: one WIT interface a file. An import reads, or collects an effect; nothing takes effect before the
//! commit. A capability uses the state of its call and its own part of the host, never plugins' versions or sockets.

pub mod budget;
pub mod bus;
pub mod clock;
pub mod config;
pub mod emitter;
pub mod import_recorder;
pub mod log;
pub mod metrics;
pub mod presence;
pub mod random;
pub mod rooms;
pub mod store;
pub mod timers;
mod v0_1;

use crate::sandbox::Linker;
use crate::transaction::state::State;

/// Adds every capability to a linker, under its name in each version of the contract. The interface `types` has no functions.
pub fn add_imports(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    use import_recorder::{HasImportRecorder, ImportRecorder};
    macro_rules! add {
        ($($interface:ident)*) => {
            $(
                crate::sandbox::imports::$interface::add_to_linker::<State, HasImportRecorder>(linker, |state| ImportRecorder(state))?;
                crate::sandbox::v0_1::imports::$interface::add_to_linker::<State, HasImportRecorder>(linker, |state| ImportRecorder(state))?;
            )*
        };
    }
    add!(rooms emitter store presence budget timers bus log metrics clock random config);
    Ok(())
}
