//! The author's commands: make, build, test and look into a plugin, and notice its changes. It prints nothing but what the
//! cargo that it runs prints, and it never runs a plugin's code in this process.

mod build;
mod cargo;
mod compiler;
mod component;
mod contents;
mod hints;
pub(crate) mod inspect;
mod scaffold;
#[cfg(test)]
mod scratch;
mod watch;

use std::path::Path;

/// Folders, under a checkout's root, whose change concerns every plugin.
const SHARED: [&str; 3] = ["sdk/src", "sdk/macros/src", "wit"];

pub use build::{Built, BuiltAll, Options, build, build_all};
pub use cargo::CargoError;
pub use compiler::{NoCompiler, Toolchain};
pub use component::ComponentError;
pub use inspect::{InspectError, Inspection, inspect};
pub use scaffold::{NewError, new};
pub use watch::{Changed, WatchError, Watcher};

pub use build::BuildError;

/// Runs `cargo test` of the crate in `dir`, on this machine's own target: the SDK's harness takes the host's place. Its output
/// goes where this process's goes. True: all tests passed.
pub fn test(dir: &Path) -> Result<bool, CargoError> {
    cargo::test(dir)
}
