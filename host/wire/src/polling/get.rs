//! A poll: waits until there is something to send, and answers with all of it.

use std::future::poll_fn;

use axum::response::Response;
use http::StatusCode;

use super::{OrEnd, Session};
use crate::handler::Handler;
use crate::link::How;
use crate::link::poll::NoPoll;
use crate::reason::Reason;
use crate::respond::{self, Refusal};

/// Answers a poll. Dropped while it waits, it ends the session: its client has gone away.
pub(crate) async fn serve<H: Handler>(session: &Session<H>) -> Response {
    let link = &session.link;
    match link.begin_poll() {
        Ok(()) => {}
        Err(NoPoll::Ended) => return Refusal::UnknownSession.as_json(),
        Err(NoPoll::Overlap) => {
            // Two polls would share the packets between them in no order.
            link.end(Reason::TransportError, How::Code(None));
            return respond::empty(StatusCode::BAD_REQUEST);
        }
    }
    let waiting = OrEnd::new(link);
    let body = poll_fn(|cx| link.poll_answer(cx)).await;
    waiting.went_well();
    respond::packets(body)
}
