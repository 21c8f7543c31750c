//! What the host notices and tells the plugins: statuses that change and rooms that are counted. Each change is told once; plugins
//! never have to derive it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use super::Gateway;
use crate::capability::presence::{Change, Group, key_of};
use crate::cluster::Cluster;
use crate::cluster::roster::{Statement, Turn};
use crate::names;
use crate::release::delivery::Bus;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Between two looks at what only time changes.
const LOOK_AT_ALL: Duration = Duration::from_millis(250);

/// The shortest time between two counts of one room: at most two a second.
const COUNT_EVERY: Duration = Duration::from_millis(500);

/// Changes told at a time.
const BATCH: usize = 256;

const PRESENCE_CHANGED: &str = "presence.changed";
const ROOM_COUNTED: &str = "room.counted";

/// Tells the adapter which rooms some plugin wants counted.
pub fn watch_rooms(gateway: &Gateway) {
    let mut patterns = Vec::new();
    for release in gateway.registry.slots().iter().filter_map(|slot| slot.live()) {
        if release.manifest.topics.iter().any(|topic| topic == ROOM_COUNTED) {
            let pair = |(namespace, room): &(crate::capability::profile::Pattern, crate::capability::profile::Pattern)| {
                (namespace.prefix().to_owned(), room.prefix().to_owned())
            };
            patterns.extend(release.manifest.rooms.iter().map(pair));
        }
    }
    gateway.services.rooms.watch(patterns);
}

/// Looks and tells, until it is dropped.
pub async fn run(gateway: Arc<Gateway>, bus: Arc<Bus>) {
    let mut counted = Counted::default();
    let mut looked_at_all = Instant::now();
    let mut changes = gateway.registry.changes();
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = gateway.services.presences.stirred.notified() => {}
            _ = changes.changed() => watch_rooms(&gateway),
        }
        let all = looked_at_all.elapsed() >= LOOK_AT_ALL;
        if all {
            looked_at_all = Instant::now();
        }
        tell_presence(&gateway, &bus, all).await;
        counted.tell(&gateway, &bus).await;
    }
}

async fn tell_presence(gateway: &Gateway, bus: &Bus, all: bool) {
    let now = gateway.services.clock.moment();
    let changes = gateway.services.presences.changes(now, BATCH, all);
    let Some(cluster) = &gateway.services.cluster else {
        for change in changes.iter().filter(|change| change.from != change.to) {
            tell_change(bus, change).await;
        }
        return;
    };
    for change in said(cluster, changes, now.wall_ms).await {
        tell_change(bus, &change).await;
    }
}

/// Says what has changed here to the other nodes; answers what has changed by it over all nodes. While Redis is away, that is what
/// has changed here.
pub async fn said(cluster: &Cluster, changes: Vec<Change>, now_ms: u64) -> Vec<Change> {
    let statements: Vec<_> = changes.iter().map(|change| statement(change, now_ms)).collect();
    let turns = join_all(statements.iter().map(|statement| cluster.roster.say(statement))).await;
    let changed = changes.into_iter().zip(turns).filter_map(|(change, turned)| match turned {
        Ok(turn) => change_of(turn?),
        Err(_) => (change.from != change.to).then_some(change),
    });
    changed.collect()
}

fn statement(change: &Change, now_ms: u64) -> Statement {
    Statement {
        group: change.group.to_string(),
        key: change.key.clone(),
        status: change.to.unwrap_or_default(),
        believed: change.from.unwrap_or_default(),
        meta: change.meta.clone(),
        waits: change.waits,
        now_ms,
    }
}

/// What the nodes together have changed, as a plugin is told.
pub fn change_of(turn: Turn) -> Option<Change> {
    let status = |status: &'static str| (!status.is_empty()).then_some(status);
    let group = Group::parse(&turn.group)?;
    Some(Change { group, key: turn.key, from: status(turn.from), to: status(turn.to), meta: turn.meta, waits: false })
}

/// Tells a plugin of a status that has changed.
pub async fn tell_change(bus: &Bus, change: &Change) {
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

/// Rooms that have changed and are to be counted, each when its turn comes.
#[derive(Default)]
struct Counted {
    waiting: HashMap<(Arc<str>, Arc<str>), ()>,
    told: HashMap<(Arc<str>, Arc<str>), Instant>,
}

impl Counted {
    async fn tell(&mut self, gateway: &Gateway, bus: &Bus) {
        self.waiting.extend(gateway.services.rooms.take_changed().into_iter().map(|room| (room, ())));
        self.told.retain(|_, at| at.elapsed() < COUNT_EVERY);
        let due: Vec<_> = self.waiting.keys().filter(|room| !self.told.contains_key(*room)).cloned().collect();
        for room in due {
            self.told.insert(room.clone(), Instant::now());
            if let Some(cluster) = &gateway.services.cluster
                && let Ok(false) = cluster.nodes.claim(&format!("count:{}:{}", room.0, room.1), COUNT_EVERY).await
            {
                // Another node has just told it; what has changed since is told when that is due.
                continue;
            }
            self.waiting.remove(&room);
            tell_room(gateway, bus, &room.0, &room.1).await;
        }
    }
}

async fn tell_room(gateway: &Gateway, bus: &Bus, namespace: &Arc<str>, room: &str) {
    let (size, _) = gateway.services.rooms.size(namespace, room, "").await;
    let (tenant, bare) = names::unscoped(room);
    for release in gateway.registry.slots().iter().filter_map(|slot| slot.live()) {
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
        bus.notice(&manifest.name, ROOM_COUNTED, tenant.map(str::to_owned), key, data.to_string()).await;
    }
}
