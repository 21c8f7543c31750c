//! What an operator listens in on: the events of one user or one room, both ways. Nobody tapped costs one relaxed load an event;
//! a tap that is behind loses records, never anyone's time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::members::Members;
use super::{Send, To};
use crate::clock::Clock;
use crate::json;
use crate::names::{self, SocketId};

/// Bytes of arguments that a record carries; the rest is cut.
const MAX_ARGS: usize = 4 << 10;

/// Whose events. A tenant's user or room is named with its tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    User(String),
    Room { namespace: String, room: String },
}

/// How much of an event a record tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Payloads {
    /// Names, sizes, times and outcomes.
    #[default]
    None,
    /// The arguments, too.
    Full,
}

/// One event, as a tap is told of it.
#[derive(Debug, Clone, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TapRecord {
    /// `in`: from a client; `out`: to clients.
    pub way: &'static str,
    /// Milliseconds since 1970.
    pub at: u64,
    pub namespace: String,
    pub event: String,
    pub bytes: usize,
    /// Of one that came in: `ok`, or the code of its refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'static str>,
    /// Microseconds from its turn to its end, and of them in the sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_micros: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_micros: Option<u64>,
    /// Of one that was sent: whom to, and how many sockets that are at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reached: Option<u64>,
    /// The arguments' text, where the operator may see it; cut where it is long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<String>,
}

/// One listener.
struct Tap {
    id: u64,
    subject: Subject,
    records: mpsc::Sender<Arc<TapRecord>>,
    dropped: Arc<AtomicU64>,
}

/// All listeners of this node.
pub struct Taps {
    on: AtomicBool,
    full: AtomicBool,
    next: AtomicU64,
    clock: Clock,
    taps: RwLock<Vec<Tap>>,
}

/// What a listener reads from.
pub struct Listening {
    pub id: u64,
    pub records: mpsc::Receiver<Arc<TapRecord>>,
    /// Records that it was too slow for.
    pub dropped: Arc<AtomicU64>,
}

/// An event that a client has sent, and what became of it.
pub struct ReceivedEvent<'a> {
    pub namespace: &'a str,
    pub socket: SocketId,
    /// As rooms and users are named: with the tenant, where there is one.
    pub user: Option<&'a str>,
    pub event: &'a str,
    /// `[…]`
    pub args: &'a str,
    pub outcome: &'static str,
    pub took_micros: u64,
    pub cpu_micros: u64,
}

impl Taps {
    pub fn new(clock: Clock) -> Self {
        let (on, full) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { on, full, next: AtomicU64::new(0), clock, taps: RwLock::default() }
    }

    pub fn allow(&self, payloads: Payloads) {
        self.full.store(payloads == Payloads::Full, Ordering::Relaxed);
    }

    /// Whether anybody listens.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Begins to listen: at most `most` at a time, with so many records waiting for each.
    pub fn listen(&self, subject: Subject, most: usize, queue: usize) -> Option<Listening> {
        let mut taps = self.taps.write().unwrap_or_else(PoisonError::into_inner);
        if taps.len() >= most {
            return None;
        }
        let (sender, records) = mpsc::channel(queue.max(1));
        let (id, dropped) = (self.next.fetch_add(1, Ordering::Relaxed), Arc::<AtomicU64>::default());
        taps.push(Tap { id, subject, records: sender, dropped: dropped.clone() });
        self.on.store(true, Ordering::Relaxed);
        Some(Listening { id, records, dropped })
    }

    /// Ends one. Idempotent.
    pub fn end(&self, id: u64) {
        let mut taps = self.taps.write().unwrap_or_else(PoisonError::into_inner);
        taps.retain(|tap| tap.id != id);
        self.on.store(!taps.is_empty(), Ordering::Relaxed);
    }

    pub fn count(&self) -> usize {
        self.taps.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Tells of an event that a client has sent. `members` are those of its namespace.
    pub fn received(&self, came: &ReceivedEvent<'_>, members: &Members) {
        let wants = |subject: &Subject| match subject {
            Subject::User(user) => came.user.is_some_and(|own| own == user),
            Subject::Room { namespace, room } => *namespace == *came.namespace && members.is_in(came.socket, room),
        };
        self.record(wants, || TapRecord {
            way: "in",
            at: self.clock.now_ms(),
            namespace: came.namespace.to_owned(),
            event: came.event.to_owned(),
            bytes: came.event.len() + came.args.len(),
            outcome: Some(came.outcome),
            took_micros: Some(came.took_micros),
            cpu_micros: Some(came.cpu_micros),
            to: None,
            reached: None,
            args: self.shown(came.args),
        });
    }

    /// Tells of an event that is about to be sent.
    pub(crate) fn sent(&self, namespace: &str, send: &Send<'_>, reached: u64, members: &Members) {
        let wants = |subject: &Subject| match subject {
            Subject::User(user) => members.sockets_of(user).iter().any(|socket| reaches(&send.to, *socket, members)),
            Subject::Room { namespace: ns, room } => {
                *ns == *namespace
                    && match &send.to {
                        To::Rooms(rooms) => rooms.contains(room),
                        To::TenantInRoom { room: sent, .. } => sent == room,
                        _ => false,
                    }
            }
        };
        self.record(wants, || {
            // What was sent is JSON that the host made.
            let (event, inside) = json::split_event(&send.text).unwrap_or_default();
            TapRecord {
                way: "out",
                at: self.clock.now_ms(),
                namespace: namespace.to_owned(),
                event: event.into_owned(),
                bytes: send.text.len(),
                outcome: None,
                took_micros: None,
                cpu_micros: None,
                to: Some(named(&send.to)),
                reached: Some(reached),
                args: self.shown(&format!("[{inside}]")),
            }
        });
    }

    fn record(&self, wants: impl Fn(&Subject) -> bool, record: impl FnOnce() -> TapRecord) {
        let taps = self.taps.read().unwrap_or_else(PoisonError::into_inner);
        let mut wanting = taps.iter().filter(|tap| wants(&tap.subject)).peekable();
        if wanting.peek().is_none() {
            return;
        }
        let record = Arc::new(record());
        for tap in wanting {
            if tap.records.try_send(record.clone()).is_err() {
                tap.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn shown(&self, args: &str) -> Option<String> {
        self.full.load(Ordering::Relaxed).then(|| args[..args.floor_char_boundary(MAX_ARGS)].to_owned())
    }
}

fn reaches(to: &To<'_>, socket: SocketId, members: &Members) -> bool {
    match to {
        To::Socket(other) => *other == socket,
        To::Rooms(rooms) => rooms.iter().any(|room| members.is_in(socket, room)),
        To::TenantInRoom { tenant, room } => {
            members.is_in(socket, room) && members.is_in(socket, &super::members::tenant(tenant))
        }
        To::Users(users) => users.iter().any(|user| members.sockets_of(user).contains(&socket)),
        To::Tenant(tenant) => members.is_in(socket, &super::members::tenant(tenant)),
        To::Everyone => true,
    }
}

fn named(to: &To<'_>) -> String {
    let list = |kind: &str, names: &[String]| match names {
        [name] => format!("{kind} {}", names::unscoped(name).1),
        names => format!("{} {kind}s", names.len()),
    };
    match to {
        To::Socket(_) => "caller".to_owned(),
        To::Rooms(rooms) => list("room", rooms),
        To::TenantInRoom { room, .. } => format!("room {room}"),
        To::Users(users) => list("user", users),
        To::Tenant(tenant) => format!("tenant {tenant}"),
        To::Everyone => "everyone".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn received<'a>(user: &'a str, args: &'a str) -> ReceivedEvent<'a> {
        let (namespace, event, outcome) = ("/chat", "said", "ok");
        ReceivedEvent { namespace, socket: 1, user: Some(user), event, args, outcome, took_micros: 2, cpu_micros: 1 }
    }

    #[test]
    fn a_tap_hears_its_user_alone_and_no_payloads_unless_they_are_allowed() {
        let (taps, members) = (Taps::new(Clock::system()), Members::default());
        assert!(!taps.is_on());
        let mut listening = taps.listen(Subject::User("ana".into()), 1, 8).unwrap();
        assert!(taps.is_on() && taps.listen(Subject::User("bia".into()), 1, 8).is_none());
        taps.received(&received("bia", "[1]"), &members);
        taps.received(&received("ana", "[2]"), &members);
        taps.allow(Payloads::Full);
        taps.received(&received("ana", "[3]"), &members);
        let told: Vec<_> = std::iter::from_fn(|| listening.records.try_recv().ok()).map(|record| record.args.clone()).collect();
        assert_eq!(told, [None, Some("[3]".to_owned())]);
        taps.end(listening.id);
        assert!(!taps.is_on());
    }

    #[test]
    fn a_tap_that_is_behind_loses_records_and_they_are_counted() {
        let (taps, members) = (Taps::new(Clock::system()), Members::default());
        let listening = taps.listen(Subject::User("ana".into()), 1, 2).unwrap();
        for _ in 0..5 {
            taps.received(&received("ana", "[]"), &members);
        }
        assert_eq!(listening.dropped.load(Ordering::Relaxed), 3);
    }
}
