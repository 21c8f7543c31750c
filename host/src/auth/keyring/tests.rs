//! The keyring with real keys of every algorithm, and the known attacks on tokens. The keys in `test_keys/` were made for these
//! tests and are used nowhere else.
#![allow(clippy::unwrap_used)]

mod algorithms;
mod attacks;
mod configuration;
mod kit;
mod selection;
mod sets;
