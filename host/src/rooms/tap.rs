//! Live taps for operators: the events of one user or one room, in both directions. Without a tap an event costs one relaxed load.
//! A tap that is too slow loses records and never delays an event.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLock;
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

/// The events to record. A tenant's user or room is named with its tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    User(String),
    Room { namespace: String, room: String },
}

/// How much of an event a record contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Payloads {
    /// Names, sizes, times and outcomes.
    #[default]
    None,
    /// Also the arguments.
    Full,
}

/// One event, as a tap receives it.
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
    /// Of a received event: `ok`, or the code of its refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'static str>,
    /// Microseconds that the call took, and those in the sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_micros: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_micros: Option<u64>,
    /// Of a sent event: its recipients, and how many sockets it reaches at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reached: Option<u64>,
    /// The text of the arguments, if operators may see it; cut if it is long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<String>,
}

struct Tap {
    id: u64,
    subject: Subject,
    records: mpsc::Sender<Arc<TapRecord>>,
    dropped: Arc<AtomicU64>,
}

/// All taps of this node.
pub struct Taps {
    on: AtomicBool,
    full: AtomicBool,
    next: AtomicU64,
    clock: Clock,
    taps: RwLock<Vec<Tap>>,
}

/// The receiving end of a tap.
pub struct Listening {
    pub id: u64,
    pub records: mpsc::Receiver<Arc<TapRecord>>,
    /// Records that were lost because the tap was too slow.
    pub dropped: Arc<AtomicU64>,
}

/// An event that a client has sent, and its outcome.
pub struct ReceivedEvent<'a> {
    pub namespace: &'a str,
    pub socket: SocketId,
    /// As users are named in rooms: with the tenant, if there is one.
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

    /// Whether there is any tap.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Starts a tap with a queue of `queue` records. None if there are `most` taps already.
    pub fn listen(&self, subject: Subject, most: usize, queue: usize) -> Option<Listening> {
        let mut taps = self.taps.write();
        if taps.len() >= most {
            return None;
        }
        let (sender, records) = mpsc::channel(queue.max(1));
        let (id, dropped) = (self.next.fetch_add(1, Ordering::Relaxed), Arc::<AtomicU64>::default());
        taps.push(Tap { id, subject, records: sender, dropped: dropped.clone() });
        self.on.store(true, Ordering::Relaxed);
        Some(Listening { id, records, dropped })
    }

    /// Ends a tap. Idempotent.
    pub fn end(&self, id: u64) {
        let mut taps = self.taps.write();
        taps.retain(|tap| tap.id != id);
        self.on.store(!taps.is_empty(), Ordering::Relaxed);
    }

    pub fn count(&self) -> usize {
        self.taps.read().len()
    }

    /// Records an event that a client has sent. `members` are those of its namespace.
    pub fn received(&self, event: &ReceivedEvent<'_>, members: &Members) {
        let matches = |subject: &Subject| match subject {
            Subject::User(user) => event.user.is_some_and(|own| own == user),
            Subject::Room { namespace, room } => *namespace == *event.namespace && members.is_in(event.socket, room),
        };
        self.record(matches, || TapRecord {
            way: "in",
            at: self.clock.now_ms(),
            namespace: event.namespace.to_owned(),
            event: event.event.to_owned(),
            bytes: event.event.len() + event.args.len(),
            outcome: Some(event.outcome),
            took_micros: Some(event.took_micros),
            cpu_micros: Some(event.cpu_micros),
            to: None,
            reached: None,
            args: self.visible(event.args),
        });
    }

    /// Records an event that is about to be sent.
    pub(crate) fn sent(&self, namespace: &str, send: &Send<'_>, reached: u64, members: &Members) {
        let matches = |subject: &Subject| match subject {
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
        self.record(matches, || {
            // The host has encoded this JSON itself, so parsing succeeds.
            let (event, inside) = json::split_event(send.text).unwrap_or_default();
            TapRecord {
                way: "out",
                at: self.clock.now_ms(),
                namespace: namespace.to_owned(),
                event: event.into_owned(),
                bytes: send.text.len(),
                outcome: None,
                took_micros: None,
                cpu_micros: None,
                to: Some(recipients(&send.to)),
                reached: Some(reached),
                args: self.visible(&format!("[{inside}]")),
            }
        });
    }

    fn record(&self, wants: impl Fn(&Subject) -> bool, record: impl FnOnce() -> TapRecord) {
        let taps = self.taps.read();
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

    fn visible(&self, args: &str) -> Option<String> {
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

fn recipients(to: &To<'_>) -> String {
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
    fn a_tap_records_its_user_only_and_payloads_only_if_allowed() {
        let (taps, members) = (Taps::new(Clock::system()), Members::default());
        assert!(!taps.is_on());
        let mut listening = taps.listen(Subject::User("ana".into()), 1, 8).unwrap();
        assert!(taps.is_on() && taps.listen(Subject::User("bia".into()), 1, 8).is_none());
        taps.received(&received("bia", "[1]"), &members);
        taps.received(&received("ana", "[2]"), &members);
        taps.allow(Payloads::Full);
        taps.received(&received("ana", "[3]"), &members);
        let args: Vec<_> = std::iter::from_fn(|| listening.records.try_recv().ok()).map(|record| record.args.clone()).collect();
        assert_eq!(args, [None, Some("[3]".to_owned())]);
        taps.end(listening.id);
        assert!(!taps.is_on());
    }

    #[test]
    fn a_slow_tap_loses_records_and_counts_them() {
        let (taps, members) = (Taps::new(Clock::system()), Members::default());
        let listening = taps.listen(Subject::User("ana".into()), 1, 2).unwrap();
        for _ in 0..5 {
            taps.received(&received("ana", "[]"), &members);
        }
        assert_eq!(listening.dropped.load(Ordering::Relaxed), 3);
    }
}
