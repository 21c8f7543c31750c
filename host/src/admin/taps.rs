//! The operator's live tap: a Socket.IO client on the admin port names a user or a room and receives a record of each of its events,
//! in both directions. A connection needs the admin token. A slow listener loses records and is sent their number.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use socketioxide::SocketIo;
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::{SocketRef, TryData};
use socketioxide::handler::ConnectHandler as _;
use socketioxide::{SendError, SocketError};

use super::operators::Operators;
use crate::call::registry::Registry;
use crate::error::Code;
use crate::rooms::tap::{Listening, ReceivedEvent, Subject, TapRecord};
use crate::socket::Gateway;
use crate::socket::session::Session;
use crate::transaction::services::Services;
use crate::transaction::state::name_of;

/// The namespace of taps. Each socket has one subject, named in the `auth` of its connect.
const NAMESPACE: &str = "/tap";

/// The only event: some records, and how many were dropped so far.
const EVENT: &str = "tapped";

/// The most records in one packet.
const BATCH: usize = 64;

/// The wait before a listener with a full queue is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// Limits of the live tap.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// The most listeners at a time; more are refused.
    pub most: usize,
    /// The most records that wait for one listener; more are dropped.
    pub queue: usize,
}

/// `{token, user}` or `{token, namespace, room}`, and optionally the `tenant` that scopes the name.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    token: String,
    user: String,
    namespace: String,
    room: String,
    tenant: Option<String>,
}

#[derive(Serialize)]
struct TappedEvent<'a> {
    records: &'a [Arc<TapRecord>],
    dropped: u64,
}

/// A listener's permit and its records. The socket holds it between the login and the connect handler.
struct TapPermit {
    services: Arc<Services>,
    listening: Listening,
}

/// A socket's extensions return clones: the first one takes the permit.
type PendingPermit = Arc<Mutex<Option<TapPermit>>>;

impl TapPermit {
    /// Listens from now on, so that no event after the login is missed.
    fn take(services: &Arc<Services>, subject: Subject, config: Config) -> Result<Self, &'static str> {
        let taps = &services.rooms.taps;
        let listening = taps.listen(subject, config.most, config.queue).ok_or("Too many are listening")?;
        services.metrics.taps.set(taps.count() as i64);
        Ok(Self { services: services.clone(), listening })
    }
}

impl Drop for TapPermit {
    fn drop(&mut self) {
        end(&self.services, self.listening.id);
    }
}

/// Registers the namespace.
pub(crate) fn open(io: &SocketIo<LocalAdapter>, operators: Operators, config: Config, gateway: &Gateway) {
    let (services, registry) = (gateway.services.clone(), gateway.registry.clone());
    let authenticate = move |socket: SocketRef, TryData(auth): TryData<Auth>| {
        let auth = auth.unwrap_or_default();
        let permit = operators
            .check(&socket, &auth.token)
            .and_then(|()| subject(&registry, &services, auth))
            .and_then(|subject| TapPermit::take(&services, subject, config))
            .inspect_err(|_| {
                services.metrics.taps_refused.inc();
            });
        let permit = permit.map(|permit| drop(socket.extensions.insert::<PendingPermit>(Arc::new(Mutex::new(Some(permit))))));
        async move { permit }
    };
    let listen = |socket: SocketRef| async move { listen(socket) };
    io.ns(NAMESPACE, listen.with(authenticate));
}

fn subject(registry: &Registry, services: &Services, auth: Auth) -> Result<Subject, &'static str> {
    let scoped = |name: &str| services.scoped(auth.tenant.as_deref(), name);
    match (auth.user.as_str(), auth.namespace.as_str(), auth.room.as_str()) {
        (user, "", "") if !user.is_empty() => Ok(Subject::User(scoped(user))),
        ("", namespace, room) if !namespace.is_empty() && !room.is_empty() => {
            let shared = registry.is_shared_room(namespace, room);
            Ok(Subject::Room { namespace: namespace.to_owned(), room: if shared { room.to_owned() } else { scoped(room) } })
        }
        _ => Err("Name a user, or a namespace and a room"),
    }
}

/// Starts forwarding the subject's events to a socket.
fn listen(socket: SocketRef) {
    let pending = socket.extensions.remove::<PendingPermit>();
    let Some(permit) = pending.and_then(|pending| pending.lock().take()) else { return };
    socket.on_disconnect({
        let (services, id) = (permit.services.clone(), permit.listening.id);
        move || async move { end(&services, id) }
    });
    if socket.connected() {
        tokio::spawn(forward(socket, permit));
    }
}

fn end(services: &Services, id: u64) {
    services.rooms.taps.end(id);
    services.metrics.taps.set(services.rooms.taps.count() as i64);
}

/// Forwards records until the listener disconnects.
async fn forward(socket: SocketRef, mut permit: TapPermit) {
    let (mut records, mut counted) = (Vec::new(), 0);
    while permit.listening.records.recv_many(&mut records, BATCH).await > 0 {
        loop {
            let dropped = permit.listening.dropped.load(Ordering::Relaxed);
            permit.services.metrics.tap_records_dropped.inc_by(dropped - counted);
            counted = dropped;
            match socket.emit(EVENT, &TappedEvent { records: &records, dropped }) {
                Ok(()) => break,
                // New records wait in the queue meanwhile; when it is full, they are dropped.
                Err(SendError::Socket(SocketError::InternalChannelFull)) => tokio::time::sleep(PAUSE).await,
                Err(_) => return,
            }
        }
        records.clear();
    }
}

impl Session {
    /// Sends a record of an event from this socket to its listeners. `refused`: why it took no effect.
    pub(crate) fn tapped(&self, event: &str, args: &str, refused: Option<Code>, took: Duration, cpu: Duration) {
        let caller = self.caller.load();
        let user = caller.user.as_ref().map(name_of);
        let received = ReceivedEvent {
            namespace: &caller.namespace,
            socket: self.id,
            user: user.as_deref(),
            event,
            args,
            outcome: refused.map_or("ok", Code::as_str),
            took_micros: took.as_micros() as u64,
            cpu_micros: cpu.as_micros() as u64,
        };
        self.adapter.members(|members| self.gateway().services.rooms.taps.received(&received, members));
    }
}
