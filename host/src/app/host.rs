//! The parts of the server below its sockets: storage, the cluster, the services of a call, the registry and the deployments.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::in_use::open_within;
use super::metrics;
use crate::budgets::buckets::Budgets;
use crate::budgets::quota::Quotas;
use crate::budgets::shares::Shares;
use crate::bus::Bus;
use crate::call::registry::Registry;
use crate::clock::Clock;
use crate::cluster::{self, Cluster};
use crate::config::Config;
use crate::deploy::checks::doors::Doors;
use crate::deploy::checks::grants::Grants;
use crate::deploy::checks::signature::Signers;
use crate::deploy::checks::versions::LeastVersions;
use crate::deploy::gauges;
use crate::deploy::release_cache::ReleaseCache;
use crate::deploy::releases::Releases;
use crate::deploy::stage::Stage;
use crate::names::{self, IdSource};
use crate::presence::Presences;
use crate::recovery::log::Log;
use crate::rooms::Rooms;
use crate::rooms::peers::Peers;
use crate::sandbox::{CacheKey, Sandbox};
use crate::storage::{Embedded, NoStorage, OpenError, Postgres, Storage};
use crate::telemetry::Metrics;
use crate::telemetry::collected::register_releases;
use crate::telemetry::traces::{self, Tracer};
use crate::timers::Timers;
use crate::transaction::onces::Onces;
use crate::transaction::services::Services;

/// The parts below the sockets.
pub(super) struct Host {
    pub(super) services: Arc<Services>,
    pub(super) registry: Arc<Registry>,
    pub(super) releases: Arc<Releases>,
    pub(super) bus: Arc<Bus>,
    pub(super) exports: Option<traces::Exports>,
    pub(super) queues: Option<cluster::Queues>,
}

impl Host {
    /// Opens storage, connects to the cluster and starts the engine.
    pub(super) async fn build(config: &Config) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new());
        let mut sandbox = config.sandbox.clone();
        if sandbox.cache.as_os_str().is_empty() {
            sandbox.cache = config.server.data.join("cache");
        }
        let sandbox = Arc::new(Sandbox::new(sandbox, cache_key(&config.server.data)?)?);
        let storage = storage(config).await.context("storage")?;
        let (tracer, exports) = Tracer::new(&config.traces, &metrics)?;
        let node = names::node_name().context("the operating system gives no randomness")?;
        let recovery =
            (!config.recovery.window.is_zero()).then(|| cluster::Recovery { keep: keep(config), bytes: config.recovery.bytes });
        let (cluster, queues) =
            Cluster::build(&config.redis, &config.bridge, node, config.presence.lease, recovery).context("the cluster")?.unzip();
        let peers = cluster.as_ref().map(|cluster| cluster.peers.clone());
        let rooms = Rooms::new(config.gateway.socket_rooms, peers.clone().map(|peers| peers as Arc<dyn Peers>), log(config)?);
        let services = services(config, storage, rooms, cluster, metrics.clone(), tracer)?;
        metrics::register(&metrics, services.storage.clone(), services.rooms.clone(), peers);
        let registry = Registry::new();
        // A weak reference: the registry's releases refer to the metrics.
        let weak = Arc::downgrade(&registry);
        let gauges = move || weak.upgrade().map(|registry| gauges::read(&registry)).unwrap_or_default();
        metrics.extend(|releases| register_releases(releases, gauges));
        let stage = Arc::new(stage(config, sandbox, services.clone()));
        let releases = Arc::new(releases(config, stage, &services, registry.clone())?);
        let bus = Bus::new(config.bus.clone(), services.clone(), registry.clone());
        Ok(Self { services, registry, releases, bus, exports, queues })
    }
}

/// How long events are kept: a lost connection is noticed at the end of a ping's timeout, and the window begins then.
fn keep(config: &Config) -> Duration {
    config.recovery.window + config.gateway.ping_interval + config.gateway.ping_timeout
}

/// The log of what clients may have missed.
fn log(config: &Config) -> anyhow::Result<Arc<Log>> {
    let mut id = [0; 8];
    getrandom::fill(&mut id).context("the operating system gives no randomness")?;
    Ok(Arc::new(Log::new(u64::from_ne_bytes(id), keep(config), config.recovery.bytes, Clock::system())))
}

fn releases(config: &Config, stage: Arc<Stage>, services: &Services, registry: Arc<Registry>) -> anyhow::Result<Releases> {
    Ok(Releases {
        stage,
        registry,
        storage: services.storage.clone(),
        clock: services.clock.clone(),
        config: config.canary.clone(),
        recording: config.record.clone(),
        signers: Signers::load(&config.signature)?,
        plugins: config.plugins.iter().map(|(name, plugin)| (name.clone(), plugin.config.clone())).collect(),
        locks: Default::default(),
        turn: tokio::sync::Mutex::default(),
        cluster: services.cluster.clone(),
        prepared: ReleaseCache::default(),
        warm: ReleaseCache::default(),
    })
}

/// The key that compiled components are authenticated with.
fn cache_key(data: &Path) -> anyhow::Result<CacheKey> {
    CacheKey::of_folder(data).or_else(|error| {
        tracing::warn!(data = %data.display(), "cannot hold a key (server.data): components are compiled anew at the next start: {error}");
        CacheKey::passing().context("the operating system gives no randomness")
    })
}

/// Opens the configured database.
async fn storage(config: &Config) -> anyhow::Result<Arc<dyn Storage>> {
    Ok(match &config.storage.url {
        Some(url) => Arc::new(Postgres::open(url, &config.storage, Clock::system()).await?),
        None => {
            let open = async || Embedded::open(&config.server.data, &config.storage, Clock::system());
            let is_in_use = |error: &OpenError| matches!(error, OpenError::InUse(_));
            Arc::new(open_within(config.server.in_use_timeout, is_in_use, open).await?)
        }
    })
}

/// A stage that only describes components: without keys, storage or a cluster.
pub fn offline_stage(config: &Config) -> anyhow::Result<Stage> {
    let (rooms, metrics) = (Rooms::new(0, None, Log::off()), Arc::new(Metrics::new()));
    let services = services(config, Arc::new(NoStorage), rooms, None, metrics, Tracer::default())?;
    let key = CacheKey::passing().context("the operating system gives no randomness")?;
    let sandbox = Arc::new(Sandbox::new(config.sandbox.clone(), key)?);
    Ok(stage(config, sandbox, services))
}

pub(super) fn stage(config: &Config, sandbox: Arc<Sandbox>, services: Arc<Services>) -> Stage {
    let grants = config.plugins.iter().filter_map(|(name, plugin)| Some((name.clone(), plugin.grants.clone()?)));
    let doors = config.plugins.iter().map(|(name, plugin)| (name.clone(), plugin.doors.clone()));
    let (pool, breaker) = (config.pool.clone(), config.breaker.clone());
    let (grants, doors) = (Grants::new(grants.collect()), Doors::new(doors.collect()));
    let least = config.plugins.iter().filter_map(|(name, plugin)| Some((name.clone(), plugin.min_version.clone()?)));
    Stage { sandbox, services, pool, breaker, grants, doors, versions: LeastVersions::new(least.collect()) }
}

fn services(
    config: &Config,
    storage: Arc<dyn Storage>,
    rooms: Arc<Rooms>,
    cluster: Option<Arc<Cluster>>,
    metrics: Arc<Metrics>,
    tracer: Tracer,
) -> anyhow::Result<Arc<Services>> {
    Ok(Arc::new(Services {
        // Messages of other nodes wake the same tasks as those of this node.
        published: storage.published().unwrap_or_default(),
        storage,
        rooms,
        cluster,
        presences: Presences::new(config.presence.clone()),
        budgets: Budgets::default(),
        timers: Timers::new(config.timers.clone()),
        clock: Clock::system(),
        ids: IdSource::new().context("the operating system gives no randomness")?,
        metrics,
        tracer,
        limits: config.limits.clone(),
        shares: Shares::new(config.shares),
        onces: Onces::new(config.once.clone()),
        default_tenant: config.auth.default_tenant.as_deref().map(Into::into),
        quotas: Quotas::new(config.quota, config.plugins.iter().map(|(name, plugin)| (name.clone(), plugin.quota)).collect())?,
    }))
}
