//! Hubbub: a realtime server whose features are sandboxed WebAssembly plugins.
//!
//! The modules are layers, lowest first; each uses only those above it in this list. The README draws the picture.

// L0: words and time.
pub mod clock;
pub mod duration;
pub mod error;
pub mod json;
pub mod memory;
pub mod names;
pub mod owners;
pub mod private;
pub mod rate;
pub mod shown;
pub mod telemetry;
// L1: code that is not trusted.
pub mod sandbox;
// L2: rooms and what is stored.
pub mod cluster;
pub mod storage;
// L3: what plugins may do.
pub mod capability;
// L4: which plugin does it.
pub mod release;
// L5: clients, and other systems.
pub mod egress;
pub mod gateway;
pub mod ingest;
// L6: the program.
pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
#[doc(hidden)]
pub mod fuzz;
pub mod toolchain;
