//! The public port: listeners, HTTP, CORS, the API for backends, and the pages. Websockets and polls are handled by `socket`.

pub mod accept;
pub mod api;
pub mod body;
pub mod demo;
pub mod docs;
pub mod guard;
pub mod hosts;
pub mod http1;
pub mod origin;
pub mod page;
pub mod watch;
pub mod web;
