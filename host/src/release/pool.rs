//! The warm instances of one release. Who leases one has it alone; who does not give it back, for whatever reason, has thrown it
//! away.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::capability::profile::Profile;
use crate::capability::state::{Services, State};
use crate::sandbox::{Fault, Instance, Template};

/// `[pool]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Calls of one plugin at a time on this node, each in an instance of its own. Default 64.
    pub instances: usize,
    /// Calls that may wait for an instance. Past it a call is refused at once. Default 1024.
    pub queue: usize,
    /// How long a call waits for an instance. Default 1 s.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    pub wait: Duration,
    /// A fresh instance for each call (at most 200 a second), so that a plugin which keeps state in itself is found out. `hubbub dev`
    /// sets it. Default false.
    pub rotate: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { instances: 64, queue: 1024, wait: Duration::from_secs(1), rotate: false }
    }
}

/// Bytes of memory up to which an instance is kept for the next call.
const KEPT_MEMORY: usize = 4 << 20;

/// The shortest time between two instances that are replaced for the sake of it.
const ROTATE_EVERY: Duration = Duration::from_millis(5);

/// Why there is no instance.
#[derive(Debug, thiserror::Error)]
pub enum NoInstance {
    #[error("all instances were busy for too long")]
    Busy,
    #[error("a fresh instance failed: {0}")]
    Fault(#[from] Fault),
    #[error("a fresh instance refused its configuration: {0}")]
    Init(String),
}

/// The instances of one release.
pub struct Pool {
    template: Template<State>,
    services: Arc<Services>,
    profile: Arc<Profile>,
    /// What `init` is called with.
    init: String,
    config: Config,
    idle: Mutex<Vec<Instance<State>>>,
    permits: Semaphore,
    waiting: AtomicUsize,
    /// When an instance was last replaced for the sake of it.
    rotated: Mutex<Instant>,
}

impl Pool {
    pub fn new(template: Template<State>, services: Arc<Services>, profile: Arc<Profile>, config: Config) -> Arc<Self> {
        let init = serde_json::Value::Object((*profile.config).clone()).to_string();
        let permits = Semaphore::new(config.instances);
        Arc::new(Self {
            template,
            services,
            profile,
            init,
            config,
            idle: Mutex::default(),
            permits,
            waiting: AtomicUsize::new(0),
            rotated: Mutex::new(Instant::now()),
        })
    }

    /// An instance, warm where there is one.
    pub async fn lease(self: &Arc<Self>) -> Result<Lease, NoInstance> {
        match self.permits.try_acquire() {
            Ok(permit) => permit.forget(),
            Err(_) => self.wait().await?,
        }
        // From here on the permit is the lease's: dropping it gives it back.
        let mut lease = Lease { pool: self.clone(), instance: None };
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        lease.instance = Some(match idle {
            Some(instance) => instance,
            None => self.fresh().await?,
        });
        Ok(lease)
    }

    async fn wait(&self) -> Result<(), NoInstance> {
        self.profile.metrics.pool_waits.inc();
        let waiting = Waiting::begin(&self.waiting);
        if waiting.before >= self.config.queue {
            return Err(NoInstance::Busy);
        }
        match tokio::time::timeout(self.config.wait, self.permits.acquire()).await {
            Ok(Ok(permit)) => {
                permit.forget();
                Ok(())
            }
            _ => Err(NoInstance::Busy),
        }
    }

    /// An instance that has served nothing yet.
    async fn fresh(&self) -> Result<Instance<State>, NoInstance> {
        self.profile.metrics.fresh_instances.inc();
        let mut state = State::new(self.services.clone(), self.profile.clone(), self.template.memory());
        state.call.now_ms = self.services.clock.now_ms();
        let mut instance = self.template.instantiate(state).await?;
        instance.init(&self.init).await?.map_err(NoInstance::Init)?;
        Ok(instance)
    }

    /// Whether an instance that has served is thrown away. Under load most are kept: a fresh one costs 30 calls.
    fn is_to_rotate(&self) -> bool {
        if !self.config.rotate {
            return false;
        }
        let mut rotated = self.rotated.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = rotated.elapsed() >= ROTATE_EVERY;
        if is_due {
            *rotated = Instant::now();
        }
        is_due
    }

    /// Calls that run or wait for an instance.
    pub fn busy(&self) -> usize {
        self.config.instances - self.permits.available_permits() + self.waiting.load(Ordering::Relaxed)
    }
}

struct Waiting<'a> {
    count: &'a AtomicUsize,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        Self { count, before: count.fetch_add(1, Ordering::AcqRel) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::AcqRel);
    }
}

/// An instance for one call. Dropped without `give_back`, the instance is gone: so a trap, a panic or a call that was given up
/// never leaves a half-used one behind.
pub struct Lease {
    pool: Arc<Pool>,
    instance: Option<Instance<State>>,
}

impl Lease {
    #[expect(clippy::expect_used, reason = "only `lease` makes one without, and fills it before anyone sees it")]
    pub fn instance(&mut self) -> &mut Instance<State> {
        self.instance.as_mut().expect("a lease has an instance")
    }

    /// The call has ended well.
    pub fn give_back(mut self) {
        let Some(mut instance) = self.instance.take() else { return };
        if !self.pool.is_to_rotate() && instance.guest().memory_used() <= KEPT_MEMORY {
            self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(instance);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // The instance first: its memory is free before another may be made.
        self.instance = None;
        self.pool.permits.add_permits(1);
    }
}
