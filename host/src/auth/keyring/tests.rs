//! The keyring with real keys of every algorithm, and with everything that attackers are known to try. The keys in `test_keys/`
//! were made for these tests and open nothing.
#![allow(clippy::unwrap_used)]

mod algorithms;
mod attacks;
mod configuration;
mod kit;
mod selection;
mod sets;
