//! A request's body with a deadline that each received byte extends. It must never change a byte.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep};

/// The time that a body may take.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The time for any body.
    pub least: Duration,
    /// Bytes that extend it by one second. 0: none.
    pub rate: u64,
}

/// A body that was not sent in time.
#[derive(Debug, thiserror::Error)]
#[error("the body was not sent in time")]
pub struct Late;

/// A body with its deadline.
pub struct TimedBody {
    body: Incoming,
    pace: Pace,
    /// It starts with the first wait for the client.
    deadline: Option<Pin<Box<Sleep>>>,
    late: Arc<AtomicBool>,
}

impl TimedBody {
    /// `late` is set if the client does not send the body in time.
    pub fn new(body: Incoming, pace: Pace, late: Arc<AtomicBool>) -> Self {
        Self { body, pace, deadline: None, late }
    }

    fn received(&mut self, bytes: usize) {
        let Some(deadline) = &mut self.deadline else { return };
        let more = (bytes as u64).saturating_mul(1_000_000_000).checked_div(self.pace.rate).map(Duration::from_nanos);
        if let Some(later) = more.and_then(|more| deadline.deadline().checked_add(more)) {
            deadline.as_mut().reset(later);
        }
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                if let Some(Ok(frame)) = &frame {
                    let bytes = frame.data_ref().map_or(0, Bytes::len);
                    self.received(bytes);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)))
            }
            Poll::Pending => {
                let least = self.pace.least;
                let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(least)));
                ready!(deadline.as_mut().poll(cx));
                self.late.store(true, Ordering::Relaxed);
                Poll::Ready(Some(Err(Late.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
