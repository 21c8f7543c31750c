//! A POST: reads a body, limited in bytes and time, and handles its packets.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body::Body as _;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::{EndOnDrop, Session};
use crate::base64;
use crate::handler::{Handler, Notice};
use crate::link::{End, How, Link};
use crate::message::SEPARATOR;
use crate::reader::Reader;
use crate::reason::{BadPacket, Limit, Reason};
use crate::respond;

/// Packets before the task yields.
const TOGETHER: usize = 4;

/// Errors of reading a body.
enum NoBody {
    TooLong,
    TooSlow,
    Broken,
}

/// Answers a POST. If it is dropped before its end, the client has disconnected, and the session ends.
pub(crate) async fn serve<H: Handler>(session: &Session<H>, handler: &H, headers: &HeaderMap, body: Body) -> Response {
    let (link, most) = (&session.link, session.link.config.max_payload);
    let refuse = |reason| {
        link.end_polling(reason, How::Code(None));
        respond::empty(StatusCode::BAD_REQUEST)
    };
    let Some(_posting) = session.begin_post() else { return refuse(Reason::TransportError) };
    if headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/octet-stream") {
        return refuse(Reason::TransportError);
    }
    let under_way = EndOnDrop::new(link.clone());
    let read = timeout(link.config.body_timeout, read(body, most)).await.unwrap_or(Err(NoBody::TooSlow));
    let body = match read {
        Ok(body) => body,
        // The session stays open, as with Node's server.
        Err(NoBody::TooLong) => {
            under_way.complete();
            handler.notice(Notice::BodyTooLong);
            return respond::empty(StatusCode::PAYLOAD_TOO_LARGE);
        }
        Err(NoBody::TooSlow) => {
            under_way.complete();
            handler.notice(Notice::BodyTooSlow);
            return respond::empty(StatusCode::REQUEST_TIMEOUT);
        }
        Err(NoBody::Broken) => return refuse(Reason::TransportError),
    };
    let Ok(text) = std::str::from_utf8(&body) else { return refuse(BadPacket::Encoding.into()) };
    let taken = take(session, text).await;
    under_way.complete();
    match taken {
        Ok(()) => respond::ok(),
        Err(End { reason: Reason::TransportClose, how }) => {
            link.end_polling(Reason::TransportClose, how);
            respond::ok()
        }
        Err(End { reason, how }) => {
            link.end_polling(reason, how);
            respond::empty(StatusCode::BAD_REQUEST)
        }
    }
}

async fn read(body: Body, most: usize) -> Result<Bytes, NoBody> {
    if body.size_hint().lower() > most as u64 {
        return Err(NoBody::TooLong);
    }
    let mut body = pin!(body);
    let mut first = Bytes::new();
    let mut all = Vec::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let Ok(piece) = frame.map_err(|_| NoBody::Broken)?.into_data() else { continue };
        if first.len() + all.len() + piece.len() > most {
            return Err(NoBody::TooLong);
        }
        if first.is_empty() && all.is_empty() {
            first = piece;
        } else {
            // A body in one piece is not copied.
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&piece);
        }
    }
    Ok(if all.is_empty() { first } else { all.into() })
}

/// Puts the reader back on drop, since hyper may drop the request.
struct ReaderGuard<'a, H: Handler> {
    session: &'a Session<H>,
    reader: Option<Box<Reader<H>>>,
}

impl<H: Handler> Drop for ReaderGuard<'_, H> {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            self.session.put_back(reader);
            self.session.link.wake();
        }
    }
}

/// Waits while reading is stopped.
async fn wait_for_room(link: &Link) {
    let mut ready = pin!(poll_fn(|cx| {
        link.wait(cx);
        if link.is_blocked() && !link.has_ended() { Poll::Pending } else { Poll::Ready(()) }
    }));
    while timeout(link.config.ping_timeout, ready.as_mut()).await.is_err() {
        if !link.is_paused() {
            // The heartbeat does not run while a POST has the reader, so a client that does not poll is ended here.
            link.end(Reason::PingTimeout, How::Code(None));
        }
    }
}

async fn take<H: Handler>(session: &Session<H>, text: &str) -> Result<(), End> {
    let link = &session.link;
    let gone = End { reason: Reason::TransportError, how: How::Code(None) };
    let taken = poll_fn(|cx| {
        // Registered before the attempt, so that no wake-up is lost.
        link.wait(cx);
        match session.take() {
            Some(reader) => Poll::Ready(Some(reader)),
            None if link.has_ended() || link.is_websocket() => Poll::Ready(None),
            None => Poll::Pending,
        }
    })
    .await;
    let mut taken = ReaderGuard { session, reader: taken };
    let Some(reader) = &mut taken.reader else { return Err(gone) };
    for (at, packet) in text.split(char::from(SEPARATOR)).enumerate() {
        if at >= link.config.post_packets {
            return Err(End { reason: Limit::PostPackets.into(), how: How::Flush });
        }
        if at > 0 && at % TOGETHER == 0 {
            yield_now().await;
        }
        wait_for_room(link).await;
        if link.has_ended() {
            return Err(gone);
        }
        take_packet(reader, packet)?;
        poll_fn(|cx| {
            let _ = reader.poll_connects(cx);
            Poll::Ready(())
        })
        .await;
    }
    Ok(())
}

/// Handles one packet of a body: text, or an attachment in base64.
pub(crate) fn take_packet<H: Handler>(reader: &mut Reader<H>, packet: &str) -> Result<(), End> {
    let Some(text) = packet.strip_prefix('b') else { return reader.text(packet) };
    let bytes = base64::decode(text.as_bytes()).ok_or(End { reason: BadPacket::Encoding.into(), how: How::Flush })?;
    reader.binary(bytes.into())
}
