//! The websocket to which a polling session upgrades, written by hand. Must never send a packet that the test did not ask for,
//! because tests stop an upgrade half way.

use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::wait::DEADLINE;

/// A websocket of an existing session.
pub struct Upgrade {
    ws: WebSocketStream<TcpStream>,
}

impl Upgrade {
    /// Opens it; the error is the HTTP status.
    pub async fn open(at: SocketAddr, sid: &str) -> Result<Self, u16> {
        let stream = TcpStream::connect(at).await.expect("the server listens");
        stream.set_nodelay(true).expect("a new socket accepts options");
        match client_async(format!("ws://{at}/socket.io/?EIO=4&transport=websocket&sid={sid}"), stream).await {
            Ok((ws, _)) => Ok(Self { ws }),
            Err(tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("neither a websocket nor an HTTP answer: {error}"),
        }
    }

    /// Sends a frame. If the websocket is closed, the frame is lost.
    pub async fn send(&mut self, frame: &str) {
        let _ = self.ws.send(Message::text(frame)).await;
    }

    /// Sends several frames in one write.
    pub async fn send_at_once(&mut self, frames: &[&str]) {
        for frame in frames {
            let _ = self.ws.feed(Message::text(*frame)).await;
        }
        let _ = self.ws.flush().await;
    }

    /// The next text frame. None once the server has closed the websocket.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            match timeout(DEADLINE, self.ws.next()).await.expect("the server sends or closes") {
                Some(Ok(Message::Text(text))) => return Some(text.to_string()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    /// Sends the probe and waits for its answer.
    pub async fn probe(&mut self) {
        self.send("2probe").await;
        assert_eq!(self.next().await.as_deref(), Some("3probe"));
    }

    /// Closes the websocket with a close frame.
    pub async fn close(mut self) {
        let _ = self.ws.close(None).await;
    }

    /// Closes the connection without a close frame.
    pub fn cut(self) {
        drop(self.ws.into_inner());
    }
}
