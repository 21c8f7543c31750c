//! The `hubbub` binary.
fn main() {}
