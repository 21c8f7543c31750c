//! The parts of the host that calls use.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::limits;
use super::onces::{self, Onces};
use crate::budgets::buckets::Budgets;
use crate::budgets::quota::Quotas;
use crate::budgets::shares::Shares;
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::names::{self, IdSource, PluginName, SocketId};
use crate::presence::{self, Presences};
use crate::recovery::log::Log;
use crate::rooms::Rooms;
use crate::storage::{NoStorage, Storage};
use crate::telemetry::Metrics;
use crate::telemetry::traces::Tracer;
use crate::timers::Timers;

/// The parts of the host behind the capabilities.
pub struct Services {
    pub storage: Arc<dyn Storage>,
    pub rooms: Arc<Rooms>,
    /// The other nodes. None: a single node.
    pub cluster: Option<Arc<Cluster>>,
    pub presences: Presences,
    pub budgets: Budgets,
    pub timers: Timers,
    pub clock: Clock,
    pub ids: IdSource,
    /// Notified when messages are committed to the outbox, here or on another node.
    pub published: Arc<Notify>,
    pub metrics: Arc<Metrics>,
    pub tracer: Tracer,
    pub limits: limits::Config,
    pub quotas: Quotas,
    pub shares: Shares,
    pub onces: Onces,
    /// `auth.default_tenant`
    pub default_tenant: Option<Arc<str>>,
}

impl Services {
    /// The stored form of a name that an operator or a backend gives: of the tenant they name, else of `auth.default_tenant`.
    pub fn scoped(&self, tenant: Option<&str>, name: &str) -> String {
        names::scoped(tenant.or(self.default_tenant.as_deref()), name)
    }

    /// Tracks a key for a socket.
    pub fn track(&self, track: presence::Track) {
        let socket = track.socket;
        if !self.presences.track(track, self.clock.steady_ms()) {
            self.metrics.joins_refused.inc();
        }
        self.tracked(socket);
    }

    /// Ends a socket's track of a key.
    pub fn untrack(&self, socket: SocketId, plugin: &PluginName, tenant: Option<&str>, group: &str, key: &str) {
        self.presences.untrack(socket, plugin, tenant, group, key);
        self.tracked(socket);
    }

    /// Another node may bring the socket back with what it tracks.
    fn tracked(&self, socket: SocketId) {
        if let Some(sockets) = self.cluster.as_ref().and_then(|cluster| cluster.peers.sockets.as_ref()) {
            sockets.tracked(socket, presence::Track::encode(&self.presences.tracks_of(socket)));
        }
    }

    /// Empty services, isolated from the live ones, for replays.
    pub fn isolated(&self) -> Result<Arc<Self>, getrandom::Error> {
        Ok(Arc::new(Self {
            storage: Arc::new(NoStorage),
            rooms: Rooms::new(self.rooms.per_socket, None, Log::off()),
            cluster: None,
            presences: Presences::new(presence::Config::default()),
            budgets: Budgets::default(),
            timers: Timers::new(self.timers.config.clone()),
            clock: self.clock.clone(),
            ids: IdSource::new()?,
            published: Arc::default(),
            metrics: Arc::new(Metrics::new()),
            tracer: Tracer::default(),
            limits: self.limits.clone(),
            quotas: Quotas::default(),
            shares: Shares::default(),
            onces: Onces::new(onces::Config { keep: Duration::ZERO, ..onces::Config::default() }),
            default_tenant: self.default_tenant.clone(),
        }))
    }
}
