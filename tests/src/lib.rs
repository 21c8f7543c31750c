//! The test harness: real servers, real clients and the helpers that tests are written with. Must never use the server's code:
//! tests see the server from outside only.
//!
//! A test starts a [`Server`], connects [`Client`]s and asserts what they receive. Nothing here sleeps for a fixed time: each
//! wait is for a condition and ends at a [deadline](wait::DEADLINE), with an error that shows what was seen so far.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a harness fails a test by panicking and prints the reason"
)]

pub mod abi;
pub mod browser;
pub mod certificate_authority;
pub mod client;
pub mod cluster;
pub mod collector;
pub mod compiler;
pub mod container;
pub mod disk;
pub mod fixture;
pub mod kafka;
pub mod load;
pub mod machine;
pub mod metrics;
pub mod node;
pub mod node_server;
pub mod packet;
pub mod polling;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod recording;
pub mod redis;
pub mod returning;
pub mod server;
pub mod stalled;
pub mod stock;
pub mod store;
pub mod tcp_proxy;
pub mod token;
pub mod upgrade;
pub mod wait;
pub mod websocket_blocker;

pub use browser::Browser;
pub use certificate_authority::CertificateAuthority;
pub use client::{Auth, Client};
pub use disk::SmallDisk;
pub use load::Load;
pub use node_server::NodeServer;
pub use postgres::Postgres;
pub use proxy::Proxy;
pub use returning::Returning;
pub use server::Server;
pub use stock::{Stock, StockSocket};
pub use tcp_proxy::TcpProxy;
pub use token::{Token, token};
pub use upgrade::Upgrade;
pub use websocket_blocker::{Fault, WebsocketBlocker};

/// The folder of this package; the checkout is above it.
pub fn package_dir() -> std::path::PathBuf {
    std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The root of the checkout.
pub fn checkout_dir() -> std::path::PathBuf {
    package_dir().parent().expect("the package is in a folder of the checkout").to_path_buf()
}
