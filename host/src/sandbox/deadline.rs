//! The epoch's tick: one thread that lets a running call be interrupted every millisecond. It never sleeps on while calls run,
//! and rests while none do, so that an idle server uses no CPU.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use wasmtime::Engine;

/// One epoch while some call is slow.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// One epoch while none is: the first slice of a call that turns out to be slow may last so long. A thousand ticks a second cost 3 %
/// of a core.
const QUIET_TICK: Duration = Duration::from_millis(4);

/// Ticks without a slow call after which the quiet begins.
const QUIET_AFTER: u32 = 100;

/// Ticks without a new call after which the thread rests: 10 s or more, twice as long as any call may last. So none that could
/// still loop is left without ticks.
const REST_AFTER: u32 = 10_000;

/// Ends with its thread when dropped.
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// A call has begun since the last tick. Set only where it is not: calls in a row only read it, and fight for no cache line.
    stirred: AtomicBool,
    /// A call was found running at a tick.
    slow: AtomicBool,
    resting: AtomicBool,
    ended: AtomicBool,
}

impl Ticker {
    pub(super) fn start(engine: Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = thread::Builder::new().name("epoch".into()).spawn({
            let shared = shared.clone();
            move || shared.run(&engine)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Says that a call begins.
    pub(super) fn stir(&self) {
        if !self.shared.stirred.load(Ordering::SeqCst) {
            self.shared.stirred.store(true, Ordering::SeqCst);
        }
        if self.shared.resting.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Says that a call has lasted until a tick.
    pub(super) fn slow(&self) {
        self.shared.slow.store(true, Ordering::SeqCst);
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been reported by the panic hook already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, engine: &Engine) {
        let (mut idle, mut quiet) = (0, 0);
        while !self.ended.load(Ordering::Acquire) {
            thread::park_timeout(if quiet >= QUIET_AFTER { QUIET_TICK } else { TICK });
            engine.increment_epoch();
            quiet = if self.slow.swap(false, Ordering::SeqCst) { 0 } else { (quiet + 1).min(QUIET_AFTER) };
            idle = if self.stirred.swap(false, Ordering::SeqCst) { 0 } else { idle + 1 };
            if idle >= REST_AFTER {
                self.rest();
                idle = 0;
            }
        }
    }

    /// Sleeps until the next call. One that begins between the two looks has set `stirred` before it could read `resting`.
    fn rest(&self) {
        self.resting.store(true, Ordering::SeqCst);
        while !self.stirred.load(Ordering::SeqCst) && !self.ended.load(Ordering::Acquire) {
            thread::park();
        }
        self.resting.store(false, Ordering::SeqCst);
    }
}
