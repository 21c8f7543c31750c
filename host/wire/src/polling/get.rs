//! A poll (GET): waits for packets and returns them.

use std::future::poll_fn;

use axum::response::Response;
use http::StatusCode;

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
    let waiting = EndOnDrop::new(link);
    let body = poll_fn(|cx| link.poll_answer(cx)).await;
    waiting.complete();
    respond::packets(body)
}
