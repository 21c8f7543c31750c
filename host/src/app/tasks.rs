//! The background tasks, from the start to the stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::task::JoinSet;

use super::*;
use crate::admin::status;
use crate::bus::notices::{self, Notices};
use crate::call::timers::Timing;
use crate::cluster::heartbeat;
use crate::socket;
use crate::transaction::services::Services;

/// How long a stop waits for the last traces to be exported.
const LAST_TRACES: Duration = Duration::from_secs(2);

/// All background tasks.
pub(super) struct Tasks {
    pub(super) all: JoinSet<()>,
    /// The newest status of this node, for operators.
    pub(super) status: status::Latest,
    timing: Arc<Timing>,
    /// Makes the exporter send the last traces and end.
    ended: watch::Sender<bool>,
    exporting: Option<JoinHandle<()>>,
}

impl Tasks {
    /// Starts the sockets' tasks, the cluster, the bus, timers, deployments and the exporter of traces.
    pub(super) fn start(app: &mut App) -> Self {
        let (gateway, services, releases) = (&app.gateway, &app.gateway.services, &app.releases);
        let Starting { queues, exports, sources, egress } = std::mem::take(&mut app.starting);
        let mut all = socket::start(gateway);
        let notices = Notices { services: services.clone(), registry: gateway.registry.clone(), bus: app.bus.clone() };
        if let (Some(cluster), Some(queues)) = (&services.cluster, queues) {
            cluster.start(queues, &services.rooms, &mut all);
            all.spawn(releases.clone().follow_all(cluster.clone()));
            all.spawn(heartbeat::run(cluster.clone(), services.rooms.clone(), services.clock.clone(), notices.clone()));
        }
        all.spawn(app.bus.clone().run());
        let timing = Timing::new(services.clone(), gateway.registry.clone());
        all.spawn(timing.clone().run());
        all.spawn(releases.clone().watch());
        all.spawn(notices::run(notices));
        let (newest, status) = watch::channel(None);
        all.spawn(status::run(gateway.clone(), app.bus.clone(), newest));
        let (ended, ending) = watch::channel(false);
        let exporting = exports.map(|exports| tokio::spawn(exports.run(ending)));
        gateway.keyring.start();
        if let Some(sources) = sources {
            sources.start(&mut all);
        }
        if let Some(egress) = egress {
            egress.start(&mut all);
        }
        Self { all, status, timing, ended, exporting }
    }

    /// Ends all tasks, dependents first.
    pub(super) async fn stop(mut self, services: &Services, grace: Duration) {
        self.timing.flush().await;
        if let Some(cluster) = &services.cluster {
            cluster.leave(grace).await;
        }
        self.all.shutdown().await;
        services.storage.close().await;
        if let Some(exporting) = self.exporting {
            self.ended.send_replace(true);
            // Traces that are not exported by then are lost.
            let _ = tokio::time::timeout(LAST_TRACES, exporting).await;
        }
    }
}
