//! Presence in a cluster: publishes the statuses of this node, and converts the changes of the merged statuses.

use futures_util::future::join_all;

use super::{Change, Group};
use crate::cluster::Cluster;
use crate::cluster::presence_store::{PresenceStatement, StatusChange};

/// Publishes local changes to the other nodes, and returns the resulting cluster-wide changes. Without Redis, these are the local
/// changes.
pub async fn publish_changes(cluster: &Cluster, changes: Vec<Change>, now_ms: u64) -> Vec<Change> {
    let statements: Vec<_> = changes.iter().map(|change| statement(change, now_ms)).collect();
    let turns = join_all(statements.iter().map(|statement| cluster.presence_store.publish(statement))).await;
    let changed = changes.into_iter().zip(turns).filter_map(|(change, turned)| match turned {
        Ok(turn) => change_of(turn?),
        Err(_) => (change.from != change.to).then_some(change),
    });
    changed.collect()
}

fn statement(change: &Change, now_ms: u64) -> PresenceStatement {
    PresenceStatement {
        group: change.group.to_string(),
        key: change.key.clone(),
        status: change.to.unwrap_or_default(),
        believed: change.from.unwrap_or_default(),
        meta: change.meta.clone(),
        waits: change.waits,
        now_ms,
    }
}

/// A cluster-wide change, in the form for plugins.
pub fn change_of(turn: StatusChange) -> Option<Change> {
    let status = |status: &'static str| (!status.is_empty()).then_some(status);
    let group = Group::parse(&turn.group)?;
    Some(Change { group, key: turn.key, from: status(turn.from), to: status(turn.to), meta: turn.meta, waits: false })
}
