//! First replies of a group: replies to events that take effect once. The statements are in `rows`.

use tokio_postgres::{Client, Error};

use super::super::FirstReply;
use super::super::embedded::FirstReplyRow;
use super::rows::{Writes, signed};
use crate::names::PluginName;

/// Old rows that a group deletes for each new one: more than one, so that their number shrinks.
const SWEEP: u64 = 4;

/// Rows that one group deletes to keep the bytes of a plugin, besides `SWEEP` for each new one. After a large reply several groups do.
const CAP: u64 = 256;

/// Stores replies, and deletes some that are too old. Returns how many others were deleted to keep the limits of bytes.
pub(super) async fn put(
    client: &Client,
    writes: &Writes,
    replies: &[(PluginName, FirstReply)],
    stamp_ms: u64,
) -> Result<u64, Error> {
    // All have the bounds of this node's configuration.
    let Some(bounds) = replies.first().map(|(_, reply)| reply.bounds) else { return Ok(0) };
    let owners: Vec<_> = replies.iter().map(|(_, reply)| reply.owner.as_bytes()).collect();
    let keys: Vec<_> = replies.iter().map(|(_, reply)| reply.key.as_bytes()).collect();
    let plugins: Vec<_> = replies.iter().map(|(plugin, _)| plugin.as_str()).collect();
    let bytes: Vec<_> = replies.iter().map(|(_, reply)| signed(reply.bytes())).collect();
    let texts: Vec<_> = replies.iter().map(|(_, reply)| reply.reply.as_ref()).collect();
    let (since, sweep) = (signed(bounds.since_ms), signed(SWEEP * replies.len() as u64));
    let cap = signed(CAP + SWEEP * replies.len() as u64);
    let (owner_bytes, plugin_bytes, stamp) = (signed(bounds.owner_bytes), signed(bounds.plugin_bytes), signed(stamp_ms));
    // Sent in this order, all before the first answer.
    let (put, swept, of_owners, of_plugins) = tokio::join!(biased;
        async { client.execute(&writes.put_replies, &[&owners, &keys, &plugins, &bytes, &texts, &stamp]).await },
        async { client.execute(&writes.sweep_replies, &[&plugins, &since, &sweep]).await },
        async { client.execute(&writes.cap_owners, &[&owners, &owner_bytes]).await },
        async { client.execute(&writes.cap_plugins, &[&plugins, &plugin_bytes, &cap]).await },
    );
    put?;
    swept?;
    Ok(of_owners? + of_plugins?)
}

/// Stores the rows of an embedded database. Returns how many.
pub(super) async fn import(client: &Client, writes: &Writes, rows: &[FirstReplyRow]) -> Result<u64, Error> {
    let owners: Vec<_> = rows.iter().map(|row| row.owner.as_bytes()).collect();
    let keys: Vec<_> = rows.iter().map(|row| row.key.as_bytes()).collect();
    let plugins: Vec<_> = rows.iter().map(|row| row.plugin.as_str()).collect();
    let owner_ends: Vec<_> = rows.iter().map(|row| row.owner_end).collect();
    let plugin_ends: Vec<_> = rows.iter().map(|row| row.plugin_end).collect();
    let times: Vec<_> = rows.iter().map(|row| row.at_ms).collect();
    let replies: Vec<_> = rows.iter().map(|row| row.reply.as_ref()).collect();
    client.execute(&writes.import_replies, &[&owners, &keys, &plugins, &owner_ends, &plugin_ends, &times, &replies]).await
}
