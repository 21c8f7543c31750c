//! The epoch ticker: one thread that allows running calls to be interrupted every millisecond. It ticks while there are calls and
//! sleeps otherwise, so that an idle server uses no CPU.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use wasmtime::Engine;

/// The length of an epoch while a call is slow.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// The length of an epoch while no call is slow, and so the longest first slice of a slow call. A thousand ticks a second cost 3
/// % of a core.
const QUIET_TICK: Duration = Duration::from_millis(4);

/// Ticks without a slow call after which epochs are longer.
const QUIET_AFTER: u32 = 100;

/// Ticks without a new call after which the thread sleeps: 10 s or more, twice the longest call, so that every call that may loop
/// has ticks.
const SLEEP_AFTER: u32 = 10_000;

/// Stops its thread on drop.
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// A call has begun since the last tick. Written only if false, so that successive calls only read the cache line.
    call_began: AtomicBool,
    /// A call was running at a tick.
    slow: AtomicBool,
    sleeping: AtomicBool,
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

    /// Called when a call begins.
    pub(super) fn call_begins(&self) {
        if !self.shared.call_began.load(Ordering::SeqCst) {
            self.shared.call_began.store(true, Ordering::SeqCst);
        }
        if self.shared.sleeping.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Called when a call has lasted until a tick.
    pub(super) fn call_is_slow(&self) {
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
            // The panic hook has already reported a panic of the thread.
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
            idle = if self.call_began.swap(false, Ordering::SeqCst) { 0 } else { idle + 1 };
            if idle >= SLEEP_AFTER {
                self.sleep();
                idle = 0;
            }
        }
    }

    /// Sleeps until the next call. A call that begins between the two checks sets `call_began` before it reads `sleeping`.
    fn sleep(&self) {
        self.sleeping.store(true, Ordering::SeqCst);
        while !self.call_began.load(Ordering::SeqCst) && !self.ended.load(Ordering::Acquire) {
            thread::park();
        }
        self.sleeping.store(false, Ordering::SeqCst);
    }
}
