//! A polling connection's upgrade to websocket, up to the packet that completes it. The engine sees no part of it before that, so
//! a failed upgrade leaves the polling connection unchanged. It never answers a poll that carries data.

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

/// The time after the probe until the first poll is released again. Each further wait is twice as long, so that no client polls
/// in a busy loop while it does not complete its upgrade.
const RELEASE_AGAIN: Duration = Duration::from_millis(100);

const POLLING: u8 = 0;
const PROBING: u8 = 1;
const UPGRADED: u8 = 2;

/// The state of a polling connection's upgrade. At most one is in progress.
#[derive(Default)]
pub struct Upgrade {
    state: AtomicU8,
    release: Notify,
}

impl Upgrade {
    /// Begins an upgrade. None if another one is in progress or complete.
    pub fn begin(self: &Arc<Self>) -> Option<Attempt> {
        let begun = self.state.compare_exchange(POLLING, PROBING, Ordering::AcqRel, Ordering::Acquire);
        begun.is_ok().then(|| Attempt(self.clone()))
    }

    /// Resolves when a waiting poll must be answered, so that the client can stop polling.
    pub async fn released(&self) {
        self.release.notified().await;
    }
}

/// An upgrade in progress. If it is dropped before it is complete, the connection stays polling.
pub struct Attempt(Arc<Upgrade>);

impl Attempt {
    fn complete(self) {
        self.0.state.store(UPGRADED, Ordering::Release);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // Has no effect after `complete`.
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
    /// The client sent a packet that is not part of an upgrade.
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
    /// Performs an upgrade with a client. Returns the connection, from which the engine then reads the same packets.
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
        // The client has received the answer to the probe, which the engine will write again.
        self.muted = HEADER + ANSWER.len();
        attempt.complete();
        Ok(self)
    }

    /// Closes an unused websocket, if the client still reads.
    pub async fn refuse(mut self) {
        let _ = tokio::time::timeout(RELEASE_AGAIN, self.io.write_all(&[CLOSE_FRAME, 0])).await;
    }
}

/// Resolves when the connection must be closed. Meanwhile nothing else reads from it, so the reader's waker is free.
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
        // The client completes the upgrade only after its poll was answered.
        upgrade.release.notify_waiters();
        next += wait;
        wait *= 2;
    }
}

/// The packets of an upgrade.
const PROBE: &[u8] = b"2probe";
const ANSWER: &[u8] = b"3probe";
const UPGRADE: &[u8] = b"5";

/// First bytes of unfragmented frames.
const TEXT_FRAME: u8 = 0x81;
const CLOSE_FRAME: u8 = 0x88;

/// Bytes of a short frame's header, without the mask.
const HEADER: usize = 2;

/// Bytes of the mask that every frame of a client has.
const MASK: usize = 4;

/// The longest payload of a short frame. No packet of an upgrade needs more.
const SHORT: usize = 125;

/// The next text packet. Answers pings on the way.
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

/// Takes the first frame from the bytes: its kind and its payload. None if it is incomplete.
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

/// Appends a client's text frame. A mask of zeros leaves the payload unchanged.
fn masked(bytes: &mut BytesMut, payload: &[u8]) {
    bytes.extend_from_slice(&[TEXT_FRAME, 0x80 | payload.len() as u8, 0, 0, 0, 0]);
    bytes.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_frame_is_parsed_once_complete() {
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
