//! The `hubbub` binary. Everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    hubbub::cli::main()
}
