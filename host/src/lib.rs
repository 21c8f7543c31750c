//! Hubbub: a realtime server whose features are sandboxed WebAssembly plugins.
//!
//! The modules are layers, lowest first: each one uses only those above it in this list, without cycles.

// Small parts that every layer may use.
pub mod clock;
pub mod descriptors;
pub mod duration;
pub mod error;
pub mod json;
pub mod memory;
pub mod names;
pub mod owners;
pub mod private;
pub mod proxies;
pub mod rate;
pub mod shown;
pub mod telemetry;
// The events that clients that are away may have missed.
pub mod recovery;
// Untrusted code, stored data, and rooms.
pub mod rooms;
pub mod sandbox;
pub mod storage;
// The other nodes.
pub mod cluster;
// State that plugins use through their capabilities.
pub mod budgets;
pub mod presence;
pub mod timers;
// One call into a plugin: its rights, its effects, and how it runs.
pub mod call;
pub mod capability;
pub mod replay;
pub mod transaction;
// Which plugins are called, and when.
pub mod bus;
pub mod contract;
pub mod deploy;
// Clients.
pub mod auth;
pub mod server;
pub mod socket;
// The program.
pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
#[doc(hidden)]
pub mod fuzz;
pub mod toolchain;
