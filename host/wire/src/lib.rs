//! Socket.IO for axum and tokio: Engine.IO 4 over websocket and long polling, Socket.IO 5 over that.
//!
//! Stock clients get the same answers, bodies and close codes as from the reference server on Node. The crate has connections,
//! namespaces, events, acks and attachments; rooms, users and tokens are left to the application, a [`Handler`].
//!
//! - **One task per connection.** It reads, writes and keeps the heartbeat. An idle connection holds no buffer.
//! - **One frame per broadcast.** A [`Message`] is encoded once and shared by all recipients. It is written from the sender's task
//!   while the recipient's queue is empty; otherwise it is queued, and written with others by the recipient's task.
//! - **A limit on everything**, in [`Config`]. A client that does not read is disconnected when its queue is full; a client that
//!   does not take its answers is not read from; a handler that cannot keep up pauses the reader.
//! - **JSON stays text.** An event's arguments are validated once, and passed on as the text that was received.
//! - **Ready for connection state recovery.** The wire makes socket ids and private ids; the application gives each event its offset,
//!   a last argument that is the same for every recipient; [`Connect::resume`] and [`Accepted::missed`] restore a socket.
//!
//! # An echo server
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use axum::Router;
//! use axum::response::Response;
//! use hubbub_wire::{Accepted, Config, Connect, Event, Handler, Outgoing, Refused, Socket, Wire};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     type Connection = ();
//!     type Socket = ();
//!
//!     async fn open(self: Arc<Self>, _: http::request::Parts) -> Result<(), Response> {
//!         Ok(())
//!     }
//!
//!     async fn connect(self: Arc<Self>, _: Connect<Self>) -> Result<Accepted<()>, Refused> {
//!         Ok(Accepted::new(()))
//!     }
//!
//!     fn event(&self, socket: &Socket, _: &(), event: Event<'_>) {
//!         let echo = Outgoing { namespace: socket.namespace(), name: &event.name, args: event.args, ..Outgoing::default() };
//!         socket.send(&echo.encode());
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> std::io::Result<()> {
//!     let wire = Wire::new(Arc::new(Echo), Config::default());
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//!     axum::serve(listener, Router::new().route_service("/socket.io/", wire)).await
//! }
//! ```

#![deny(missing_docs)]

mod asks;
mod base64;
mod config;
mod frame;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod handler;
mod id;
mod io;
mod json;
mod link;
mod message;
mod packet;
mod polling;
mod positions;
mod query;
mod reader;
mod reason;
mod respond;
mod service;
mod shared;
mod socket;
mod upgrade;
mod websocket;

pub use asks::{Answer, AskError, Asked, next_ask};
pub use config::Config;
pub use handler::{Accepted, Connect, EngineBody, EngineMessage, Event, Handler, Notice, Refused, UpgradeError};
pub use id::{PrivateId, SocketId};
pub use io::{Takeover, Tcp, plain};
pub use link::Sent;
pub use message::{Message, Outgoing};
pub use positions::{Late, Sequence};
pub use reason::{BadPacket, Limit, QueueLimit, Reason};
pub use service::Wire;
pub use socket::{Connection, Socket};
