//! Admission control, before a request reaches the engine: a refusal must cost next to nothing. Connects above the rate wait; past the
//! longest wait they are refused with `Retry-After`.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::body::HttpBody;
use axum::extract::connect_info::ConnectInfo;
use axum::response::{IntoResponse, Response};
use http::{Extensions, HeaderMap, Request, StatusCode, header};
use socketioxide_core::Sid;

use crate::proxies::{self, Network};
use crate::socket::Gateway;
use crate::socket::permits::{ConnectionPermit, NoPermit};
use crate::telemetry::Metrics;

/// The remote address of the TCP connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Why a connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    #[error("This server is about to stop")]
    Draining,
    #[error("Too many connections")]
    Full,
    #[error("Too many connections from this address")]
    Address,
    #[error("Too many connections at once")]
    Storm(Duration),
}

/// The default of `Retry-After`.
const DEFAULT_RETRY: Duration = Duration::from_secs(5);

impl IntoResponse for NotAdmitted {
    fn into_response(self) -> Response {
        let (status, after) = match self {
            // Another node can accept the client at once.
            Self::Draining => (StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(1)),
            Self::Full => (StatusCode::SERVICE_UNAVAILABLE, DEFAULT_RETRY),
            Self::Address => (StatusCode::TOO_MANY_REQUESTS, DEFAULT_RETRY),
            Self::Storm(wait) => (StatusCode::SERVICE_UNAVAILABLE, wait),
        };
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        (status, [(header::RETRY_AFTER, seconds.to_string())], format!("{self}\n")).into_response()
    }
}

/// The session that a request belongs to; none if it opens a connection.
pub fn session_of<B>(request: &Request<B>) -> Option<&str> {
    request.uri().query()?.split('&').find_map(|pair| pair.strip_prefix("sid="))
}

/// The address of the client that sent a request, behind proxies.
pub fn address_of(extensions: &Extensions, headers: &HeaderMap, trusted_proxies: &[Network]) -> Option<IpAddr> {
    let ConnectInfo(Peer(peer)) = extensions.get::<ConnectInfo<Peer>>()?;
    Some(proxies::client(peer.ip(), headers, trusted_proxies))
}

impl Gateway {
    /// Reserves a permit for a new connection.
    pub fn connection_permit<B>(&self, request: &Request<B>, polls: bool) -> Result<Arc<ConnectionPermit>, NotAdmitted> {
        if self.drain.has_begun() {
            return Err(NotAdmitted::Draining);
        }
        let address = self.address_of(request.extensions(), request.headers()).map(proxies::client_block);
        self.permits.admit_connection(address, polls, &self.limits, &self.services.metrics).map_err(|refused| match refused {
            NoPermit::Node => NotAdmitted::Full,
            NoPermit::Address => NotAdmitted::Address,
        })
    }

    /// The address of the client that sent a request, behind trusted proxies.
    pub fn address_of(&self, extensions: &Extensions, headers: &HeaderMap) -> Option<IpAddr> {
        address_of(extensions, headers, &self.trusted_proxies)
    }

    /// Admits a connection with a permit after its wait.
    pub async fn admit_in_turn(
        &self,
        permit: Result<Arc<ConnectionPermit>, NotAdmitted>,
    ) -> Result<Arc<ConnectionPermit>, NotAdmitted> {
        let permit = permit?;
        self.wait_for_turn().await?;
        Ok(permit)
    }

    async fn wait_for_turn(&self) -> Result<(), NotAdmitted> {
        let metrics = &self.services.metrics;
        let longest = self.limits.longest_wait.min(self.config.connect_timeout);
        let wait = self.limits.connects.book(&self.permits.connects, longest, metrics).map_err(NotAdmitted::Storm)?;
        if !wait.is_zero() {
            let _waiting = Waiting::new(metrics);
            tokio::time::sleep(wait).await;
            if self.drain.has_begun() {
                return Err(NotAdmitted::Draining);
            }
        }
        Ok(())
    }
}

/// Counts a waiting connection until it is dropped, because its client may disconnect meanwhile.
struct Waiting<'a>(&'a Metrics);

impl<'a> Waiting<'a> {
    fn new(metrics: &'a Metrics) -> Self {
        metrics.connects_waiting.inc();
        Self(metrics)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.connects_waiting.dec();
    }
}

/// The longest answer of the engine to a handshake, in bytes.
const HANDSHAKE: usize = 4096;

/// Reads a polling connection's session id from the engine's answer, because an upgrade to a websocket names it.
pub async fn register_session(gateway: &Gateway, permit: &Arc<ConnectionPermit>, answer: Response) -> Response {
    if answer.status() != StatusCode::OK {
        return answer;
    }
    let (parts, body) = answer.into_parts();
    // The engine's own body is in memory, and short.
    let Ok(body) = axum::body::to_bytes(body, HANDSHAKE).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    #[derive(serde::Deserialize)]
    struct Open {
        sid: Sid,
    }
    if let Some(Ok(Open { sid })) = body.strip_prefix(b"0").map(serde_json::from_slice) {
        gateway.permits.named(permit, sid);
        permit.closer.name(sid);
        // The client may never poll.
        permit.closer.answered(0);
    }
    Response::from_parts(parts, body.into())
}

/// Answers a poll and counts its bytes, which shows that the client reads. An upgrade answers a waiting poll with a noop packet; the
/// engine has taken no packet from the queue by then, so none is lost.
pub async fn answer_poll(permit: Arc<ConnectionPermit>, answering: impl Future<Output = Response>) -> Response {
    let upgrade = permit.upgrade.clone();
    let mut poll = Polled { permit, bytes: 0 };
    let answer = {
        let (mut answering, mut released) = (pin!(answering), pin!(upgrade.released()));
        poll_fn(|cx| {
            if let Poll::Ready(answer) = answering.as_mut().poll(cx) {
                return Poll::Ready(answer);
            }
            // The engine waits only if it has no packet to send.
            poll.permit.closer.waited_for();
            released.as_mut().poll(cx).map(|()| noop())
        })
        .await
    };
    poll.bytes = answer.body().size_hint().lower();
    answer
}

/// Engine.IO's noop packet.
fn noop() -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=UTF-8")], "6").into_response()
}

/// The answer to a websocket with an unknown session, as Node's server sends it.
pub fn unknown_session() -> Response {
    bad_request(r#"{"code":1,"message":"Session ID unknown"}"#)
}

/// The answer to an upgrade that is not possible.
pub fn no_upgrade() -> Response {
    bad_request(r#"{"code":3,"message":"Bad request"}"#)
}

fn bad_request(body: &'static str) -> Response {
    (StatusCode::BAD_REQUEST, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// A poll. It is dropped without an answer if its client disconnects.
struct Polled {
    permit: Arc<ConnectionPermit>,
    bytes: u64,
}

impl Drop for Polled {
    fn drop(&mut self) {
        self.permit.closer.answered(self.bytes);
    }
}
