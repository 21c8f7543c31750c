//! The warm instances of one release. A lease has its instance alone; a lease that is dropped without being returned discards it.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Notify;

use crate::budgets::quota::{Kind, Passed};
use crate::sandbox::{Fault, Instance, Template, metered};
use crate::transaction::profile::{Profile, TENANT_PATH, Tenancy};
use crate::transaction::services::Services;
use crate::transaction::state::State;

/// `[pool]`: calls of one plugin at the same time, on this node.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Calls that run at the same time, each in an instance of its own. Past it calls wait. Metric: `plugin_pool_waits`.
    pub instances: usize,
    /// Calls that may wait for an instance. Past it a call is refused with `unavailable`.
    pub queue: usize,
    /// How long a call waits for an instance. Past it the call is refused with `unavailable`.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub wait: Duration,
    /// Whether instances are replaced all the time (up to 200 a second), so that a plugin with state in its instances shows
    /// itself. `hubbub dev` sets it.
    pub rotate: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { instances: 64, queue: 1024, wait: Duration::from_secs(1), rotate: false }
    }
}

/// Memory up to which an instance is kept for the next call, in bytes.
const MAX_KEPT_MEMORY: usize = 4 << 20;

/// The shortest time between two instances that `rotate` replaces.
const ROTATE_EVERY: Duration = Duration::from_millis(5);

/// Why no instance could be leased.
#[derive(Debug, thiserror::Error)]
pub enum NoInstance {
    #[error("all instances were busy for too long")]
    Busy,
    #[error(transparent)]
    OutOfCpu(Passed),
    #[error("a fresh instance failed: {0}")]
    Fault(#[from] Fault),
    #[error("a fresh instance refused its configuration: {0}")]
    Init(String),
}

#[derive(Default)]
struct Instances {
    idle: Vec<Instance<State>>,
    leased: usize,
}

/// The instances of one release.
pub struct Pool {
    template: Template<State>,
    services: Arc<Services>,
    profile: Arc<Profile>,
    /// The argument of `init`.
    init: String,
    config: Config,
    /// The most instances at a time.
    most: usize,
    instances: Mutex<Instances>,
    waiting: AtomicUsize,
    freed: Notify,
    /// The time at which `rotate` last replaced an instance.
    rotated: Mutex<Instant>,
}

impl Pool {
    pub fn new(template: Template<State>, services: Arc<Services>, profile: Arc<Profile>, config: Config) -> Arc<Self> {
        let mut init = (*profile.config).clone();
        if profile.tenancy != Tenancy::None {
            // A setting of the host: a plugin without settings would refuse it.
            init.remove(TENANT_PATH);
        }
        let init = serde_json::Value::Object(init).to_string();
        let most = config.instances.min(profile.usage.quota.instances);
        Arc::new(Self {
            most,
            template,
            services,
            profile,
            init,
            config,
            instances: Mutex::default(),
            waiting: AtomicUsize::new(0),
            freed: Notify::new(),
            rotated: Mutex::new(Instant::now()),
        })
    }

    fn instances(&self) -> MutexGuard<'_, Instances> {
        // Instances are only moved under the lock: a panic leaves no partial state.
        self.instances.lock()
    }

    /// Leases an instance, a warm one if possible.
    pub async fn lease(self: &Arc<Self>) -> Result<Lease, NoInstance> {
        if let Some(tired) = self.profile.usage.cpu_wait() {
            Box::pin(self.wait_for_cpu(tired)).await?;
        }
        self.lease_now().await
    }

    /// Starts the first instance of a staged release, even if the previous release has used up the plugin's CPU.
    pub async fn warm(self: &Arc<Self>) -> Result<(), NoInstance> {
        self.lease_now().await.map(Lease::give_back)
    }

    async fn lease_now(self: &Arc<Self>) -> Result<Lease, NoInstance> {
        let mut lease = match self.take() {
            Some(lease) => lease,
            // Boxed, as the start of an instance: each call's future has room for what is not.
            None => Box::pin(self.wait()).await?,
        };
        if lease.instance.is_none() {
            lease.instance = Some(Box::pin(self.fresh()).await?);
        }
        Ok(lease)
    }

    /// Waits until the plugin, which has to wait for `tired`, has CPU time again. A wait longer than the limit is refused at once.
    async fn wait_for_cpu(&self, mut tired: Duration) -> Result<(), NoInstance> {
        let usage = &self.profile.usage;
        usage.passed(Kind::Cpu);
        let waiting = Waiting::begin(&self.waiting);
        let until = Instant::now() + self.config.wait;
        while waiting.before < self.config.queue && Instant::now() + tired <= until {
            tokio::time::sleep(tired).await;
            match usage.cpu_wait() {
                Some(still) => tired = still,
                None => return Ok(()),
            }
        }
        Err(NoInstance::OutOfCpu(Passed { quota: Kind::Cpu, wait: Some(tired) }))
    }

    /// A place, with an instance if one is warm. None: all are leased.
    fn take(self: &Arc<Self>) -> Option<Lease> {
        let mut instances = self.instances();
        if instances.leased >= self.most {
            return None;
        }
        instances.leased += 1;
        Some(Lease { pool: self.clone(), instance: instances.idle.pop(), ended: false })
    }

    async fn wait(self: &Arc<Self>) -> Result<Lease, NoInstance> {
        self.profile.metrics.pool_waits.inc();
        self.profile.usage.passed(Kind::Instances);
        let waiting = Waiting::begin(&self.waiting);
        if waiting.before >= self.config.queue {
            return Err(NoInstance::Busy);
        }
        let freed = async {
            loop {
                // Created before the check, so that an instance that is returned in between is not missed.
                let freed = self.freed.notified();
                if let Some(lease) = self.take() {
                    return lease;
                }
                freed.await;
            }
        };
        tokio::time::timeout(self.config.wait, freed).await.map_err(|_| NoInstance::Busy)
    }

    /// A new instance.
    async fn fresh(&self) -> Result<Instance<State>, NoInstance> {
        self.profile.metrics.fresh_instances.inc();
        let memory = self.template.memory().min(self.profile.usage.quota.memory);
        // A plugin that needs a new instance at each call pays for its start.
        let (made, cpu) = metered(pin!(self.start(self.services.clone(), memory))).await;
        self.profile.usage.spent_cpu(cpu);
        made
    }

    /// An instance outside the pool, with the given services.
    pub async fn apart(&self, services: Arc<Services>) -> Result<Instance<State>, NoInstance> {
        self.start(services, self.template.memory()).await
    }

    async fn start(&self, services: Arc<Services>, memory: usize) -> Result<Instance<State>, NoInstance> {
        let now_ms = services.clock.now_ms();
        let mut state = State::new(services, self.profile.clone(), memory);
        state.call.now_ms = now_ms;
        let mut instance = self.template.instantiate(state).await?;
        instance.init(&self.init).await?.map_err(NoInstance::Init)?;
        Ok(instance)
    }

    /// Whether a returned instance is discarded. Under load most are kept: a new one costs as much as 30 calls.
    fn must_rotate(&self) -> bool {
        if !self.config.rotate {
            return false;
        }
        let mut rotated = self.rotated.lock();
        let is_due = rotated.elapsed() >= ROTATE_EVERY;
        if is_due {
            *rotated = Instant::now();
        }
        is_due
    }

    /// Idle instances, and the bytes of their memories.
    pub fn idle(&self) -> (usize, usize) {
        let mut instances = self.instances();
        let bytes = instances.idle.iter_mut().map(|instance| instance.guest().memory_used()).sum();
        (instances.idle.len(), bytes)
    }

    /// Calls that have an instance.
    pub fn running(&self) -> usize {
        self.instances().leased
    }

    /// Calls that wait for an instance.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// All instances, leased or idle.
    pub fn instances_now(&self) -> usize {
        let instances = self.instances();
        instances.idle.len() + instances.leased
    }

    /// Calls that run or wait for an instance.
    pub fn busy(&self) -> usize {
        self.running() + self.waiting()
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

/// An instance for one call. A drop without `give_back` discards the instance, so that a trap, a panic or a cancelled call never
/// leaves a used one in the pool.
pub struct Lease {
    pool: Arc<Pool>,
    instance: Option<Instance<State>>,
    ended: bool,
}

impl Lease {
    #[expect(clippy::expect_used, reason = "only `lease` makes one without, and fills it before it returns the lease")]
    pub fn instance(&mut self) -> &mut Instance<State> {
        self.instance.as_mut().expect("a lease has an instance")
    }

    /// Returns the instance after a call that ended normally.
    pub fn give_back(mut self) {
        let used = self.instance().guest().memory_used();
        self.pool.profile.usage.note_memory(used);
        if used > MAX_KEPT_MEMORY || self.pool.must_rotate() {
            self.instance = None;
        }
        self.end();
    }

    /// Frees the place, and keeps the instance for the next call.
    fn end(&mut self) {
        let instance = self.instance.take();
        let mut instances = self.pool.instances();
        instances.idle.extend(instance);
        instances.leased -= 1;
        drop(instances);
        if self.pool.waiting.load(Ordering::Acquire) > 0 {
            self.pool.freed.notify_one();
        }
        self.ended = true;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.ended {
            // The instance first: its memory must be free before another one starts.
            self.instance = None;
            self.end();
        }
    }
}
