//! The `hubbub` binary. All code is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    hubbub::cli::main()
}
