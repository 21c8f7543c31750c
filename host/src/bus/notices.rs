//! Notices of the host to plugins: changes of presence, and room counts. Each change is delivered once, so that plugins need not
//! derive it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Bus;
use crate::call::registry::Registry;
use crate::cluster::Cluster;
use crate::cluster::heartbeat::PresenceMember;
use crate::cluster::presence_store::StatusChange;
use crate::cluster::redis::RedisUnavailable;
use crate::names;
use crate::presence::sync::{change_of, publish_changes};
use crate::presence::{Change, Group, key_of};
use crate::transaction::services::Services;

/// The time between two checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// The time between two checks of changes that depend only on time.
const CHECK_ALL_INTERVAL: Duration = Duration::from_millis(250);

/// The shortest time between two counts of one room: at most two a second.
const COUNT_EVERY: Duration = Duration::from_millis(500);

/// Changes that are published at a time.
const BATCH: usize = 256;

const PRESENCE_CHANGED: &str = "presence.changed";
const ROOM_COUNTED: &str = "room.counted";

/// Sets which rooms the adapter counts: those that some plugin wants counted.
pub fn watch_rooms(services: &Services, registry: &Registry) {
    let mut patterns = Vec::new();
    for release in registry.deployed_plugins().iter().filter_map(|deployed| deployed.live()) {
        if release.manifest.topics.iter().any(|topic| topic == ROOM_COUNTED) {
            let pair = |(namespace, room): &(crate::transaction::profile::Pattern, crate::transaction::profile::Pattern)| {
                (namespace.prefix().to_owned(), room.prefix().to_owned())
            };
            patterns.extend(release.manifest.rooms.iter().map(pair));
        }
    }
    services.rooms.watch(patterns);
}

/// Publishes the host's notices on the bus.
#[derive(Clone)]
pub struct Notices {
    pub services: Arc<Services>,
    pub registry: Arc<Registry>,
    pub bus: Arc<Bus>,
}

/// Publishes changes until it is dropped.
pub async fn run(notices: Notices) {
    let mut counted = Counted::default();
    let mut all_checked_at = Instant::now();
    let mut changes = notices.registry.changes();
    loop {
        tokio::select! {
            () = tokio::time::sleep(CHECK_INTERVAL) => {}
            () = notices.services.presences.wakeup.notified() => {}
            _ = changes.changed() => watch_rooms(&notices.services, &notices.registry),
        }
        let all = all_checked_at.elapsed() >= CHECK_ALL_INTERVAL;
        if all {
            all_checked_at = Instant::now();
        }
        publish_presence(&notices, all).await;
        counted.publish(&notices).await;
    }
}

async fn publish_presence(notices: &Notices, all: bool) {
    let now = notices.services.clock.moment();
    let changes = notices.services.presences.changes(now, BATCH, all);
    let Some(cluster) = &notices.services.cluster else {
        for change in changes.iter().filter(|change| change.from != change.to) {
            publish_change(&notices.bus, change).await;
        }
        return;
    };
    for change in publish_changes(cluster, changes, now.wall_ms).await {
        publish_change(&notices.bus, &change).await;
    }
}

/// Sends a plugin a notice of a changed status.
pub async fn publish_change(bus: &Bus, change: &Change) {
    let Group { plugin, tenant, group } = &change.group;
    let (key, owner) = key_of(&change.key);
    let tenant = tenant.as_deref().or(owner).map(str::to_owned);
    // The metadata was checked as JSON when it was tracked.
    let meta: serde_json::Value = serde_json::from_str(&change.meta).unwrap_or_default();
    let data = json!({
        "group": group,
        "key": key,
        "from": change.from.unwrap_or("offline"),
        "to": change.to.unwrap_or("offline"),
        "meta": meta,
    });
    let key = format!("{group}/{key}");
    bus.notice(plugin, PRESENCE_CHANGED, tenant, key, data.to_string()).await;
}

/// Publishes this node's presence again, and withdraws the keys that ended while Redis was down.
async fn restate(notices: &Notices, cluster: &Cluster) -> Result<(), RedisUnavailable> {
    let (me, mut published_before) = (&cluster.nodes.me, cluster.presence_store.published_by(&cluster.nodes.me).await?);
    // Read after the published keys, and published again below, so that a key that returns meanwhile is not lost.
    let here: HashSet<_> =
        notices.services.presences.reported().into_iter().map(|published| (published.group.to_string(), published.key)).collect();
    published_before.retain(|key| !here.contains(key));
    for turn in cluster.presence_store.retract(me, published_before, notices.services.clock.now_ms()).await? {
        if let Some(change) = change_of(turn) {
            publish_change(&notices.bus, &change).await;
        }
    }
    for changes in notices.services.presences.reported().chunks(BATCH) {
        if !cluster.link.is_up() {
            return Err(RedisUnavailable::new("the connection is down"));
        }
        // The status of a key may have changed on another node while Redis was down.
        for change in publish_changes(cluster, changes.to_vec(), notices.services.clock.now_ms()).await {
            publish_change(&notices.bus, &change).await;
        }
    }
    Ok(())
}

impl PresenceMember for Notices {
    async fn restate(&self) -> Result<(), RedisUnavailable> {
        match &self.services.cluster {
            Some(cluster) => restate(self, cluster).await,
            None => Ok(()),
        }
    }

    async fn status_changed(&self, turn: StatusChange) {
        if let Some(change) = change_of(turn) {
            publish_change(&self.bus, &change).await;
        }
    }
}

/// Rooms that have changed and wait to be counted.
#[derive(Default)]
struct Counted {
    waiting: HashMap<(Arc<str>, Arc<str>), ()>,
    published: HashMap<(Arc<str>, Arc<str>), Instant>,
}

impl Counted {
    async fn publish(&mut self, notices: &Notices) {
        self.waiting.extend(notices.services.rooms.take_changed().into_iter().map(|room| (room, ())));
        self.published.retain(|_, at| at.elapsed() < COUNT_EVERY);
        let due: Vec<_> = self.waiting.keys().filter(|room| !self.published.contains_key(*room)).cloned().collect();
        for room in due {
            self.published.insert(room.clone(), Instant::now());
            if let Some(cluster) = &notices.services.cluster
                && let Ok(false) = cluster.nodes.claim(&format!("count:{}:{}", room.0, room.1), COUNT_EVERY).await
            {
                // Another node has just published it; later changes are published when the room is next due.
                continue;
            }
            self.waiting.remove(&room);
            publish_room_count(notices, &room.0, &room.1).await;
        }
    }
}

async fn publish_room_count(notices: &Notices, namespace: &Arc<str>, room: &str) {
    let (size, _) = notices.services.rooms.size(namespace, room, "").await;
    let (tenant, bare) = names::unscoped(room);
    for release in notices.registry.deployed_plugins().iter().filter_map(|deployed| deployed.live()) {
        let manifest = &release.manifest;
        if !manifest.describes_room(namespace, bare) || !manifest.topics.iter().any(|topic| topic == ROOM_COUNTED) {
            continue;
        }
        let data = json!({
            "namespace": namespace,
            "room": bare,
            "sockets": size.sockets,
            "users": size.users,
            "visitors": size.visitors,
        });
        let key = format!("{namespace} {bare}");
        notices.bus.notice(&manifest.name, ROOM_COUNTED, tenant.map(str::to_owned), key, data.to_string()).await;
    }
}
