//! One socket: its events in the order sent, one at a time, at most so many waiting. It keeps no version of any plugin, and no
//! fault of a plugin ends it.

pub mod disconnect;
pub mod expiry;

use std::collections::VecDeque;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use smallvec::SmallVec;
use socketioxide_core::{Sid, Str};

use super::Gateway;
use super::admission::{QUEUE_PAUSE, REFUSAL_COST, too_many};
use super::permits::{Seat, Ticket};
use crate::call::deployed_plugin::Slot;
use crate::call::error::CallError;
use crate::call::job::Job;
use crate::call::run::{call, call_metered};
use crate::capability::emitter::packet_text;
use crate::error::{Code, Refusal};
use crate::json::{self, InvalidJson};
use crate::names::{self, SocketId};
use crate::rooms::adapter::Adapter;
use crate::sandbox::exports::{Caller, Event};
use crate::telemetry::traces::{Kind, Span};
use crate::transaction::commit;
use crate::transaction::effects::Live;
use disconnect::Gone;

/// One socket.
pub struct Session {
    pub id: SocketId,
    pub sid: Sid,
    pub adapter: Arc<Adapter>,
    /// Replaced when the client shows a fresh token.
    pub caller: ArcSwap<Caller>,
    /// The connection's, which it may share with sockets of other namespaces.
    pub ticket: Arc<Ticket>,
    /// Among the user's sockets. None for a visitor, or where nothing of a user's is limited.
    seat: Option<Seat>,
    /// Who issued the token.
    pub issuer: Option<Arc<str>>,
    /// When the token expires, by the steady clock. 0 for a visitor.
    pub expires_ms: AtomicU64,
    /// Bytes of what the host answers and tells it, beside what plugins send.
    pub answered: AtomicU64,
    gateway: Arc<Gateway>,
    state: Mutex<State>,
}

/// What a socket takes up.
pub struct Place {
    pub ticket: Arc<Ticket>,
    pub seat: Option<Seat>,
    /// Who issued the token.
    pub issuer: Option<Arc<str>>,
}

struct State {
    phase: Phase,
    /// Someone is working on the queue.
    busy: bool,
    queue: VecDeque<Received>,
    /// Plugins that know the socket, by their slot's number.
    met: SmallVec<[u32; 2]>,
    /// Effects of `on-connect` that wait for the client to know that it is connected.
    deferred: Vec<Live>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The client does not know yet that it is connected.
    Connecting,
    Open,
    /// It has gone; what it sent before still runs.
    Closing(Gone),
    Closed,
}

/// An event that was received, and is well formed.
struct Received {
    name: String,
    /// The arguments: `[…]`.
    args: String,
    ack: Option<i64>,
}

enum Next {
    Event(Received),
    Leave(Gone),
    Nothing,
}

impl Session {
    pub fn new(
        gateway: Arc<Gateway>,
        sid: Sid,
        adapter: Arc<Adapter>,
        caller: Caller,
        expires_ms: Option<u64>,
        place: Place,
    ) -> Arc<Self> {
        Arc::new(Self {
            id: caller.socket,
            sid,
            adapter,
            caller: ArcSwap::from_pointee(caller),
            ticket: place.ticket,
            seat: place.seat,
            issuer: place.issuer,
            expires_ms: AtomicU64::new(expires_ms.unwrap_or(0)),
            answered: AtomicU64::new(0),
            gateway,
            state: Mutex::new(State {
                phase: Phase::Connecting,
                busy: false,
                queue: VecDeque::new(),
                met: SmallVec::new(),
                deferred: Vec::new(),
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Under this lock values are only moved: a panic cannot leave one half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets every plugin of the namespace meet the socket. Writes and joins are done after it; emits wait for `open`.
    pub async fn meet_all(&self, trace: Option<&Span>) {
        let path = self.caller.load().namespace.clone();
        let plugins = match self.gateway.registry.routes().namespace(&path) {
            Some(route) => route.connect.clone(),
            None => return,
        };
        for slot in plugins {
            self.meet(&slot, trace).await;
        }
    }

    /// Calls `on-connect` of one plugin. Where it fails, it is owed, and called before the next event for that plugin.
    async fn meet(&self, slot: &Slot, trace: Option<&Span>) {
        let caller = self.caller.load_full();
        let span = trace.map(|trace| trace.child("on-connect"));
        // The error has been logged where it arose.
        if let Ok(done) =
            call(&self.gateway.services, slot, Job::Connect { caller: &caller, peer: self.ticket.peer }, span.as_ref()).await
        {
            let mut state = self.state();
            state.met.push(slot.id);
            state.deferred.extend(done.deferred);
        }
    }

    fn has_met(&self, slot: &Slot) -> bool {
        self.state().met.contains(&slot.id)
    }

    /// The client knows that it is connected: what waited for that happens, then its events.
    pub fn open(self: &Arc<Self>) {
        {
            let mut state = self.state();
            if state.phase != Phase::Connecting {
                return;
            }
            state.phase = Phase::Open;
            state.busy = true;
        }
        run(self.clone().work(None));
    }

    /// A packet with an event has come, with or without attachments.
    pub fn receive(self: &Arc<Self>, text: &Str, has_attachments: bool, ack: Option<i64>) {
        let gateway = &self.gateway;
        let early = gateway.limits.too_early(&self.ticket, self.seat.as_ref(), &gateway.services.metrics);
        let text = json::well_formed(text);
        let event = match json::split_event(&text) {
            Ok((name, inside)) => {
                names::check_event(&name).map(|()| Received { args: bracketed(inside), name: name.into_owned(), ack })
            }
            Err(error) => return self.refuse_packet(&error, ack),
        };
        let event = match event {
            Ok(event) => event,
            Err(error) => return self.refuse("", ack, &Refusal::new(Code::Invalid, error.to_string()), "bad_name"),
        };
        if let Some((limit, wait)) = early {
            return self.refuse(&event.name, ack, &too_many(wait), limit);
        }
        if has_attachments {
            // No plugin's event takes them.
            let message = format!("{}: binary attachments are not supported", event.name);
            return self.refuse(&event.name, ack, &Refusal::new(Code::Invalid, message), "binary");
        }
        let now = {
            let mut state = self.state();
            match state.phase {
                Phase::Closing(_) | Phase::Closed => return,
                Phase::Open if !state.busy => {
                    state.busy = true;
                    Some(event)
                }
                _ if state.queue.len() < self.gateway.config.socket_queue => {
                    state.queue.push_back(event);
                    return;
                }
                _ => {
                    drop(state);
                    return self.refuse(&event.name, ack, &too_many(QUEUE_PAUSE), "queue_full");
                }
            }
        };
        run(self.clone().work(now));
    }

    fn refuse_packet(&self, error: &InvalidJson, ack: Option<i64>) {
        let message = match error {
            InvalidJson::Depth => "Nested too deeply",
            _ => "Malformed event",
        };
        self.refuse("", ack, &Refusal::new(Code::Invalid, message), "malformed");
    }

    /// Refuses an event before any plugin saw it.
    fn refuse(&self, event: &str, ack: Option<i64>, refusal: &Refusal, reason: &'static str) {
        if refusal.code != Code::RateLimited {
            self.cost(REFUSAL_COST);
        }
        self.gateway.services.metrics.events_refused.get_or_create(&crate::telemetry::ReasonLabel { reason }).inc();
        if self.gateway.services.rooms.taps.is_on() {
            self.tapped(event, "", Some(refusal.code), Duration::ZERO, Duration::ZERO);
        }
        self.answer_refusal(event, ack, refusal);
    }

    /// Charges the user for what the host has done.
    pub fn cost(&self, time: Duration) {
        self.gateway.limits.spent_cpu(&self.ticket, self.seat.as_ref(), time);
    }

    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    pub fn answer_refusal(&self, event: &str, ack: Option<i64>, refusal: &Refusal) {
        match ack {
            Some(ack) => self.ack(ack, refusal.as_ack()),
            None => self.tell("error", &refusal.as_event_args(event)),
        }
    }

    /// Sends the socket an event of the host's own. `args` is the text of an array.
    pub fn tell(&self, event: &str, args: &str) {
        let inside = args.strip_prefix('[').and_then(|args| args.strip_suffix(']')).unwrap_or_default();
        let text = packet_text(event, inside);
        self.answered.fetch_add(text.len() as u64, Ordering::Relaxed);
        self.adapter.tell(self.sid, text);
    }

    fn ack(&self, ack: i64, text: String) {
        self.answered.fetch_add(text.len() as u64, Ordering::Relaxed);
        self.adapter.ack(self.sid, ack, text);
    }

    /// The socket has gone. What it sent before still runs; then its plugins hear of it.
    pub fn close(self: &Arc<Self>, gone: Gone) {
        {
            let mut state = self.state();
            if matches!(state.phase, Phase::Closing(_) | Phase::Closed) {
                return;
            }
            state.phase = Phase::Closing(gone);
            if state.busy {
                return;
            }
            state.busy = true;
        }
        run(self.clone().work(None));
    }

    /// A client that went while it was being let in.
    pub fn vanished(self: &Arc<Self>) {
        let phase = self.state().phase;
        if phase == Phase::Connecting {
            self.close(Gone::VANISHED);
        }
    }

    /// Works until nothing waits. One at a time: `busy` says so.
    async fn work(self: Arc<Self>, first: Option<Received>) {
        self.settle().await;
        if let Some(event) = first {
            self.handle(event).await;
        }
        loop {
            match self.next() {
                Next::Event(event) => self.handle(event).await,
                Next::Leave(gone) => return self.leave(gone).await,
                Next::Nothing => return,
            }
        }
    }

    /// What is to be done next. Where that is nothing, nobody is busy any more.
    fn next(&self) -> Next {
        let mut state = self.state();
        if let Some(event) = state.queue.pop_front() {
            return Next::Event(event);
        }
        if let Phase::Closing(gone) = state.phase {
            state.phase = Phase::Closed;
            return Next::Leave(gone);
        }
        state.busy = false;
        Next::Nothing
    }

    /// Lets happen what `on-connect` collected for when the client knows.
    async fn settle(&self) {
        let deferred = std::mem::take(&mut self.state().deferred);
        if !deferred.is_empty() {
            commit::apply(&self.gateway.services, deferred).await;
        }
    }

    async fn handle(self: &Arc<Self>, event: Received) {
        let (name, ack) = (event.name.clone(), event.ack);
        if AssertUnwindSafe(self.dispatch(event)).catch_unwind().await.is_err() {
            self.gateway.services.metrics.handler_panics.inc();
            self.answer_refusal(&name, ack, &Refusal::internal());
        }
    }

    async fn dispatch(self: &Arc<Self>, received: Received) {
        let Received { name, args, ack } = received;
        if name == expiry::REFRESH {
            return expiry::refresh(&self.gateway, self, &args, ack).await;
        }
        let caller = self.caller.load_full();
        let found = {
            let routes = self.gateway.registry.routes();
            routes.namespace(&caller.namespace).and_then(|route| {
                let event = route.event(&name)?;
                let wants_connect = route.connect.iter().any(|slot| slot.id == event.slot.id);
                Some((event.slot.clone(), event.on_failure.clone(), wants_connect))
            })
        };
        let Some((slot, on_failure, wants_connect)) = found else {
            return self.refuse(&name, ack, &Refusal::new(Code::NotFound, "Unknown event"), "unknown");
        };
        let limit = self.gateway.limits.plugin_events;
        if let Err(wait) = limit.take(&slot.pace, &self.gateway.services.metrics) {
            return self.refuse(&name, ack, &too_many(wait), limit.name);
        }
        let span = self.gateway.services.tracer.begin(Kind::Server, "socket event");
        if let Some(span) = &span {
            span.text("hubbub.namespace", &caller.namespace);
            span.text("hubbub.event", &name);
        }
        if wants_connect && !self.has_met(&slot) {
            self.meet(&slot, span.as_ref()).await;
            self.settle().await;
        }
        let services = &self.gateway.services;
        let event = Event { id: services.ids.next(services.clock.now_ms()), name, args };
        // Nobody listening costs one load, and no look at the clock.
        let tapped = services.rooms.taps.is_on().then(Instant::now);
        let mut cpu = Duration::ZERO;
        let job = Job::Event { caller: &caller, event: &event, peer: self.ticket.peer };
        let called = call_metered(services, &slot, job, span.as_ref(), &mut cpu).await;
        self.cost(cpu);
        let result = called.map_err(|error| refusal_of(error, on_failure.as_deref()));
        if let Some(began) = tapped {
            let outcome = result.as_ref().err().map(|refusal| refusal.code);
            self.tapped(&event.name, &event.args, outcome, began.elapsed(), cpu);
        }
        match result {
            Ok(done) => {
                if let Some(ack) = ack {
                    let reply = done.reply.as_deref().unwrap_or("{}");
                    self.ack(ack, bracketed(reply));
                }
            }
            Err(refusal) => self.answer_refusal(&event.name, ack, &refusal),
        }
    }
}

/// An array around arguments. By hand: this is on every event's way, and formatting costs three times as much.
fn bracketed(inside: &str) -> String {
    let mut text = String::with_capacity(inside.len() + 2);
    text.push('[');
    text.push_str(inside);
    text.push(']');
    text
}

/// What a client is told of a call that took no effect.
fn refusal_of(error: CallError, on_failure: Option<&str>) -> Refusal {
    let sentence = |refusal: Refusal| match on_failure {
        Some(sentence) => Refusal { message: sentence.to_owned().into(), ..refusal },
        None => refusal,
    };
    match error {
        CallError::Refused(refusal) => refusal,
        CallError::Unavailable(_) => sentence(Refusal::unavailable()),
        CallError::OverQuota(passed) => too_many(passed.wait.unwrap_or_default()),
        CallError::InvalidData(_)
        | CallError::Failed(_)
        | CallError::Fault(_)
        | CallError::NotStarted(_)
        | CallError::Answer(_)
        | CallError::AlreadyHandled => sentence(Refusal::internal()),
    }
}

/// Runs a future here as far as it goes without waiting, and spawns the rest only if it waits. Spawning each event cost a third
/// of a message.
fn run(work: impl Future<Output = ()> + Send + 'static) {
    // Boxed, since the rest of it may have to move to a task.
    let mut work = Box::pin(work);
    if work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
        tokio::spawn(work);
    }
}
