//! Login of an operator's socket with the admin token.

use std::sync::Arc;

use socketioxide::extract::SocketRef;

use crate::auth::logins::{Denied, Logins};
use crate::proxies::Network;
use crate::server::api::secrets_match;
use crate::socket::{Gateway, open};

/// Checks the admin token of a socket, with the same throttle as `/admin`.
#[derive(Clone)]
pub(crate) struct Operators {
    /// Without one, every login fails.
    token: Option<Arc<str>>,
    logins: Arc<Logins>,
    trusted_proxies: Arc<[Network]>,
}

impl Operators {
    pub(crate) fn new(token: Option<&str>, gateway: &Gateway) -> Self {
        let trusted_proxies = gateway.trusted_proxies.as_slice().into();
        Self { token: token.map(Arc::from), logins: gateway.operators.clone(), trusted_proxies }
    }

    /// Checks the token that a socket shows.
    pub(crate) fn check(&self, socket: &SocketRef, shown: &str) -> Result<(), &'static str> {
        let request = socket.req_parts();
        let address = open::address_of(&request.extensions, &request.headers, &self.trusted_proxies);
        let is_right = |shown: &str| self.token.as_deref().is_some_and(|known| secrets_match(known, shown));
        self.logins.check(address, Some(shown), is_right).map_err(|denied| match denied {
            Denied::Throttled(_) => "Too many failed logins from this address",
            Denied::Missing | Denied::Wrong => "The operator's token is needed",
        })
    }
}
