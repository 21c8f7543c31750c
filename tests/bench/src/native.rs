//! The closest rival: the same chat as ordinary socketioxide handlers in a server of its own. It must never be slower than
//! careful code, or omit a requirement of the chat.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use axum::routing::get;
use axum::serve::ListenerExt;
use serde::{Deserialize, Serialize};
use socketioxide::SocketIo;
use socketioxide::extract::{AckSender, Data, SocketRef, TryData};
use socketioxide::handler::ConnectHandler;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::child::own_command;
use crate::token::{Checker, Claims};

/// Longest message, in characters.
const MESSAGE_LIMIT: usize = 2000;

pub(crate) fn command(addr: SocketAddr) -> Result<Command> {
    own_command("native", addr)
}

#[derive(Deserialize)]
struct Auth {
    token: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Join {
    video_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    video_id: String,
    message: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChatMessage<'a> {
    id: Uuid,
    video_id: &'a str,
    user_id: &'a str,
    message: &'a str,
    timestamp: u64,
}

#[derive(Serialize)]
struct Done {}

#[derive(Serialize)]
struct Refusal {
    error: Problem,
}

#[derive(Serialize)]
struct Problem {
    code: &'static str,
    message: &'static str,
}

const INVALID: Refusal = Refusal { error: Problem { code: "invalid", message: "Invalid message" } };

/// Serves until its standard input ends.
///
/// # Errors
/// The address is taken.
pub(crate) async fn serve(addr: SocketAddr) -> Result<()> {
    let checker = Arc::new(Checker::new());
    let (layer, io) = SocketIo::new_layer();
    let auth = move |socket: SocketRef, TryData(auth): TryData<Auth>| {
        let checker = Arc::clone(&checker);
        async move {
            let Ok(auth) = auth else { return Err("Authentication error") };
            let claims = checker.check(&auth.token).map_err(|_| "Invalid token")?;
            socket.extensions.insert(Arc::new(claims));
            // Registered here and not after the CONNECT's reply, where the first event of a client that emits at once would be
            // lost.
            handle(&socket);
            Ok(())
        }
    };
    io.ns("/", (async || {}).with(auth));
    // Nagle's algorithm would delay packets until the client's delayed ack.
    let listener = TcpListener::bind(addr).await.context("cannot listen")?.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let app = axum::Router::new().route("/health", get(|| async { "{}" })).layer(layer);
    tokio::select! {
        served = axum::serve(listener, app) => Ok(served?),
        () = crate::parent_ended() => Ok(()),
    }
}

fn handle(socket: &SocketRef) {
    socket.on("chat:join", async |socket: SocketRef, Data(join): Data<Join>, ack: AckSender| {
        socket.join(room(&join.video_id));
        let _ = ack.send(&Done {});
    });
    socket.on("chat:message", chat_message);
}

async fn chat_message(socket: SocketRef, Data(message): Data<Message>, ack: AckSender) {
    let Some(user) = socket.extensions.get::<Arc<Claims>>() else { return };
    let text = message.message.trim();
    if text.is_empty() || text.chars().count() > MESSAGE_LIMIT {
        let _ = ack.send(&INVALID);
        return;
    }
    let chat_message = ChatMessage {
        id: Uuid::new_v4(),
        video_id: &message.video_id,
        user_id: &user.sub,
        message: text,
        timestamp: timestamp(),
    };
    // A member with a full queue loses this message; the generator counts it as lost.
    let _ = socket.within(room(&message.video_id)).emit("chat:message", &chat_message).await;
    let _ = ack.send(&Done {});
}

#[expect(clippy::disallowed_methods, reason = "a rival reads the clock as usual; no test changes it")]
fn timestamp() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_millis() as u64)
}

fn room(video_id: &str) -> String {
    format!("chat:{video_id}")
}
