//! A poll (GET): waits for packets and returns them.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use http_body::{Frame, SizeHint};

use super::{EndOnDrop, Session};
use crate::handler::Handler;
use crate::link::How;
use crate::link::poll::NoPoll;
use crate::reason::Reason;
use crate::respond::{self, Refusal};

/// Answers a poll. If it is dropped while it waits, the client has disconnected, and the session ends.
pub(crate) async fn serve<H: Handler>(session: &Session<H>) -> Response {
    let link = &session.link;
    match link.begin_poll() {
        Ok(()) => {}
        Err(NoPoll::Ended) => return Refusal::UnknownSession.as_json(),
        Err(NoPoll::Overlap) => {
            // Two polls at once would break the order of packets.
            link.end_polling(Reason::TransportError, How::Code(None));
            return respond::empty(StatusCode::BAD_REQUEST);
        }
    }
    let waiting = EndOnDrop::new(link.clone());
    let packets = poll_fn(|cx| link.poll_answer(cx)).await;
    respond::packets(Body::new(Packets { packets: Some(packets.into()), waiting: Some(waiting) }))
}

/// The packets of an answer. They have left the queue, so the session ends if hyper drops them instead of sending them.
struct Packets {
    packets: Option<Bytes>,
    waiting: Option<EndOnDrop>,
}

impl http_body::Body for Packets {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(waiting) = self.waiting.take() {
            waiting.complete();
        }
        Poll::Ready(self.packets.take().map(|packets| Ok(Frame::data(packets))))
    }

    fn is_end_stream(&self) -> bool {
        self.packets.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.packets.as_ref().map_or(0, |packets| packets.len() as u64))
    }
}
