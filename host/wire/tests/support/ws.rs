//! A websocket client that sends and reads raw frames.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Answer, SOON};

/// The headers of a websocket handshake.
pub const UPGRADE: [&str; 4] =
    ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="];

/// A frame of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    Text(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
    /// The end of the connection.
    End,
}

/// A websocket client.
pub struct Ws {
    pub stream: TcpStream,
    bytes: Vec<u8>,
}

impl Ws {
    /// Opens a websocket.
    ///
    /// # Errors
    /// The handshake is refused.
    pub async fn open(address: SocketAddr, query: &str) -> Result<Self, Answer> {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let head = format!("GET /socket.io/?{query} HTTP/1.1\r\nHost: localhost\r\n{}\r\n\r\n", UPGRADE.join("\r\n"));
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if timeout(SOON, stream.read_buf(&mut bytes)).await.expect("an answer comes").unwrap_or(0) == 0 {
                return Err(Answer { status: 0, kind: None, body: String::new() });
            }
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let bytes = bytes.split_off(end);
        if !head.starts_with("HTTP/1.1 101") {
            let mut body = bytes;
            // The body, as far as it comes at once.
            while timeout(Duration::from_millis(100), stream.read_buf(&mut body))
                .await
                .is_ok_and(|read| read.is_ok_and(|n| n > 0))
            {}
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            return Err(Answer { status, kind: None, body: String::from_utf8_lossy(&body).into_owned() });
        }
        Ok(Self { stream, bytes })
    }

    pub async fn send(&mut self, text: &str) {
        self.frame(0x81, text.as_bytes()).await;
    }

    pub async fn binary(&mut self, bytes: &[u8]) {
        self.frame(0x82, bytes).await;
    }

    pub async fn frame(&mut self, first: u8, payload: &[u8]) {
        // The server may have closed the connection.
        let _ = self.stream.write_all(&masked(first, payload)).await;
    }

    /// The next frame, without pings of the engine.
    pub async fn next(&mut self) -> Frame {
        loop {
            match self.any().await {
                Frame::Text(text) if text == "2" => {}
                frame => return frame,
            }
        }
    }

    /// The next frame.
    pub async fn any(&mut self) -> Frame {
        loop {
            if let Some(frame) = self.take() {
                return frame;
            }
            match timeout(SOON, self.stream.read_buf(&mut self.bytes)).await.expect("a frame comes") {
                Ok(1..) => {}
                _ => return Frame::End,
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let (length, at) = match *self.bytes.get(1)? {
            126 => (usize::from(u16::from_be_bytes(self.bytes.get(2..4)?.try_into().unwrap())), 4),
            127 => (u64::from_be_bytes(self.bytes.get(2..10)?.try_into().unwrap()) as usize, 10),
            short => (usize::from(short), 2),
        };
        let payload = self.bytes.get(at..at + length)?.to_vec();
        let opcode = self.bytes[0] & 15;
        self.bytes.drain(..at + length);
        Some(match opcode {
            1 => Frame::Text(String::from_utf8(payload).unwrap()),
            2 => Frame::Binary(payload),
            8 => Frame::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
            _ => Frame::Pong(payload),
        })
    }

    pub async fn text(&mut self) -> String {
        match self.next().await {
            Frame::Text(text) => text,
            other => panic!("a text was expected: {other:?}"),
        }
    }
}

pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![first];
    match payload.len() {
        length @ ..126 => frame.push(0x80 | length as u8),
        length @ ..0x10000 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    frame
}
