//! A socket's event loop: takes queued events in order, calls their plugins, and answers.

use std::cell::Cell;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio_util::sync::ReusableBoxFuture;

use super::*;
use crate::call::error::CallError;
use crate::call::job::Job;
use crate::call::run::call_metered;
use crate::error::{Code, Refusal};
use crate::sandbox::exports::Event;
use crate::socket::admission::too_many;
use crate::telemetry::traces::Kind;
use crate::transaction::commit;

impl Session {
    /// Handles events until none waits. `busy` ensures that only one task does so.
    pub(super) async fn work(self: Arc<Self>, first: Option<Received>) {
        self.apply_deferred().await;
        if let Some(event) = first {
            self.handle(event).await;
        }
        loop {
            match self.next() {
                Next::Event(event) => self.handle(event).await,
                // Boxed, as all that few events need: each event's future has room for what is not.
                Next::Leave(cause) => return Box::pin(self.leave(cause)).await,
                Next::Nothing => return,
            }
        }
    }

    /// The next step. `busy` is cleared if there is none.
    pub(super) fn next(&self) -> Next {
        let mut state = self.state();
        if let Some(event) = state.queue.pop_front() {
            return Next::Event(event);
        }
        if let Phase::Closing(cause) = state.phase {
            state.phase = Phase::Closed;
            return Next::Leave(cause);
        }
        state.busy = false;
        Next::Nothing
    }

    /// Applies the effects of `on-connect` that waited for the answer to the CONNECT.
    async fn apply_deferred(&self) {
        let deferred = std::mem::take(&mut self.state().deferred);
        if !deferred.is_empty() {
            Box::pin(commit::apply(&self.gateway.services, deferred)).await;
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
            return Box::pin(expiry::refresh(&self.gateway, self, &args, ack)).await;
        }
        let caller = self.caller.load_full();
        let found = {
            let routes = self.gateway.registry.routes();
            routes.namespace(&caller.namespace).and_then(|route| {
                let event = route.event(&name)?;
                let wants_connect = route.connect.iter().any(|deployed| deployed.id == event.deployed.id);
                Some((event.deployed.clone(), event.on_failure.clone(), event.once.clone(), wants_connect))
            })
        };
        let Some((deployed, on_failure, once, wants_connect)) = found else {
            return self.refuse(&name, ack, &Refusal::new(Code::NotFound, "Unknown event"), "unknown");
        };
        let limit = self.gateway.limits.plugin_events;
        if let Err(wait) = limit.take(&deployed.pace, &self.gateway.services.metrics) {
            return self.refuse(&name, ack, &too_many(wait), limit.name);
        }
        let span = self.gateway.services.tracer.begin(Kind::Server, "socket event");
        if let Some(span) = &span {
            span.text("hubbub.namespace", &caller.namespace);
            span.text("hubbub.event", &name);
        }
        if wants_connect && !self.has_connected(&deployed) {
            Box::pin(self.connect_plugin(&deployed, span.as_ref())).await;
            self.apply_deferred().await;
        }
        let services = &self.gateway.services;
        let event = Event { id: services.ids.next(services.clock.now_ms()), name, args };
        // Without a tap this costs one load, and no read of the clock.
        let tapped = services.rooms.taps.is_on().then(Instant::now);
        let mut cpu = Duration::ZERO;
        let job = Job::Event { caller: &caller, event: &event, peer: self.permit.peer, once: once.as_deref() };
        let called = call_metered(services, &deployed, job, span.as_ref(), &mut cpu).await;
        self.charge_cpu(cpu);
        let result = called.map_err(|error| refusal_of(error, on_failure.as_deref()));
        if let Some(began) = tapped {
            let outcome = result.as_ref().err().map(|refusal| refusal.code);
            self.tapped(&event.name, &event.args, outcome, began.elapsed(), cpu);
        }
        match result {
            Ok(done) => {
                if let Some(ack) = ack {
                    self.ack(ack, done.reply.as_deref().unwrap_or("{}"));
                }
            }
            Err(refusal) => self.answer_refusal(&event.name, ack, &refusal),
        }
    }
}

/// An array around arguments. Built by hand: formatting costs three times as much, on every event.
pub(super) fn bracketed(inside: &str) -> String {
    let mut text = String::with_capacity(inside.len() + 2);
    text.push('[');
    text.push_str(inside);
    text.push(']');
    text
}

/// The refusal that a client receives for a failed call.
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

thread_local! {
    /// The box of this thread's last future that did not have to wait.
    static BOX: Cell<Option<ReusableBoxFuture<'static, ()>>> = const { Cell::new(None) };
}

/// Polls a future at once, and spawns it only if it has to wait. Spawning a task for each event took a third of its time. It is
/// boxed, because it may have to move to a task.
pub(super) fn run(work: impl Future<Output = ()> + Send + 'static) {
    let mut boxed = match BOX.take() {
        Some(mut boxed) => {
            boxed.set(work);
            boxed
        }
        None => ReusableBoxFuture::new(work),
    };
    if boxed.poll(&mut Context::from_waker(Waker::noop())).is_pending() {
        tokio::spawn(boxed);
    } else {
        BOX.set(Some(boxed));
    }
}
