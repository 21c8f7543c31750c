//! The other nodes of the cluster: this node's signs of life, what is said anew to a Redis that has forgotten, and clearing up after
//! nodes that have died. It takes no part in what happens on this node.

use std::collections::HashSet;
use std::sync::Arc;

use super::Gateway;
use super::notice::{change_of, said, tell_change};
use crate::cluster::Cluster;
use crate::cluster::link::{Away, Epoch};
use crate::release::delivery::Bus;

/// Statements made anew at a time.
const BATCH: usize = 256;

/// Shows signs of life and clears up, until it is dropped.
pub async fn run(gateway: Arc<Gateway>, cluster: Arc<Cluster>, bus: Arc<Bus>) {
    let mut epochs = cluster.link.epochs();
    let mut told: Epoch = None;
    let mut was_up = true;
    loop {
        let beat = cluster.nodes.beat().await;
        if beat.is_ok() != was_up {
            was_up = beat.is_ok();
            match &beat {
                Ok(_) => tracing::info!("Redis answers again: this node is part of the cluster"),
                Err(error) => tracing::warn!("this node is by itself: {error}"),
            }
        }
        let epoch = *epochs.borrow_and_update();
        if epoch.is_some() && epoch != told && tell_all(&gateway, &cluster, &bus).await.is_ok() {
            told = epoch;
        }
        for dead in beat.into_iter().flat_map(|beat| beat.dead) {
            if let Err(error) = bury(&gateway, &cluster, &bus, &dead).await {
                tracing::warn!(node = dead, "what a dead node said is still believed: {error}");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(cluster.link.config.beat) => {}
            // Lost, it is looked for at once.
            _ = epochs.wait_for(Option::is_none), if epoch.is_some() => {}
        }
    }
}

/// Says anew who is here, and takes back what it said of those who went while Redis was away.
async fn tell_all(gateway: &Gateway, cluster: &Cluster, bus: &Bus) -> Result<(), Away> {
    let (me, mut said_before) = (&cluster.nodes.me, cluster.roster.said_by(&cluster.nodes.me).await?);
    // Looked at after what was said, and said anew below: who comes again meanwhile is not lost.
    let here: HashSet<_> = gateway.services.presences.told().into_iter().map(|told| (told.group.to_string(), told.key)).collect();
    said_before.retain(|said| !here.contains(said));
    for turn in cluster.roster.take_back(me, said_before, gateway.services.clock.now_ms()).await? {
        if let Some(change) = change_of(turn) {
            tell_change(bus, &change).await;
        }
    }
    for changes in gateway.services.presences.told().chunks(BATCH) {
        if !cluster.link.is_up() {
            return Err(Away::new("the connection is down"));
        }
        // Somebody may have gone offline elsewhere while Redis was away.
        for change in said(cluster, changes.to_vec(), gateway.services.clock.now_ms()).await {
            tell_change(bus, &change).await;
        }
    }
    Ok(())
}

/// Takes back what a dead node said: its members have gone.
async fn bury(gateway: &Gateway, cluster: &Cluster, bus: &Bus, dead: &str) -> Result<(), Away> {
    if !cluster.nodes.may_reap(dead).await? {
        return Ok(());
    }
    tracing::warn!(node = dead, "a node is dead: its members have gone");
    for (namespace, room) in cluster.peers.ledger.forget(dead).await? {
        gateway.services.rooms.note_change(&namespace, &room);
    }
    let said = cluster.roster.said_by(dead).await?;
    for turn in cluster.roster.take_back(dead, said, gateway.services.clock.now_ms()).await? {
        if let Some(change) = change_of(turn) {
            tell_change(bus, &change).await;
        }
    }
    cluster.board.forget(dead).await?;
    cluster.nodes.forget(dead).await
}
