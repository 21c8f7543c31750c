//! The task of a websocket: it reads, flushes the queue, and keeps the heartbeat. Bytes are read into a buffer of the thread, so an
//! idle websocket holds none.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::frame;
use crate::frame::FrameError;
use crate::frame::decoder::{Decoder, Item};
use crate::handler::Handler;
use crate::io::Incoming;
use crate::link::{End, How, Link};
use crate::message::Message;
use crate::reader::Reader;
use crate::reason::{Limit, Reason};

/// Bytes per read. After a full buffer the task yields.
const READ: usize = 16 << 10;

/// Packets in a row, and the time for them, after which the task yields: a client that sends a burst must not delay the others.
const TOGETHER: usize = 16;
const SLICE: Duration = Duration::from_micros(100);

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Serves a websocket to its end.
pub(crate) async fn run<H: Handler>(mut reader: Box<Reader<H>>, mut incoming: Incoming, mut decoder: Decoder) {
    let end = {
        let mut timer = pin!(sleep_until(reader.deadline()));
        let mut is_armed = false;
        poll_fn(|cx| {
            let end = poll(&mut reader, &mut incoming, &mut decoder, cx);
            let end = end.or_else(|| tick(&mut reader, timer.as_mut(), &mut is_armed, cx));
            end.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    };
    drop(decoder);
    reader.forget();
    reader.finish(end.reason);
    let link = reader.link.clone();
    let mut closing = pin!(close(&link, &mut incoming, end));
    let mut is_closed = false;
    poll_fn(|cx| {
        is_closed = is_closed || closing.as_mut().poll(cx).is_ready();
        let finished = reader.poll_finished(cx);
        if is_closed { finished } else { Poll::Pending }
    })
    .await;
}

/// The work of the task at each wake-up, except for its timer.
fn poll<H: Handler>(reader: &mut Reader<H>, incoming: &mut Incoming, decoder: &mut Decoder, cx: &mut Context<'_>) -> Option<End> {
    let due = reader.link.due(cx);
    if due.end.is_some() {
        return due.end;
    }
    if due.sweep {
        reader.sweep();
    }
    if reader.is_deciding() {
        let _ = reader.poll_connects(cx);
    }
    if due.failed {
        // What the client has sent before is read to its end, which the kernel reports soon: it may have left on purpose.
        reader.link.unblock();
    }
    let outcome = read(reader, incoming, decoder, cx);
    let was_blocked = reader.link.is_blocked();
    // Always, since it also ends a cork.
    let _ = reader.link.poll_flush(cx);
    if was_blocked && !reader.link.is_blocked() {
        cx.waker().wake_by_ref();
    }
    end(reader, outcome)
}

/// Handles the deadlines. The timer is polled only if it has fired or its deadline has changed, since polling it is expensive.
fn tick<H: Handler>(
    reader: &mut Reader<H>,
    mut timer: Pin<&mut Sleep>,
    is_armed: &mut bool,
    cx: &mut Context<'_>,
) -> Option<End> {
    loop {
        let deadline = reader.deadline();
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        } else if *is_armed && !timer.is_elapsed() {
            return None;
        }
        *is_armed = true;
        if timer.as_mut().poll(cx).is_pending() {
            return None;
        }
        let outcome = reader.tick(Instant::now());
        if let Some(end) = end(reader, outcome) {
            return Some(end);
        }
    }
}

/// Ends the connection after an error. If it had ended before, the first reason counts.
fn end<H: Handler>(reader: &Reader<H>, outcome: Result<(), End>) -> Option<End> {
    if let Err(End { reason, how }) = outcome {
        reader.link.end(reason, how);
    }
    reader.link.ended()
}

/// Reads and handles what is available, up to one full buffer.
fn read<H: Handler>(
    reader: &mut Reader<H>,
    incoming: &mut Incoming,
    decoder: &mut Decoder,
    cx: &mut Context<'_>,
) -> Result<(), End> {
    if reader.link.is_blocked() {
        return Ok(());
    }
    if !incoming.held.is_empty() {
        let mut held = std::mem::take(&mut incoming.held);
        incoming.held = take(reader, decoder, &mut held, cx)?;
        if !incoming.held.is_empty() {
            return Ok(());
        }
    }
    let mut buffer = BUFFER.take();
    buffer.resize(READ, 0);
    let outcome = read_into(&mut buffer, reader, incoming, decoder, cx);
    BUFFER.set(buffer);
    outcome
}

fn read_into<H: Handler>(
    buffer: &mut [u8],
    reader: &mut Reader<H>,
    incoming: &mut Incoming,
    decoder: &mut Decoder,
    cx: &mut Context<'_>,
) -> Result<(), End> {
    loop {
        let mut filled = ReadBuf::new(buffer);
        let count = match Pin::new(&mut incoming.reader).poll_read(cx, &mut filled) {
            Poll::Pending => return Ok(()),
            Poll::Ready(Ok(())) => filled.filled().len(),
            Poll::Ready(Err(_)) => return Err(End { reason: Reason::TransportError, how: How::Gone }),
        };
        if count == 0 {
            return Err(End { reason: Reason::TransportClose, how: How::Gone });
        }
        incoming.held = take(reader, decoder, &mut buffer[..count], cx)?;
        if !incoming.held.is_empty() {
            return Ok(());
        }
        if count == READ {
            cx.waker().wake_by_ref();
            return Ok(());
        }
    }
}

/// Handles the frames in `bytes`. Returns the rest if reading was stopped, or if it is the turn of other tasks.
fn take<H: Handler>(
    reader: &mut Reader<H>,
    decoder: &mut Decoder,
    bytes: &mut [u8],
    cx: &mut Context<'_>,
) -> Result<Vec<u8>, End> {
    // An ack is written together with the messages that its handler sends to the same client, and so are the answers to a burst.
    reader.link.cork();
    // Set at the second packet, so that a single one costs no clock read.
    let (mut input, mut burst) = (bytes, None);
    for count in 0.. {
        // Frames after the end are ignored.
        if reader.link.has_ended() {
            return Ok(Vec::new());
        }
        if reader.link.is_blocked() {
            return Ok(input.to_vec());
        }
        let is_over = count == TOGETHER || burst.is_some_and(|began: Instant| began.elapsed() >= SLICE);
        if is_over && !input.is_empty() {
            cx.waker().wake_by_ref();
            return Ok(input.to_vec());
        }
        let Some(item) = decoder.next(&mut input).map_err(refused)? else { return Ok(Vec::new()) };
        if burst.is_none() && !input.is_empty() {
            burst = Some(Instant::now());
        }
        match item {
            Item::Text(text) => reader.text(text)?,
            Item::Binary(bytes) => reader.binary(Bytes::copy_from_slice(bytes))?,
            Item::Ping(payload) => {
                reader.link.send(&Message::pong(payload), false);
            }
            Item::Pong => {}
            Item::Close(code) => return Err(End { reason: Reason::TransportClose, how: How::Code(code) }),
        }
        if reader.is_deciding() {
            let _ = reader.poll_connects(cx);
        }
    }
    Ok(Vec::new())
}

fn refused(error: FrameError) -> End {
    let reason = if error == FrameError::TooLong { Limit::Payload.into() } else { Reason::TransportError };
    End { reason, how: How::Code(Some(error.code())) }
}

/// Closes a websocket whose connection has ended.
async fn close(link: &Arc<Link>, incoming: &mut Incoming, end: End) {
    match end.how {
        How::Gone => {}
        How::Abort => {
            // Frees the kernel's send buffer, which the client does not read.
            let _ = AsRef::<TcpStream>::as_ref(&incoming.reader).set_zero_linger();
        }
        How::Flush | How::Code(_) => {
            let code = if let How::Code(code) = end.how { code } else { None };
            let closing = async {
                poll_fn(|cx| link.poll_flush(cx)).await;
                link.push_last(Message(frame::close(code).into()));
                poll_fn(|cx| link.poll_flush(cx)).await;
                link.close();
                // The client answers the close frame, unless it has closed the websocket itself. If that were left unread, the
                // kernel would reset the connection, and the client might lose the close frame.
                if end.reason != Reason::TransportClose {
                    drain(incoming).await;
                }
            };
            // After the timeout the connection is dropped.
            let _ = timeout(link.config.close_timeout, closing).await;
        }
    }
    link.close();
    drop(incoming.keep.take());
}

/// Reads until the client closes the connection.
async fn drain(incoming: &mut Incoming) {
    poll_fn(|cx| {
        let mut buffer = [0; 1024];
        loop {
            let mut filled = ReadBuf::new(&mut buffer);
            match ready!(Pin::new(&mut incoming.reader).poll_read(cx, &mut filled)) {
                Ok(()) if !filled.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
        }
    })
    .await;
}
