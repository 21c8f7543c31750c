//! Websocket handshakes: for a new connection, or for an upgrade from polling. A failed upgrade leaves the polling session
//! unchanged.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode};
use hyper::upgrade::OnUpgrade;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::{Instant, sleep_until, timeout};

use crate::base64;
use crate::frame;
use crate::frame::decoder::{Decoder, Item};
use crate::handler::{Handler, Notice, UpgradeError};
use crate::id::SessionId;
use crate::io::{self, Incoming};
use crate::link::Link;
use crate::message::Message;
use crate::polling::Session;
use crate::reader::Reader;
use crate::reason::Reason;
use crate::respond;
use crate::service::handshake;
use crate::shared::{Entry, Shared};
use crate::websocket;

/// Whether a request asks for a websocket.
pub(crate) fn is_asked(request: &Request<Body>) -> bool {
    let has = |name: HeaderName, token: &str| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token))
    };
    has(header::UPGRADE, "websocket") && has(header::CONNECTION, "upgrade")
}

/// The reasons for refusing a handshake. The answers equal those of Node's `ws`.
pub(crate) enum Refused {
    Method,
    Key,
    Version,
}

impl Refused {
    pub(crate) fn answer(&self) -> Response {
        match self {
            Self::Method => respond::handshake(StatusCode::METHOD_NOT_ALLOWED, "Invalid HTTP method"),
            Self::Key => respond::handshake(StatusCode::BAD_REQUEST, "Missing or invalid Sec-WebSocket-Key header"),
            Self::Version => {
                let mut refused = respond::handshake(StatusCode::BAD_REQUEST, "Missing or invalid Sec-WebSocket-Version header");
                refused.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13, 8"));
                refused
            }
        }
    }
}

/// The response to a valid handshake.
///
/// # Errors
/// The handshake is not valid.
pub(crate) fn answer(request: &Request<Body>) -> Result<Response, Refused> {
    if request.method() != Method::GET {
        return Err(Refused::Method);
    }
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
    if key.len() != 24 || base64::decode(key).is_none_or(|key| key.len() != 16) {
        return Err(Refused::Key);
    }
    if !request.headers().get(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13" || version == "8") {
        return Err(Refused::Version);
    }
    let mut accept = Vec::with_capacity(28);
    let digest = Sha1::new().chain_update(key).chain_update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    base64::encode(&digest, &mut accept);
    let mut response = respond::empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::from_bytes(&accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    Ok(response)
}

/// Takes the TCP connection from hyper after the response was sent.
async fn take_over<H: Handler>(shared: &Shared<H>, upgrading: OnUpgrade) -> Option<(Incoming, OwnedWriteHalf)> {
    // A response that cannot be sent must not hold a session for long.
    let upgraded = timeout(shared.config.upgrade_timeout, upgrading).await.ok()?.ok()?;
    (shared.takeover)(upgraded).map(io::split)
}

/// Opens a connection that starts as a websocket.
pub(crate) async fn open<H: Handler>(shared: Arc<Shared<H>>, upgrading: OnUpgrade, data: H::Connection) {
    let Some((incoming, writer)) = take_over(&shared, upgrading).await else {
        shared.handler.closed(data, Reason::TransportError);
        return;
    };
    let id = SessionId::random();
    let link = Link::websocket(id, shared.config.clone(), writer);
    shared.sessions.insert(id, Entry::Websocket(link.clone()));
    link.send(&Message::engine(&handshake(id, &shared.config, false)), false);
    let decoder = Decoder::new(shared.config.max_payload);
    // A task of its own, which is smaller than this one.
    tokio::spawn(websocket::run(Reader::new(shared, link, data), incoming, decoder));
}

/// Closes a websocket that no session can use. As with Node's server, that happens after the handshake.
pub(crate) async fn refuse<H: Handler>(shared: Arc<Shared<H>>, upgrading: OnUpgrade) {
    if let Some((incoming, writer)) = take_over(&shared, upgrading).await {
        close(incoming, writer).await;
    }
}

/// Time for a client to read the close frame of a refused websocket.
const CLOSING: Duration = Duration::from_secs(1);

async fn close(mut incoming: Incoming, mut writer: OwnedWriteHalf) {
    let closing = async {
        writer.write_all(&frame::close(None)).await?;
        writer.shutdown().await?;
        while incoming.reader.read(&mut [0; 256]).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    // A client that has disconnected or does not read needs no close frame.
    let _ = timeout(CLOSING, closing).await;
}

/// An upgrade under way, at most one per session. Dropping it allows another one.
pub(crate) struct Attempt<H: Handler>(Arc<Session<H>>);

impl<H: Handler> Attempt<H> {
    /// Returns None if another one is under way.
    pub(crate) fn begin(session: Arc<Session<H>>) -> Option<Self> {
        (!session.upgrading.swap(true, Ordering::AcqRel)).then(|| Self(session))
    }
}

impl<H: Handler> Drop for Attempt<H> {
    fn drop(&mut self) {
        self.0.upgrading.store(false, Ordering::Release);
        // The end of the session waits for this.
        self.0.link.wake();
    }
}

/// Upgrades a session, or leaves it polling.
pub(crate) async fn attempt<H: Handler>(shared: Arc<Shared<H>>, upgrading: OnUpgrade, attempt: Attempt<H>) {
    let link = attempt.0.link.clone();
    let Some((incoming, writer)) = take_over(&shared, upgrading).await else {
        shared.handler.notice(Notice::UpgradeFailed(UpgradeError::Closed));
        return;
    };
    let mut probing = Probing { incoming, decoder: Decoder::new(shared.config.max_payload), writer };
    let outcome = timeout(shared.config.upgrade_timeout, probing.run(&link)).await.unwrap_or(Err(UpgradeError::Timeout));
    let Probing { incoming, decoder, writer } = probing;
    if let Err(error) = outcome {
        // Before the websocket is closed, so that the client can try again at once.
        drop(attempt);
        shared.handler.notice(Notice::UpgradeFailed(error));
        return close(incoming, writer).await;
    }
    match attempt.0.upgrade(incoming, decoder, writer) {
        Ok(()) => {
            shared.sessions.replace(link.id, Entry::Websocket(link));
            shared.handler.notice(Notice::Upgraded);
        }
        Err((incoming, writer)) => {
            shared.handler.notice(Notice::UpgradeFailed(UpgradeError::SessionEnded));
            close(incoming, writer).await;
        }
    }
}

/// A websocket during an upgrade.
struct Probing {
    incoming: Incoming,
    decoder: Decoder,
    writer: OwnedWriteHalf,
}

/// Packets of an upgrade.
#[derive(PartialEq, Eq)]
enum Step {
    Probe,
    Complete,
}

/// Time for a client to complete an upgrade whose session has ended. A stock client that is between its last poll and the websocket
/// notices the end of neither: it would wait for its ping timeout.
const COMPLETING: Duration = Duration::from_secs(1);

/// The first and the longest wait between two released polls. Within the first one, an answer usually ends the poll without a noop. It
/// doubles each time, so that a client that never completes its upgrade does not poll in a busy loop.
const RELEASES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

impl Probing {
    /// Exchanges the packets of an upgrade.
    async fn run(&mut self, link: &Link) -> Result<(), UpgradeError> {
        if self.step().await? != Step::Probe {
            return Err(UpgradeError::Unexpected);
        }
        self.write(&Message::engine("3probe")).await?;
        let mut completing = pin!(self.step());
        let (mut wait, mut next) = (RELEASES.0, Instant::now() + RELEASES.0);
        let mut end_by = None;
        loop {
            tokio::select! {
                biased;
                step = &mut completing => return if step? == Step::Complete { Ok(()) } else { Err(UpgradeError::Unexpected) },
                () = sleep_until(end_by.unwrap_or(next)) => {}
            }
            if end_by.is_some() {
                return Err(UpgradeError::SessionEnded);
            }
            if link.has_ended() {
                end_by = Some(Instant::now() + COMPLETING);
                continue;
            }
            // The client completes the upgrade after its poll has ended, and holds its packets until then. Its poll may be on its way.
            link.release_next_poll();
            wait = (wait * 2).min(RELEASES.1);
            next += wait;
        }
    }

    async fn write(&mut self, message: &Message) -> Result<(), UpgradeError> {
        self.writer.write_all(&message.0).await.map_err(|_| UpgradeError::Closed)
    }

    /// Reads the next packet, and answers control frames.
    async fn step(&mut self) -> Result<Step, UpgradeError> {
        loop {
            let (found, pongs) = self.decode()?;
            for pong in pongs {
                self.write(&pong).await?;
            }
            if let Some(step) = found {
                return Ok(step);
            }
            let mut buffer = [0; 512];
            match self.incoming.reader.read(&mut buffer).await {
                Ok(count @ 1..) => self.incoming.held.extend_from_slice(&buffer[..count]),
                _ => return Err(UpgradeError::Closed),
            }
        }
    }

    /// Decodes frames up to one that is a step. The rest stays in `held`.
    fn decode(&mut self) -> Result<(Option<Step>, Vec<Message>), UpgradeError> {
        let mut held = std::mem::take(&mut self.incoming.held);
        let (mut input, mut pongs) = (&mut held[..], Vec::new());
        let found = loop {
            match self.decoder.next(&mut input).map_err(|_| UpgradeError::Unexpected)? {
                None => break None,
                Some(Item::Text("2probe")) => break Some(Step::Probe),
                Some(Item::Text("5")) => break Some(Step::Complete),
                Some(Item::Ping(payload)) => pongs.push(Message::pong(payload)),
                Some(Item::Pong) => {}
                Some(Item::Close(_)) => return Err(UpgradeError::Closed),
                Some(Item::Text(_) | Item::Binary(_)) => return Err(UpgradeError::Unexpected),
            }
        };
        self.incoming.held = input.to_vec();
        Ok((found, pongs))
    }
}
