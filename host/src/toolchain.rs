//! The commands of plugin authors: create, build, test, inspect and watch a plugin. It prints only cargo's output, and must never
//! run a plugin's code in this process.

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

/// Folders of a checkout that every plugin depends on.
const SHARED: [&str; 3] = ["sdk/src", "sdk/macros/src", "wit"];

pub use build::{Built, BuiltAll, Options, build, build_all};
pub use cargo::CargoError;
pub use compiler::{NoCompiler, Toolchain};
pub use component::ComponentError;
pub use inspect::{InspectError, Inspection, inspect};
pub use scaffold::{NewError, new};
pub use watch::{Changed, WatchError, Watcher};

pub use build::BuildError;

/// Runs `cargo test` of the crate in `dir` natively; the SDK's harness stands in for the host. The output is inherited. True: all
/// tests passed.
pub fn test(dir: &Path) -> Result<bool, CargoError> {
    cargo::test(dir)
}
