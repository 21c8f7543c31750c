//! Passes libFuzzer's bytes to `hubbub::fuzz::config`. Must never do more.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hubbub::fuzz::config(bytes));
