//! Opens a connection: its permit, and its turn among new connections. A refusal must cost next to nothing. Past the rate a connection
//! waits; past the longest wait it is refused with `Retry-After`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::ConnectInfo;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{Extensions, HeaderMap, StatusCode, header};

use super::Gateway;
use super::permits::{ConnectionPermit, NoPermit};
use crate::proxies::{self, Network};
use crate::recovery::request::takes_offsets;
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

/// The address of the client that sent a request, behind proxies.
pub fn address_of(extensions: &Extensions, headers: &HeaderMap, trusted_proxies: &[Network]) -> Option<IpAddr> {
    let ConnectInfo(Peer(peer)) = extensions.get::<ConnectInfo<Peer>>()?;
    Some(proxies::client(peer.ip(), headers, trusted_proxies))
}

impl Gateway {
    /// Reserves a permit for a new connection.
    pub fn connection_permit(&self, request: &Parts) -> Result<Arc<ConnectionPermit>, NotAdmitted> {
        if self.drain.has_begun() {
            return Err(NotAdmitted::Draining);
        }
        let address = self.address_of(&request.extensions, &request.headers).map(proxies::client_block);
        let authorization = request.headers.get(header::AUTHORIZATION).and_then(|header| header.to_str().ok());
        let takes_offsets = takes_offsets(&self.recovery.config, &request.uri, &request.headers);
        self.permits.admit_connection(address, authorization, takes_offsets, &self.limits, &self.services.metrics).map_err(
            |refused| match refused {
                NoPermit::Node => NotAdmitted::Full,
                NoPermit::Address => NotAdmitted::Address,
            },
        )
    }

    /// The address of the client that sent a request, behind trusted proxies.
    pub fn address_of(&self, extensions: &Extensions, headers: &HeaderMap) -> Option<IpAddr> {
        address_of(extensions, headers, &self.trusted_proxies)
    }

    /// Waits for the turn of a new connection.
    pub async fn wait_for_turn(&self) -> Result<(), NotAdmitted> {
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
