//! The best-known rival: Socket.IO 4.8 on Node, tuned as its own guide recommends. It must never run on a development build or
//! with other packages than the locked ones.

use std::net::SocketAddr;
use std::process::Command;

use crate::child::package;
use crate::token::SECRET;

pub(crate) fn command(addr: SocketAddr) -> Command {
    serve(Command::new("node"), "node", addr)
}

/// Runs the server in `folder` with a JavaScript runtime.
pub(crate) fn serve(mut runtime: Command, folder: &str, addr: SocketAddr) -> Command {
    runtime.arg(package().join(folder).join("server.js")).arg(addr.ip().to_string()).arg(addr.port().to_string());
    // A single server without recovery unless the caller sets more.
    runtime.env("NODE_ENV", "production").env("JWT_SECRET", SECRET).env_remove("REDIS_URL").env_remove("RECOVERY");
    runtime
}
