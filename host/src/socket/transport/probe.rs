//! A polling connection's upgrade to websocket, up to the packet that completes it. The engine sees nothing of it before that, so
//! an upgrade that fails leaves the polling connection as it was. It never answers a poll that carries data.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Closer, Connection};

/// How long after the probe the first poll is released again. Each further wait is twice as long, so that no client polls in a
/// busy loop while it does not complete its upgrade.
const RELEASE_AGAIN: Duration = Duration::from_millis(100);

const POLLING: u8 = 0;
const PROBING: u8 = 1;
const UPGRADED: u8 = 2;

/// How far a polling connection's upgrade is. At most one is under way.
#[derive(Default)]
pub struct Upgrade {
    state: AtomicU8,
    release: Notify,
}

impl Upgrade {
    /// Begins an upgrade. None where another one is under way, or where the connection is upgraded.
    pub fn begin(self: &Arc<Self>) -> Option<Attempt> {
        let begun = self.state.compare_exchange(POLLING, PROBING, Ordering::AcqRel, Ordering::Acquire);
        begun.is_ok().then(|| Attempt(self.clone()))
    }

    /// Resolves when a waiting poll has to be answered, so that the client can stop polling.
    pub async fn released(&self) {
        self.release.notified().await;
    }
}

/// An upgrade under way. Dropped before it is complete, it leaves the connection polling.
pub struct Attempt(Arc<Upgrade>);

impl Attempt {
    fn complete(self) {
        self.0.state.store(UPGRADED, Ordering::Release);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // A completed one stays complete.
        let _ = self.0.state.compare_exchange(PROBING, POLLING, Ordering::AcqRel, Ordering::Acquire);
    }
}

/// Why an upgrade failed, as metrics label it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// The websocket ended.
    Closed,
    /// The client did not complete it in time.
    Timeout,
    /// The client sent something else than an upgrade's packets.
    Unexpected,
}

impl Failed {
    pub fn reason(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Timeout => "timeout",
            Self::Unexpected => "unexpected",
        }
    }
}

impl Connection {
    /// Takes an upgrade's packets from a client. Answers the connection as the engine is to read it from the first packet on.
    pub async fn probe(mut self, attempt: Attempt, longest: Duration) -> Result<Self, Failed> {
        let mut input = BytesMut::from(&self.early[..]);
        let outcome = {
            let Self { io, closer, .. } = &mut self;
            let mut probing = pin!(probe(io, &mut input, &attempt.0));
            let mut closed = pin!(closed(closer));
            let either = poll_fn(|cx| match closed.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Err(Failed::Closed)),
                Poll::Pending => probing.as_mut().poll(cx),
            });
            tokio::time::timeout(longest, either).await.unwrap_or(Err(Failed::Timeout))
        };
        if let Err(failed) = outcome {
            drop(attempt);
            self.refuse().await;
            return Err(failed);
        }
        let mut early = BytesMut::with_capacity(input.len() + 16);
        masked(&mut early, PROBE);
        masked(&mut early, UPGRADE);
        early.extend_from_slice(&input);
        self.early = early.freeze();
        // The client has the engine's answer to the probe already.
        self.muted = HEADER + ANSWER.len();
        attempt.complete();
        Ok(self)
    }

    /// Closes a websocket that is of no use, as far as the client still reads.
    pub async fn refuse(mut self) {
        let _ = tokio::time::timeout(RELEASE_AGAIN, self.io.write_all(&[CLOSE_FRAME, 0])).await;
    }
}

/// Resolves when the connection is to end. While it polls, nothing else reads from it.
async fn closed(closer: &Closer) {
    poll_fn(|cx| {
        closer.0.reader.register(cx.waker());
        if closer.is_closed() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

async fn probe(io: &mut TcpStream, input: &mut BytesMut, upgrade: &Upgrade) -> Result<(), Failed> {
    if packet(io, input).await? != PROBE {
        return Err(Failed::Unexpected);
    }
    let mut answer = vec![TEXT_FRAME, ANSWER.len() as u8];
    answer.extend_from_slice(ANSWER);
    io.write_all(&answer).await.map_err(|_| Failed::Closed)?;
    let mut completing = pin!(packet(io, input));
    let (mut wait, mut next) = (RELEASE_AGAIN, Instant::now());
    loop {
        tokio::select! {
            biased;
            packet = &mut completing => return if packet? == UPGRADE { Ok(()) } else { Err(Failed::Unexpected) },
            () = tokio::time::sleep_until(next) => {}
        }
        // The client waits for the end of its poll before it completes the upgrade.
        upgrade.release.notify_waiters();
        next += wait;
        wait *= 2;
    }
}

/// The packets of an upgrade.
const PROBE: &[u8] = b"2probe";
const ANSWER: &[u8] = b"3probe";
const UPGRADE: &[u8] = b"5";

/// First bytes of whole frames.
const TEXT_FRAME: u8 = 0x81;
const CLOSE_FRAME: u8 = 0x88;

/// Bytes of a short frame's header, without the mask.
const HEADER: usize = 2;

/// Bytes of the mask that every frame of a client has.
const MASK: usize = 4;

/// The longest payload of a short frame. No packet of an upgrade needs more.
const SHORT: usize = 125;

/// The next packet, after answering what else may come.
async fn packet(io: &mut TcpStream, input: &mut BytesMut) -> Result<Bytes, Failed> {
    loop {
        match frame(input)? {
            Some((0x1, payload)) => return Ok(payload),
            Some((0x8, _)) => return Err(Failed::Closed),
            Some((0x9, payload)) => {
                let mut pong = vec![0x8a, payload.len() as u8];
                pong.extend_from_slice(&payload);
                io.write_all(&pong).await.map_err(|_| Failed::Closed)?;
            }
            Some((0xa, _)) => {}
            Some(_) => return Err(Failed::Unexpected),
            None => {
                if io.read_buf(input).await.map_err(|_| Failed::Closed)? == 0 {
                    return Err(Failed::Closed);
                }
            }
        }
    }
}

/// Takes the frame that the bytes begin with: its kind, and its payload. None where some of it is missing.
fn frame(bytes: &mut BytesMut) -> Result<Option<(u8, Bytes)>, Failed> {
    let [first, second, ..] = bytes[..] else { return Ok(None) };
    let length = usize::from(second & 0x7f);
    let (is_whole, is_masked) = (first & 0xf0 == 0x80, second & 0x80 != 0);
    if !is_whole || !is_masked || length > SHORT {
        return Err(Failed::Unexpected);
    }
    if bytes.len() < HEADER + MASK + length {
        return Ok(None);
    }
    bytes.advance(HEADER);
    let mask = bytes.split_to(MASK);
    let mut payload = bytes.split_to(length);
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Ok(Some((first & 0xf, payload.freeze())))
}

/// Appends a client's text frame. A mask of zeros leaves its payload as it is.
fn masked(bytes: &mut BytesMut, payload: &[u8]) {
    bytes.extend_from_slice(&[TEXT_FRAME, 0x80 | payload.len() as u8, 0, 0, 0, 0]);
    bytes.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_frame_is_taken_once_it_is_whole() {
        let mut bytes = BytesMut::new();
        masked(&mut bytes, PROBE);
        masked(&mut bytes, UPGRADE);
        let all = bytes.clone();
        for cut in 0..12 {
            assert_eq!(frame(&mut BytesMut::from(&all[..cut])), Ok(None), "{cut} bytes");
        }
        assert_eq!(frame(&mut bytes).unwrap().unwrap(), (1, Bytes::from_static(PROBE)));
        assert_eq!(frame(&mut bytes).unwrap().unwrap(), (1, Bytes::from_static(UPGRADE)));
        assert!(bytes.is_empty());
        let mut hidden = BytesMut::from(&[0x81, 0x81, 1, 2, 3, 4, b'5' ^ 1][..]);
        assert_eq!(frame(&mut hidden).unwrap().unwrap().1, UPGRADE);
    }

    #[test]
    fn long_unmasked_and_partial_frames_are_unexpected() {
        for bytes in [[0x81, 0xfe], [0x81, 0x06], [0x01, 0x86], [0xc1, 0x86]] {
            assert_eq!(frame(&mut BytesMut::from(&bytes[..])), Err(Failed::Unexpected), "{bytes:?}");
        }
    }

    #[test]
    fn one_upgrade_at_a_time_and_none_after_a_complete_one() {
        let upgrade = Arc::new(Upgrade::default());
        let first = upgrade.begin().unwrap();
        assert!(upgrade.begin().is_none());
        drop(first);
        upgrade.begin().unwrap().complete();
        assert!(upgrade.begin().is_none());
    }
}
