//! One instance of a component, and its calls. An instance is unusable after a failed call: drop it.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::{ResourceLimiter, Store, Trap, UpdateDeadline};

use super::bindings::{Plugin, PluginPre};
use super::config::Config;
use super::deadline::{TICK, Ticker};
use super::exports::{Caller, Description, DisconnectReason, DueTimer, Event, Failure, Message, Refusal};
use super::v0_1;

/// The state that an instance's imports use.
pub trait Guest: Send + 'static {
    fn limiter(&mut self) -> &mut Limiter;

    /// Whether a call may continue after this much CPU time.
    fn may_use(&mut self, cpu: Duration) -> bool;
}

/// A limit of the contract, with its name in metrics and log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Limit {
    #[error("more CPU than a call may use")]
    Cpu,
    #[error("longer than a call may take")]
    Time,
    #[error("more memory than an instance may use (quota.memory)")]
    Memory,
    #[error("more stack than a call may use")]
    Stack,
    #[error("more effects than a call may make (quota.effects)")]
    Effects,
    #[error("more bytes of effects than a call may make")]
    EffectBytes,
    #[error("more imports than a call may call")]
    Imports,
}

/// Why a call ended without an answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Fault {
    #[error("it used {0}")]
    Limit(Limit),
    #[error("it trapped: {0}")]
    Trap(String),
}

/// Limits the memory of an instance.
#[derive(Debug)]
pub struct Limiter {
    memory: usize,
    /// The largest memory so far, in bytes.
    pub used: usize,
    exceeded: bool,
}

impl Limiter {
    pub fn new(memory: usize) -> Self {
        Self { memory, used: 0, exceeded: false }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.memory {
            self.exceeded = true;
            return Ok(false);
        }
        self.used = desired;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= 20_000)
    }
}

/// A version of the contract that components may be built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum World {
    V0_1,
    V0_2,
}

impl World {
    /// The newest first.
    pub const ALL: [Self; 2] = [Self::V0_2, Self::V0_1];

    pub fn version(self) -> &'static str {
        match self {
            Self::V0_1 => "0.1.0",
            Self::V0_2 => "0.2.0",
        }
    }
}

/// A component's world, before there is an instance.
pub(super) enum Pre<T: 'static> {
    V0_1(v0_1::PluginPre<T>),
    V0_2(PluginPre<T>),
}

/// An instance's exports, by its world.
enum Exports {
    V0_1(v0_1::Plugin),
    V0_2(Plugin),
}

impl<T: Guest> Pre<T> {
    /// Checks a component against the newest world that it exports.
    pub(super) fn new(pre: wasmtime::component::InstancePre<T>) -> wasmtime::Result<Self> {
        let exports = pre.component().component_type();
        let has = |world: &World| {
            let handler = format!("hubbub:plugin/handler@{}", world.version());
            exports.exports(pre.engine()).any(|(name, _)| name == handler)
        };
        match World::ALL.iter().find(|world| has(world)) {
            Some(World::V0_1) => Ok(Self::V0_1(v0_1::PluginPre::new(pre)?)),
            // A component without a handler is checked against the newest world, so that the error names the missing exports.
            Some(World::V0_2) | None => Ok(Self::V0_2(PluginPre::new(pre)?)),
        }
    }

    fn instance_pre(&self) -> &wasmtime::component::InstancePre<T> {
        match self {
            Self::V0_1(pre) => pre.instance_pre(),
            Self::V0_2(pre) => pre.instance_pre(),
        }
    }

    async fn instantiate(&self, store: &mut Store<T>) -> wasmtime::Result<Exports> {
        Ok(match self {
            Self::V0_1(pre) => Exports::V0_1(pre.instantiate_async(store).await?),
            Self::V0_2(pre) => Exports::V0_2(pre.instantiate_async(store).await?),
        })
    }
}

/// A compiled component, ready to be instantiated.
pub struct Template<T: Guest> {
    pre: Pre<T>,
    ticker: Arc<Ticker>,
    slow_lane: Arc<Semaphore>,
    config: Config,
}

impl<T: Guest> Template<T> {
    pub(super) fn new(pre: Pre<T>, ticker: Arc<Ticker>, slow_lane: Arc<Semaphore>, config: Config) -> Self {
        Self { pre, ticker, slow_lane, config }
    }

    /// Creates an instance in 30 µs. Its start code runs under the limits of a call.
    pub async fn instantiate(&self, guest: T) -> Result<Instance<T>, Fault> {
        let mut store = Store::new(self.pre.instance_pre().engine(), guest);
        store.limiter(|guest| guest.limiter());
        store.set_hostcall_fuel(self.config.transfer);
        let turn: Turn = Arc::new(Mutex::new(None));
        store.epoch_deadline_callback({
            let (lane, turn, ticker) = (self.slow_lane.clone(), turn.clone(), self.ticker.clone());
            let (mut ticks, mut yielded) = (Duration::ZERO, Duration::ZERO);
            move |mut store| {
                ticker.call_is_slow();
                ticks += TICK;
                // Staging runs calls without a meter: each tick counts in full there.
                let cpu = used().unwrap_or(ticks);
                if !store.data_mut().may_use(cpu) {
                    return Err(wasmtime::Error::from(Limit::Cpu));
                }
                // A call that mostly waited has not used up its slice, and stays out of the slow lane. The meter starts at zero
                // for each call, so a value below the last yield belongs to another call.
                if cpu >= yielded && cpu - yielded < TICK {
                    return Ok(UpdateDeadline::Continue(1));
                }
                yielded = cpu;
                turn.lock().take();
                Ok(UpdateDeadline::YieldCustom(1, Box::pin(next_turn(lane.clone(), turn.clone()))))
            }
        });
        store.set_epoch_deadline(1);
        self.ticker.call_begins();
        let exports = self.pre.instantiate(&mut store).await.map_err(|e| fault(&e, store.data_mut()))?;
        *turn.lock() = None;
        Ok(Instance { store, exports, turn, ticker: self.ticker.clone() })
    }

    /// The names of its imports, such as `hubbub:plugin/store@0.1.0`.
    pub fn imports(&self) -> Vec<String> {
        let pre = self.pre.instance_pre();
        pre.component().component_type().imports(pre.engine()).map(|(name, _)| name.to_owned()).collect()
    }

    /// The version of the contract that it was built for.
    pub fn world(&self) -> World {
        match self.pre {
            Pre::V0_1(_) => World::V0_1,
            Pre::V0_2(_) => World::V0_2,
        }
    }

    /// The most memory an instance may have.
    pub fn memory(&self) -> usize {
        self.config.memory
    }
}

/// Calls that have used a millisecond continue one at a time, so that the other threads serve the quick calls.
pub(super) const SLOW_CALLS: usize = 1;

/// A turn in the slow lane, of one millisecond.
type Turn = Arc<Mutex<Option<OwnedSemaphorePermit>>>;

/// The greatest age of a reading of the thread's CPU clock at the start of a call. A call may be charged that much of other work,
/// once. A reading is a system call, and most calls end before a second one.
const READING_AGE: Duration = Duration::from_micros(250);

/// The meter of the call that runs on this thread.
#[derive(Clone, Copy)]
struct Meter {
    /// CPU time of the call before the current poll.
    before: Duration,
    /// The thread's CPU clock at the current poll.
    began: Duration,
}

thread_local! {
    /// The last reading of this thread's CPU clock, and when it was taken.
    static READING: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
    static METER: Cell<Option<Meter>> = const { Cell::new(None) };
}

/// This thread's CPU clock, at most [`READING_AGE`] old.
fn recent_thread_time(now: Instant) -> Duration {
    if let Some((_, time)) = READING.get().filter(|(taken, _)| now.saturating_duration_since(*taken) <= READING_AGE) {
        return time;
    }
    let time = thread_time();
    READING.set(Some((now, time)));
    time
}

/// The CPU time of the call on this thread so far. None without a meter.
fn used() -> Option<Duration> {
    METER.get().map(|meter| meter.before + thread_time().saturating_sub(meter.began))
}

/// The CPU time of this thread, without that of other threads and processes.
fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Yields to other tasks, then waits for the next turn in the slow lane.
async fn next_turn(lane: Arc<Semaphore>, turn: Turn) {
    tokio::task::yield_now().await;
    // The lane is never closed.
    if let Ok(permit) = lane.acquire_owned().await {
        *turn.lock() = Some(permit);
    }
}

/// An instance. `&mut` ensures one call at a time.
pub struct Instance<T: Guest> {
    store: Store<T>,
    exports: Exports,
    turn: Turn,
    ticker: Arc<Ticker>,
}

/// Calls one export under the limits of a call: with the arguments of the newest world, or with those of 0.1.0, whose answer is
/// converted.
macro_rules! call {
    ($self:ident, $export:ident, ($($newest:expr),*), v0_1: ($($older:expr),*) $($convert:tt)*) => {{
        $self.store.set_epoch_deadline(1);
        $self.ticker.call_begins();
        let result = match &$self.exports {
            Exports::V0_2(plugin) => plugin.hubbub_plugin_handler().$export(&mut $self.store $(, $newest)*).await,
            Exports::V0_1(plugin) => plugin.hubbub_plugin_handler().$export(&mut $self.store $(, $older)*).await $($convert)*,
        };
        *$self.turn.lock() = None;
        result.map_err(|e| fault(&e, $self.store.data_mut()))
    }};
}

impl<T: Guest> Instance<T> {
    pub fn guest(&mut self) -> &mut T {
        self.store.data_mut()
    }

    pub async fn describe(&mut self) -> Result<Description, Fault> {
        call!(self, call_describe, (), v0_1: ().map(Into::into))
    }

    pub async fn init(&mut self, config: &String) -> Result<Result<(), String>, Fault> {
        call!(self, call_init, (config), v0_1: (config))
    }

    pub async fn authorize(&mut self, caller: &Caller, auth: &String) -> Result<Result<(), Refusal>, Fault> {
        call!(self, call_authorize, (caller, auth), v0_1: (caller, auth))
    }

    pub async fn on_connect(&mut self, caller: &Caller) -> Result<Result<(), Failure>, Fault> {
        call!(self, call_on_connect, (caller), v0_1: (caller).map(|answer| answer.map_err(Into::into)))
    }

    pub async fn on_event(&mut self, caller: &Caller, event: &Event) -> Result<Result<Option<String>, Refusal>, Fault> {
        call!(self, call_on_event, (caller, event), v0_1: (caller, &event.clone().into()))
    }

    pub async fn on_disconnect(&mut self, caller: &Caller, reason: DisconnectReason) -> Result<(), Fault> {
        call!(self, call_on_disconnect, (caller, reason), v0_1: (caller, reason.into()))
    }

    pub async fn on_message(&mut self, message: &Message) -> Result<Result<(), Failure>, Fault> {
        call!(self, call_on_message, (message), v0_1: (&message.clone().into()).map(|answer| answer.map_err(Into::into)))
    }

    pub async fn on_timer(&mut self, timer: &DueTimer) -> Result<Result<(), Failure>, Fault> {
        call!(self, call_on_timer, (timer), v0_1: (&timer.clone().into()).map(|answer| answer.map_err(Into::into)))
    }
}

fn fault<T: Guest>(error: &wasmtime::Error, guest: &mut T) -> Fault {
    if let Some(limit) = error.downcast_ref::<Limit>() {
        return Fault::Limit(*limit);
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => Fault::Limit(Limit::Stack),
        // A refused growth ends in the guest's abort, or in a failed instantiation.
        _ if guest.limiter().exceeded => Fault::Limit(Limit::Memory),
        Some(trap) => Fault::Trap(trap.to_string()),
        None => Fault::Trap(format!("{:#}", error)),
    }
}

/// Runs a call and measures its CPU time, without waits and without other threads and processes. Costs 50 ns for a short call
/// that does not wait.
pub async fn metered<F: Future>(mut call: Pin<&mut F>) -> (F::Output, Duration) {
    let (mut cpu, mut waited) = (Duration::ZERO, false);
    let answer = std::future::poll_fn(|cx| {
        let now = Instant::now();
        // A call that has waited may wait many more times: an old reading would be charged each time.
        let began = if waited { thread_time() } else { recent_thread_time(now) };
        METER.set(Some(Meter { before: cpu, began }));
        let polled = call.as_mut().poll(cx);
        METER.set(None);
        waited = polled.is_pending();
        let elapsed = now.elapsed();
        cpu += if waited || elapsed > READING_AGE { elapsed.min(thread_time().saturating_sub(began)) } else { elapsed };
        polled
    });
    let answer = answer.await;
    (answer, cpu)
}

/// Limits the time of a call, including its waits for storage. The timer starts only if the first poll does not finish the call.
pub async fn within<F: Future<Output = Result<R, Fault>>, R>(limit: Duration, mut call: Pin<&mut F>) -> Result<R, Fault> {
    if let std::task::Poll::Ready(done) = std::future::poll_fn(|cx| std::task::Poll::Ready(call.as_mut().poll(cx))).await {
        return done;
    }
    tokio::time::timeout(limit, call).await.unwrap_or(Err(Fault::Limit(Limit::Time)))
}
