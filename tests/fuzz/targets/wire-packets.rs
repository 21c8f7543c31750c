//! Passes libFuzzer's bytes to `hubbub_wire::fuzz::packets`. Must never do more.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hubbub_wire::fuzz::packets(bytes));
