//! The operator's live tap: a stock Socket.IO client on the admin port that names a user or a room hears its events, both ways.
//! Nobody listens without the admin token; one that does not read loses records, and hears how many.

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
use crate::names;
use crate::rooms::tap::{Listening, ReceivedEvent, Subject, TapRecord};
use crate::socket::Gateway;
use crate::socket::session::Session;
use crate::transaction::services::Services;
use crate::transaction::state::name_of;

/// Where to listen in. The subject is in the connect's `auth`: one socket, one subject.
const NAMESPACE: &str = "/tap";

/// The one event: some records, and how many were dropped so far.
const EVENT: &str = "tapped";

/// Records in one packet.
const TOGETHER: usize = 64;

/// Before a listener whose queue is full is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// How many may listen.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Listeners at a time. Past it one is refused.
    pub most: usize,
    /// Records that may wait for one. Past it they are dropped.
    pub queue: usize,
}

/// `{token, user}` or `{token, namespace, room}`, with the `tenant` that scopes the name, where there is one.
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
struct Told<'a> {
    records: &'a [Arc<TapRecord>],
    dropped: u64,
}

/// A listener's place, and what it is told: kept by its socket from the door to its connect. Dropped, the place is free again.
struct TapPermit {
    services: Arc<Services>,
    listening: Listening,
}

/// A socket's extensions hand out copies: the first takes the place.
type Kept = Arc<Mutex<Option<TapPermit>>>;

impl TapPermit {
    /// Listens from now on: who is let in hears all that happens after that.
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

/// Opens the namespace.
pub(crate) fn open(io: &SocketIo<LocalAdapter>, operators: Operators, config: Config, gateway: &Gateway) {
    let (services, registry) = (gateway.services.clone(), gateway.registry.clone());
    let door = move |socket: SocketRef, TryData(auth): TryData<Auth>| {
        let auth = auth.unwrap_or_default();
        let place = operators
            .check(&socket, &auth.token)
            .and_then(|()| subject(&registry, services.default_tenant.as_deref(), auth))
            .and_then(|subject| TapPermit::take(&services, subject, config))
            .inspect_err(|_| {
                services.metrics.taps_refused.inc();
            });
        let place = place.map(|place| drop(socket.extensions.insert::<Kept>(Arc::new(Mutex::new(Some(place))))));
        async move { place }
    };
    let listen = |socket: SocketRef| async move { listen(socket) };
    io.ns(NAMESPACE, listen.with(door));
}

fn subject(registry: &Registry, default_tenant: Option<&str>, auth: Auth) -> Result<Subject, &'static str> {
    let scoped = |name: &str| names::scoped(auth.tenant.as_deref().or(default_tenant), name);
    match (auth.user.as_str(), auth.namespace.as_str(), auth.room.as_str()) {
        (user, "", "") if !user.is_empty() => Ok(Subject::User(scoped(user))),
        ("", namespace, room) if !namespace.is_empty() && !room.is_empty() => {
            let shared = registry.is_shared_room(namespace, room);
            Ok(Subject::Room { namespace: namespace.to_owned(), room: if shared { room.to_owned() } else { scoped(room) } })
        }
        _ => Err("Name a user, or a namespace and a room"),
    }
}

/// Begins to tell a socket of its subject.
fn listen(socket: SocketRef) {
    let kept = socket.extensions.remove::<Kept>();
    let Some(place) = kept.and_then(|kept| kept.lock().take()) else { return };
    socket.on_disconnect({
        let (services, id) = (place.services.clone(), place.listening.id);
        move || async move { end(&services, id) }
    });
    if socket.connected() {
        tokio::spawn(tell(socket, place));
    }
}

fn end(services: &Services, id: u64) {
    services.rooms.taps.end(id);
    services.metrics.taps.set(services.rooms.taps.count() as i64);
}

/// Tells until the listener has gone.
async fn tell(socket: SocketRef, mut place: TapPermit) {
    let (mut records, mut counted) = (Vec::new(), 0);
    while place.listening.records.recv_many(&mut records, TOGETHER).await > 0 {
        loop {
            let dropped = place.listening.dropped.load(Ordering::Relaxed);
            place.services.metrics.tap_records_dropped.inc_by(dropped - counted);
            counted = dropped;
            match socket.emit(EVENT, &Told { records: &records, dropped }) {
                Ok(()) => break,
                // Meanwhile the records behind these fill the queue, and then are dropped.
                Err(SendError::Socket(SocketError::InternalChannelFull)) => tokio::time::sleep(PAUSE).await,
                Err(_) => return,
            }
        }
        records.clear();
    }
}

impl Session {
    /// Tells who listens in of an event of this socket's. `refused`: why it took no effect.
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
