//! The server as a value: built without binding a port, then run until it is stopped. It only wires the parts together.

pub(crate) mod metrics;
mod ports;
mod surfaces;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::admin::{self, Admin, Outsides, status, taps, watchers};
use crate::auth::keyring;
use crate::auth::keyring::Keyring;
use crate::auth::logins::Logins;
use crate::budgets::buckets::Budgets;
use crate::budgets::quota::Quotas;
use crate::budgets::shares::Shares;
use crate::bus::Bus;
use crate::bus::egress::Egress;
use crate::bus::ingest::Sources;
use crate::bus::notices::{self, Notices};
use crate::call::registry::Registry;
use crate::call::timers::Timing;
use crate::clock::Clock;
use crate::cluster::{self, Cluster, heartbeat};
use crate::config::{Config, Mode};
use crate::deploy::checks::doors::Doors;
use crate::deploy::checks::grants::Grants;
use crate::deploy::checks::signature::Signers;
use crate::deploy::checks::versions::LeastVersions;
use crate::deploy::gauges;
use crate::deploy::release_cache::ReleaseCache;
use crate::deploy::releases::Releases;
use crate::deploy::stage::Stage;
use crate::descriptors::Descriptors;
use crate::names::{self, IdSource, PluginName};
use crate::presence::Presences;
use crate::rooms::Rooms;
use crate::rooms::peers::Peers;
use crate::rooms::tap::Payloads;
use crate::sandbox::{CacheKey, Sandbox};
use crate::server::accept::Acceptor;
use crate::server::origin::Origins;
use crate::server::{api, demo, docs, web};
use crate::socket::admission::Limits;
use crate::socket::sockets::Sockets;
use crate::socket::{self, Gateway, drain};
use crate::storage::{Embedded, NoStorage, Postgres, Storage};
use crate::telemetry::Metrics;
use crate::telemetry::collected::register_releases;
use crate::telemetry::traces::{self, Tracer};
use crate::timers::Timers;
use crate::transaction::services::Services;

pub use ports::{PortError, Ports};
use surfaces::{Names, Routes, Surfaces};

/// The most slow consumers that wait to be disconnected.
const FULL_QUEUE: usize = 1024;

/// How long a stop waits for the last traces to be exported.
const LAST_TRACES: Duration = Duration::from_secs(2);

/// The writer of messages that come from no plugin.
const HOST: &str = "host";

/// The whole server except its ports.
pub struct App {
    pub config: Config,
    pub gateway: Arc<Gateway>,
    pub releases: Arc<Releases>,
    mode: Mode,
    descriptors: Descriptors,
    names: Names,
    origins: Origins,
    bus: Arc<Bus>,
    exports: Option<traces::Exports>,
    ends: socket::Ends,
    queues: Option<cluster::Queues>,
    writer: PluginName,
    sources: Sources,
    egress: Egress,
}

impl App {
    /// Opens storage, loads keys and creates the sandbox. It fails before a port is bound.
    pub async fn build(mut config: Config, mode: Mode) -> anyhow::Result<Self> {
        config.limits.check()?;
        config.breaker.check()?;
        config.shutdown.check()?;
        let metrics = Arc::new(Metrics::new());
        let descriptors = Descriptors::raised(config.admission.descriptors_reserved);
        let keyring = Keyring::load(&config.auth, mode == Mode::Dev).context("auth")?;
        if mode == Mode::Serve {
            config.auth.warn_of_weak_secrets();
        }
        let origins = Origins::load(&config.cors)?;
        let names = Names::load(&config)?;
        if config.sandbox.cache.as_os_str().is_empty() {
            config.sandbox.cache = config.server.data.join("cache");
        }
        let sandbox = Arc::new(Sandbox::new(config.sandbox.clone(), cache_key(&config.server.data)?)?);
        let storage = storage(&config).await.context("storage")?;
        let (tracer, exports) = Tracer::new(&config.traces, &metrics)?;
        let (report, full) = mpsc::channel(FULL_QUEUE);
        let (polling_ends, polling) = mpsc::channel(drain::POLLING_ENDS);
        let node = names::node_name().context("the operating system gives no randomness")?;
        let (cluster, queues) =
            Cluster::build(&config.redis, &config.bridge, node, config.presence.lease).context("the cluster")?.unzip();
        let peers = cluster.as_ref().map(|cluster| cluster.peers.clone() as Arc<dyn Peers>);
        let rooms = Rooms::new(report, config.gateway.socket_rooms, peers);
        let services = services(&config, storage, rooms, cluster, metrics.clone(), tracer)?;
        let peers = services.cluster.as_ref().map(|cluster| cluster.peers.clone());
        metrics::register(&metrics, services.storage.clone(), services.rooms.clone(), peers);
        let registry = Registry::new();
        // A weak reference: the registry's releases refer to the metrics.
        let weak = Arc::downgrade(&registry);
        let gauges = move || weak.upgrade().map(|registry| gauges::read(&registry)).unwrap_or_default();
        metrics.extend(|status| register_releases(status, gauges));
        let stage = Arc::new(stage(&config, sandbox, services.clone()));
        let releases = Arc::new(Releases {
            stage,
            registry: registry.clone(),
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
        });
        let logins = |listener| Arc::new(Logins::new(listener, &config.logins, metrics.clone()));
        let gateway = Arc::new(Gateway {
            operators: logins("admin"),
            backends: logins("public"),
            sockets: Sockets::new(metrics),
            expiring: Default::default(),
            permits: Default::default(),
            limits: Limits::new(&config.admission),
            trusted_proxies: config.admission.trusted_proxies.clone(),
            drain: Default::default(),
            spread: config.shutdown.spread(),
            polling_ends,
            config: config.gateway.clone(),
            bus: Bus::new(config.bus.clone(), services.clone(), registry.clone()),
            services,
            registry,
            keyring: keyring::Current::new(keyring),
        });
        let ends = socket::Ends { full, polling };
        let (bus, services, writer) = (gateway.bus.clone(), gateway.services.clone(), PluginName::parse(HOST)?);
        config.egress.check(&config.ingest)?;
        let sent = config.egress.to_kafka();
        let sources = Sources::build(&config.ingest, &config.kafka, sent, &bus, &services, &config.redis, &writer)?;
        let egress = Egress::build(&config.egress, &config.kafka, &bus, &services, &config.redis)?;
        Ok(Self {
            bus,
            config,
            gateway,
            releases,
            mode,
            descriptors,
            names,
            origins,
            exports,
            ends,
            queues,
            writer,
            sources,
            egress,
        })
    }

    /// Stages plugins and makes all of them live, or none.
    pub async fn install(&self, files: &BTreeMap<PluginName, PathBuf>) -> anyhow::Result<()> {
        self.releases.boot(files).await?;
        self.check_doors(files)?;
        self.watch_rooms();
        Ok(())
    }

    /// Stages plugins as a start would, without changing storage.
    pub async fn check(&self, files: &BTreeMap<PluginName, PathBuf>) -> anyhow::Result<()> {
        self.releases.check(files).await?;
        self.check_doors(files)
    }

    /// Checks that configured door policies belong to a plugin. A plugin that was rolled back with a set is not deployed but has a
    /// file, so its policies are valid.
    fn check_doors(&self, files: &BTreeMap<PluginName, PathBuf>) -> anyhow::Result<()> {
        let exists = |plugin: &PluginName| files.contains_key(plugin) || self.gateway.registry.deployed(plugin).is_some();
        Ok(self.releases.stage.doors.check_deployed(exists)?)
    }

    /// Tracks the member counts of the rooms that some plugin subscribes to.
    pub fn watch_rooms(&self) {
        notices::watch_rooms(&self.gateway.services, &self.gateway.registry);
    }

    /// Serves on the open ports until `stop` resolves.
    pub async fn serve(self, ports: Ports, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let (public, private) = (ports.public_address(), ports.admin_address());
        let (service, io) = socket::build_io(&self.gateway);
        let mut tasks: JoinSet<()> = socket::start(&self.gateway, &io, service.clone(), self.ends);
        let services = &self.gateway.services;
        let noticed = Notices { services: services.clone(), registry: self.gateway.registry.clone(), bus: self.bus.clone() };
        let cluster = services.cluster.clone();
        if let (Some(cluster), Some(queues)) = (&cluster, self.queues) {
            cluster.start(queues, &self.gateway.services.rooms, &mut tasks);
            tasks.spawn(self.releases.clone().follow_all(cluster.clone()));
            tasks.spawn(heartbeat::run(cluster.clone(), services.rooms.clone(), services.clock.clone(), noticed.clone()));
        }
        tasks.spawn(self.bus.clone().run());
        let timing = Timing::new(self.gateway.services.clone(), self.gateway.registry.clone());
        tasks.spawn(timing.clone().run());
        tasks.spawn(self.releases.clone().watch());
        tasks.spawn(notices::run(noticed));
        let (newest, status) = watch::channel(None);
        tasks.spawn(status::run(self.gateway.clone(), self.bus.clone(), newest));
        let (ended, ending) = watch::channel(false);
        let exporting = self.exports.map(|exports| tokio::spawn(exports.run(ending)));
        self.gateway.keyring.start();

        let outsides = (self.sources.outsides.clone(), self.egress.outsides.clone());
        self.sources.start(&mut tasks);
        self.egress.start(&mut tasks);
        let writer = self.writer.clone();
        let port = public.map_or(self.config.server.listen.port, |at| at.port());
        let docs = docs::Docs::new(self.gateway.registry.clone(), port, self.gateway.keyring.get().claim_names());
        let web = Arc::new(web::Web {
            gateway: self.gateway.clone(),
            service,
            started: Instant::now(),
            docs,
            origins: self.origins.clone(),
        });
        let api = Arc::new(api::Api {
            gateway: self.gateway.clone(),
            bus: self.bus.clone(),
            keys: self.config.api.keys.iter().map(|key| key.expose().to_owned()).collect(),
            writer: writer.clone(),
        });
        let checks = web::checks(web.clone());
        let mut routes = web::routes(web).merge(api::routes(api));
        if self.mode != Mode::Serve {
            let (people, secret) = (Mutex::default(), self.config.auth.signing_secret());
            let demo = demo::Demo { gateway: self.gateway.clone(), bus: self.bus.clone(), writer, secret, people };
            routes = routes.merge(demo::routes(Arc::new(demo)));
        }
        let admin = operators(&self.config, &self.gateway, &self.releases, status, outsides, &mut tasks);
        let surfaces = Surfaces {
            config: &self.config,
            gateway: &self.gateway,
            descriptors: self.descriptors,
            names: self.names,
            origins: self.origins,
        };
        let port = surfaces.public(Routes { all: routes, checks });
        let accept = |listener| Acceptor { listener, port: port.clone() }.start(&mut tasks);
        let accepting: Vec<_> = ports.public.into_iter().map(accept).collect();
        let port = surfaces.admin(admin);
        for listener in ports.admin {
            Acceptor { listener, port: port.clone() }.start(&mut tasks);
        }
        let shown = |at: Option<std::net::SocketAddr>| at.map(|at| at.to_string()).unwrap_or_default();
        tracing::info!(listen = shown(public), admin = shown(private), "ready");
        stop.await;
        tracing::info!("stopping");
        // Stop accepting first: a client that reconnects at once would only be disconnected again.
        accepting.iter().for_each(AbortHandle::abort);
        self.gateway.drain.begin();
        let (began, shutdown) = (tokio::time::Instant::now(), &self.config.shutdown);
        if tokio::time::timeout_at(began + shutdown.leaving(), self.gateway.drained()).await.is_err() {
            tracing::warn!(
                connections = self.gateway.sockets.connections(),
                "stopping while clients are still connected, or disconnect handlers still running"
            );
        }
        let closed = async {
            timing.flush().await;
            if let Some(cluster) = &cluster {
                cluster.leave(self.config.presence.grace).await;
            }
            tasks.shutdown().await;
            self.gateway.services.storage.close().await;
            if let Some(exporting) = exporting {
                ended.send_replace(true);
                // Traces that are not exported by then are lost.
                let _ = tokio::time::timeout(LAST_TRACES, exporting).await;
            }
        };
        if tokio::time::timeout_at(began + shutdown.deadline, closed).await.is_err() {
            tracing::warn!("stopping at shutdown.deadline: everything that was acknowledged is on the disk");
        }
        Ok(())
    }
}

/// The operator's routes, and the task that sends live metrics.
fn operators(
    config: &Config,
    gateway: &Arc<Gateway>,
    releases: &Arc<Releases>,
    status: status::Latest,
    (sources, systems): (Outsides, Outsides),
    tasks: &mut JoinSet<()>,
) -> Routes {
    let (token, limit) = (config.admin.token.as_ref().map(|token| token.expose().to_owned()), config.admin.watchers);
    let taps = taps::Config { most: config.admin.taps, queue: config.admin.tap_queue };
    gateway.services.rooms.taps.allow(config.admin.tap_payloads.unwrap_or_default());
    let watchers = watchers::Watchers { token: token.clone(), limit, queue: config.admin.watcher_queue.max(1), taps };
    let (live, io) = watchers::build(watchers, gateway);
    tasks.spawn(watchers::run(io, status.clone(), gateway.services.metrics.clone()));
    let admin = Arc::new(Admin {
        gateway: gateway.clone(),
        releases: releases.clone(),
        token: token.clone(),
        max_component: config.sandbox.component,
        status,
        live,
        shows_payloads: config.admin.tap_payloads == Some(Payloads::Full),
        sources,
        systems,
    });
    Routes { checks: admin::checks(admin.clone()), all: admin::routes(admin) }
}

/// The key that compiled components are authenticated with.
fn cache_key(data: &Path) -> anyhow::Result<CacheKey> {
    CacheKey::of_folder(data).or_else(|error| {
        tracing::warn!(data = %data.display(), "cannot store a key (server.data): components are compiled again at the next start: {error}");
        CacheKey::passing().context("the operating system gives no randomness")
    })
}

/// The configured database.
async fn storage(config: &Config) -> anyhow::Result<Arc<dyn Storage>> {
    Ok(match &config.storage.url {
        Some(url) => Arc::new(Postgres::open(url, &config.storage, Clock::system()).await?),
        None => Arc::new(Embedded::open(&config.server.data, &config.storage, Clock::system())?),
    })
}

/// A stage without keys and storage, for commands that only read what components describe.
pub fn offline_stage(config: &Config) -> anyhow::Result<Stage> {
    let (report, _) = mpsc::channel(1);
    let (rooms, metrics) = (Rooms::new(report, 0, None), Arc::new(Metrics::new()));
    let services = services(config, Arc::new(NoStorage), rooms, None, metrics, Tracer::default())?;
    let key = CacheKey::passing().context("the operating system gives no randomness")?;
    let sandbox = Arc::new(Sandbox::new(config.sandbox.clone(), key)?);
    Ok(stage(config, sandbox, services))
}

fn stage(config: &Config, sandbox: Arc<Sandbox>, services: Arc<Services>) -> Stage {
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
        // PostgreSQL also signals what other nodes publish.
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
        default_tenant: config.auth.default_tenant.as_deref().map(Into::into),
        quotas: Quotas::new(config.quota, config.plugins.iter().map(|(name, plugin)| (name.clone(), plugin.quota)).collect())?,
    }))
}
