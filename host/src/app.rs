//! The server as a value: built without binding a port, then run until it is stopped. It only wires the parts together.

mod host;
mod in_use;
pub(crate) mod metrics;
mod ports;
mod routes;
mod surfaces;
mod tasks;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use tokio::task::AbortHandle;

use crate::admin::Outsides;
use crate::auth::keyring;
use crate::auth::keyring::Keyring;
use crate::auth::logins::Logins;
use crate::bus::egress::Egress;
use crate::bus::ingest::Sources;
use crate::bus::{Bus, notices};
use crate::call::registry::Registry;
use crate::cluster;
use crate::config::{Config, Mode};
use crate::deploy::releases::Releases;
use crate::descriptors::Descriptors;
use crate::names::PluginName;
use crate::server::accept::Acceptor;
use crate::server::origin::Origins;
use crate::socket::Gateway;
use crate::socket::admission::Limits;
use crate::socket::resume::Recovery;
use crate::socket::resume::sessions::Sessions;
use crate::socket::sockets::Sockets;
use crate::telemetry::traces;
use crate::transaction::services::Services;
use host::Host;
pub use host::offline_stage;
pub use ports::{PortError, Ports};
use surfaces::{Names, Routes, Surfaces};
use tasks::Tasks;

/// The writer of messages that come from no plugin.
const HOST: &str = "host";

/// The whole server except its ports.
pub struct App {
    pub config: Config,
    pub gateway: Arc<Gateway>,
    pub releases: Arc<Releases>,
    mode: Mode,
    front: Front,
    bus: Arc<Bus>,
    writer: PluginName,
    /// The systems that messages come from, and those that they go to.
    outsides: (Outsides, Outsides),
    starting: Starting,
}

/// Settings of the ports that are read before anything is opened.
struct Front {
    descriptors: Descriptors,
    names: Names,
    origins: Origins,
}

/// Receivers and exporters that the start hands to their tasks.
#[derive(Default)]
struct Starting {
    queues: Option<cluster::Queues>,
    exports: Option<traces::Exports>,
    sources: Option<Sources>,
    egress: Option<Egress>,
}

impl App {
    /// Opens storage, loads keys and creates the sandbox. It fails before a port is bound.
    pub async fn build(config: Config, mode: Mode) -> anyhow::Result<Self> {
        check(&config)?;
        let front = Front::build(&config)?;
        let keyring = keyring(&config, mode)?;
        let Host { services, registry, releases, bus, exports, queues } = Host::build(&config).await?;
        let gateway = gateway(&config, keyring, services, registry, bus.clone());
        let writer = PluginName::parse(HOST)?;
        let sent = config.egress.to_kafka();
        let sources = Sources::build(&config.ingest, &config.kafka, sent, &bus, &gateway.services, &config.redis, &writer)?;
        let egress = Egress::build(&config.egress, &config.kafka, &bus, &gateway.services, &config.redis)?;
        let outsides = (sources.outsides.clone(), egress.outsides.clone());
        let starting = Starting { queues, exports, sources: Some(sources), egress: Some(egress) };
        Ok(Self { config, gateway, releases, mode, front, bus, writer, outsides, starting })
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
    pub async fn serve(mut self, ports: Ports, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let (public, private) = (ports.public_address(), ports.admin_address());
        if let Err(error) = self.gateway.restore_sockets().await {
            tracing::warn!("clients cannot come back to the sockets that they had before the stop: {error:#}");
        }
        let mut tasks = Tasks::start(&mut self);
        let accepting = self.accept(ports, &mut tasks);
        let shown = |at: Option<std::net::SocketAddr>| at.map(|at| at.to_string()).unwrap_or_default();
        tracing::info!(listen = shown(public), admin = shown(private), "ready");
        stop.await;
        tracing::info!("stopping");
        // Stop accepting first: a client that reconnects at once would only be disconnected again.
        accepting.iter().for_each(AbortHandle::abort);
        self.stop(tasks).await;
        Ok(())
    }

    /// Accepts connections at both ports. Returns what accepts clients.
    fn accept(&mut self, ports: Ports, tasks: &mut Tasks) -> Vec<AbortHandle> {
        let port = ports.public_address().map_or(self.config.server.listen.port, |at| at.port());
        let public = routes::public(self, port);
        let operators = routes::operators(self, tasks.status.clone(), &mut tasks.all);
        let surfaces = Surfaces { config: &self.config, gateway: &self.gateway, front: &self.front };
        let port = surfaces.public(public);
        let accept = |listener| Acceptor { listener, port: port.clone() }.start(&mut tasks.all);
        let accepting: Vec<_> = ports.public.into_iter().map(accept).collect();
        let port = surfaces.admin(operators);
        for listener in ports.admin {
            Acceptor { listener, port: port.clone() }.start(&mut tasks.all);
        }
        accepting
    }

    /// Drains the connections, then ends all tasks, within `shutdown.deadline`.
    async fn stop(&self, tasks: Tasks) {
        let (began, shutdown) = (tokio::time::Instant::now(), &self.config.shutdown);
        self.gateway.drain.begin();
        if tokio::time::timeout_at(began + shutdown.leaving(), self.gateway.drained()).await.is_err() {
            tracing::warn!(
                connections = self.gateway.sockets.connections(),
                "stopping while clients are still connected, or disconnect handlers still running"
            );
        }
        if let Err(error) = self.gateway.save_sockets().await {
            tracing::warn!("clients cannot come back to their sockets after the next start: {error:#}");
        }
        let stopped = tasks.stop(&self.gateway.services, self.config.presence.grace);
        if tokio::time::timeout_at(began + shutdown.deadline, stopped).await.is_err() {
            tracing::warn!("stopping at shutdown.deadline: everything that was acknowledged is on the disk");
        }
    }
}

impl Front {
    fn build(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            descriptors: Descriptors::raised(config.admission.descriptors_reserved),
            names: Names::load(config)?,
            origins: Origins::load(&config.cors)?,
        })
    }
}

/// Checks settings that would fail later.
fn check(config: &Config) -> anyhow::Result<()> {
    config.limits.check()?;
    config.breaker.check()?;
    config.shutdown.check()?;
    Ok(config.egress.check(&config.ingest)?)
}

fn keyring(config: &Config, mode: Mode) -> anyhow::Result<Keyring> {
    let keyring = Keyring::load(&config.auth, mode == Mode::Dev).context("auth")?;
    if mode == Mode::Serve {
        config.auth.warn_of_weak_secrets();
    }
    Ok(keyring)
}

fn gateway(config: &Config, keyring: Keyring, services: Arc<Services>, registry: Arc<Registry>, bus: Arc<Bus>) -> Arc<Gateway> {
    let metrics = services.metrics.clone();
    let logins = |listener| Arc::new(Logins::new(listener, &config.logins, metrics.clone()));
    Arc::new(Gateway {
        operators: logins("admin"),
        backends: logins("public"),
        sockets: Sockets::new(metrics.clone()),
        expiring: Default::default(),
        permits: Default::default(),
        limits: Limits::new(&config.admission),
        trusted_proxies: config.admission.trusted_proxies.clone(),
        drain: Default::default(),
        spread: config.shutdown.spread(),
        slow_consumers: Default::default(),
        recovery: Recovery { config: config.recovery.clone(), sessions: Sessions::new(metrics) },
        config: config.gateway.clone(),
        bus,
        services,
        registry,
        keyring: keyring::Current::new(keyring),
    })
}
