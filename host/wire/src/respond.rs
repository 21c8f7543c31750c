//! HTTP responses, equal to those of Node's server.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode, header};

/// The reasons for refusing a request. The number is the `code` in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownTransport = 0,
    UnknownSession = 1,
    BadMethod = 2,
    BadRequest = 3,
    UnknownVersion = 5,
    /// JSONP, which Node's server supports and this one does not.
    Jsonp = 6,
}

impl Refusal {
    fn message(self) -> &'static str {
        match self {
            Self::UnknownTransport => "Transport unknown",
            Self::UnknownSession => "Session ID unknown",
            Self::BadMethod => "Bad handshake method",
            Self::BadRequest => "Bad request",
            Self::UnknownVersion => "Unsupported protocol version",
            Self::Jsonp => "JSONP polling is not supported",
        }
    }

    /// The answer to a request.
    pub(crate) fn as_json(self) -> Response {
        let code = if self == Self::Jsonp { Self::BadRequest } else { self } as u8;
        let body = format!(r#"{{"code":{code},"message":"{}"}}"#, self.message());
        with(StatusCode::BAD_REQUEST, [(header::CONTENT_TYPE, "application/json")], body)
    }

    /// The answer to a websocket's handshake.
    pub(crate) fn as_text(self) -> Response {
        handshake(StatusCode::BAD_REQUEST, self.message())
    }
}

/// Refuses a websocket's handshake.
pub(crate) fn handshake(status: StatusCode, message: &'static str) -> Response {
    with(status, [(header::CONNECTION, "close"), (header::CONTENT_TYPE, "text/html")], message)
}

/// A status alone.
pub(crate) fn empty(status: StatusCode) -> Response {
    with(status, [], Body::empty())
}

/// Packets for a client that polls.
pub(crate) fn packets(body: Body) -> Response {
    with(StatusCode::OK, [(header::CONTENT_TYPE, "text/plain; charset=UTF-8"), NO_STORE], body)
}

/// The answer to a POST.
pub(crate) fn ok() -> Response {
    // Some old browsers offer plain text as a download.
    with(StatusCode::OK, [(header::CONTENT_TYPE, "text/html"), NO_STORE], "ok")
}

const NO_STORE: (HeaderName, &str) = (header::CACHE_CONTROL, "no-store");

fn with<const N: usize>(status: StatusCode, headers: [(HeaderName, &'static str); N], body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
