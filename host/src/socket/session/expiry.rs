//! Tokens that expire on a live socket: the client gets `auth:expired`, and its connection is closed if no fresh token arrives in
//! time. It never disconnects a namespace by a packet, because a stock client would not reconnect.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use parking_lot::{Mutex, MutexGuard};
use serde::Deserialize;
use tokio::sync::Notify;

use super::Session;
use crate::auth::door_policy::{self, Admitted};
use crate::error::{Code, Refusal};
use crate::names::SocketId;
use crate::sandbox::exports::Caller;
use crate::socket::Gateway;
use crate::socket::admission::TOKEN_COST;
use crate::socket::caller::{door_of, user_record};

/// The event with which a client sends a fresh token: `auth:refresh {token}`, acknowledged with `{}`.
pub const REFRESH: &str = "auth:refresh";

/// The event that notifies a client that its token has expired: `auth:expired {at}`, the time of expiry.
const EXPIRED: &str = "auth:expired";

/// The longest time between two checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// The expiry times of all tokens, by the steady clock, so that a step of the wall clock changes no token's life.
#[derive(Default)]
pub struct Expiring {
    due: Mutex<Due>,
    sooner: Notify,
}

#[derive(Default)]
struct Due {
    /// Tokens that have not expired yet.
    tokens: BTreeSet<(u64, SocketId)>,
    /// Sockets that were sent `auth:expired`, with the time at which to close their connections.
    closing: BTreeSet<(u64, SocketId)>,
}

impl Expiring {
    /// Schedules a token's expiry.
    pub fn expect(&self, at_ms: u64, socket: SocketId) {
        let mut due = self.due();
        due.tokens.insert((at_ms, socket));
        if due.tokens.first() == Some(&(at_ms, socket)) {
            self.sooner.notify_one();
        }
    }

    /// Removes a socket's schedule, because it has a fresh token or has disconnected.
    pub fn forget(&self, old_ms: u64, socket: SocketId) {
        let mut due = self.due();
        due.tokens.remove(&(old_ms, socket));
        due.closing.retain(|(_, other)| *other != socket);
    }

    fn due(&self) -> MutexGuard<'_, Due> {
        self.due.lock()
    }
}

impl Due {
    fn next(&self) -> Option<u64> {
        self.tokens.first().into_iter().chain(self.closing.first()).map(|(at, _)| *at).min()
    }
}

fn take(set: &mut BTreeSet<(u64, SocketId)>, now_ms: u64) -> BTreeSet<(u64, SocketId)> {
    let later = set.split_off(&(now_ms + 1, 0));
    std::mem::replace(set, later)
}

/// Sends `auth:expired` and closes connections, each at its time. Closing a connection ends the sockets of its other namespaces as
/// well; the client reconnects to all of them.
pub async fn run(gateway: Arc<Gateway>) {
    loop {
        let moment = gateway.services.clock.moment();
        let now = moment.steady_ms;
        let grace = gateway.config.expiry_grace.as_millis() as u64;
        let (expired, ended) = {
            let mut due = gateway.expiring.due();
            let expired = take(&mut due.tokens, now);
            due.closing.extend(expired.iter().map(|(_, socket)| (now + grace, *socket)));
            (expired, take(&mut due.closing, now))
        };
        for (at, session) in expired.into_iter().filter_map(|(at, id)| Some((at, gateway.sockets.get(id)?))) {
            session.send_event(EXPIRED, &format!(r#"{{"at":"{}"}}"#, rfc3339(moment.wall_at(at))));
        }
        for session in ended.into_iter().filter_map(|(_, id)| gateway.sockets.get(id)) {
            if session.end("expired") {
                gateway.services.metrics.connections_expired.inc();
            }
        }
        let next = gateway.expiring.due().next();
        let wait = next.map_or(CHECK_INTERVAL, |at| Duration::from_millis(at.saturating_sub(now)).min(CHECK_INTERVAL));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = gateway.expiring.sooner.notified() => {}
        }
    }
}

/// A time in the format of payloads.
fn rfc3339(at_ms: u64) -> humantime::Rfc3339Timestamp {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(at_ms))
}

/// Handles `auth:refresh`. The fresh token must be for the same user, and pass the same door policy.
pub async fn refresh(gateway: &Arc<Gateway>, session: &Arc<Session>, args: &str, ack: Option<u64>) {
    session.charge_cpu(TOKEN_COST);
    let result = replace(gateway, session, args).await;
    match (result, ack) {
        (Ok(()), Some(ack)) => session.ack(ack, "{}"),
        (Ok(()), None) => {}
        (Err(sentence), ack) => session.answer_refusal(REFRESH, ack, &Refusal::new(Code::Unauthenticated, sentence)),
    }
}

async fn replace(gateway: &Arc<Gateway>, session: &Arc<Session>, args: &str) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Fresh {
        token: String,
    }
    let caller = session.caller.load_full();
    let route = gateway.registry.routes().namespace(&caller.namespace).cloned().ok_or("Service unavailable")?;
    let door = door_of(&route.door);
    let invalid = || door.invalid.clone();
    let (fresh,): (Fresh,) = serde_json::from_str(args).map_err(|_| invalid())?;
    let keyring = gateway.keyring.get();
    let checked = keyring.authenticate(door_policy::bare(&fresh.token), &caller.namespace, &gateway.services.clock).await;
    let verified = match door.admit(Some(checked), keyring.claim_names()) {
        Ok(Admitted::User(verified)) => verified,
        Ok(Admitted::Visitor) => return Err(invalid()),
        Err(refused) => return Err(refused.sentence.to_owned()),
    };
    let user = user_record(&verified.user);
    let is_same = caller.user.as_ref().is_some_and(|old| old.id == user.id && old.tenant == user.tenant)
        && session.issuer == verified.issuer;
    if !is_same {
        return Err(invalid());
    }
    session.caller.store(Arc::new(Caller { user: Some(user), ..(*caller).clone() }));
    let expires = gateway.services.clock.steady_at(verified.expires_at_ms);
    let old = session.expires_ms.swap(expires, std::sync::atomic::Ordering::AcqRel);
    gateway.expiring.forget(old, session.id);
    gateway.expiring.expect(expires, session.id);
    Ok(())
}
