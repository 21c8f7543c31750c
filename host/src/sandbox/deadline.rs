//! The epoch's tick: one thread that lets a running call be interrupted every millisecond. It never sleeps on while calls run,
//! and rests while none do, so that an idle server uses no CPU.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use wasmtime::Engine;

/// One epoch.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// Ticks without a new call after which the thread rests.
const REST_AFTER: u32 = 100;

/// Ends with its thread when dropped.
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

struct Shared {
    /// Calls begun; the thread looks whether it moves.
    begun: AtomicU64,
    /// Calls that run now.
    running: AtomicU64,
    resting: AtomicBool,
    ended: AtomicBool,
}

impl Ticker {
    pub(super) fn start(engine: Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            begun: AtomicU64::new(0),
            running: AtomicU64::new(0),
            resting: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let thread = thread::Builder::new().name("epoch".into()).spawn({
            let shared = shared.clone();
            move || shared.run(&engine)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Says that a call runs, for as long as the answer lives. Costs two atomic additions.
    pub(super) fn running(&self) -> Running {
        self.shared.running.fetch_add(1, Ordering::AcqRel);
        self.shared.begun.fetch_add(1, Ordering::AcqRel);
        // Swapped only where it is set, so that calls in a row do not fight for the cache line.
        if self.shared.resting.load(Ordering::Acquire) && self.shared.resting.swap(false, Ordering::AcqRel) {
            self.wake();
        }
        Running(self.shared.clone())
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

/// A call that runs.
pub(super) struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Shared {
    fn run(&self, engine: &Engine) {
        let (mut seen, mut idle) = (0, 0);
        while !self.ended.load(Ordering::Acquire) {
            thread::park_timeout(TICK);
            engine.increment_epoch();
            let begun = self.begun.load(Ordering::Acquire);
            idle = if begun == seen && self.running.load(Ordering::Acquire) == 0 { idle + 1 } else { 0 };
            seen = begun;
            if idle >= REST_AFTER {
                self.rest(seen);
                idle = 0;
            }
        }
    }

    /// Sleeps until the next call. A call that begins between the two looks finds `resting` set and wakes us.
    fn rest(&self, seen: u64) {
        self.resting.store(true, Ordering::Release);
        while self.resting.load(Ordering::Acquire) && !self.ended.load(Ordering::Acquire) {
            if self.begun.load(Ordering::Acquire) != seen {
                self.resting.store(false, Ordering::Release);
                break;
            }
            thread::park();
        }
    }
}
