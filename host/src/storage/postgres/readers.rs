//! Reads of the committed state. A lost connection is replaced while there is time. Never holds more connections than
//! `storage.connections`.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryStreamExt;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::timeout_at;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::super::stats::{Counters, count};
use super::super::{Config, DeadLetterRow, MAX_SCAN_BYTES, OutboxRow, Unavailable, prefix_end};
use super::connection::{Connection, Connector, Failed, Pauses};
use super::outage::Outage;
use super::rows::{self, Reads, signed};
use crate::names::PluginName;

/// A healthy database answers within milliseconds.
const HEALTH: Duration = Duration::from_secs(1);

/// The connections that read.
pub(super) struct Readers {
    connector: Arc<Connector>,
    outage: Arc<Outage>,
    idle: Mutex<Vec<Reader>>,
    free: Semaphore,
    /// The limit of an answer: a little more than the server's own limit.
    limit: Duration,
    counters: Arc<Counters>,
}

struct Reader {
    connection: Connection,
    reads: Reads,
}

/// Selects a statement.
type Query = fn(&Reads) -> &Statement;
type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

impl Readers {
    pub(super) fn new(connector: Arc<Connector>, outage: Arc<Outage>, config: &Config, counters: Arc<Counters>) -> Self {
        let free = Semaphore::new(config.connections.clamp(1, Semaphore::MAX_PERMITS));
        let limit = config.statement_timeout + Duration::from_secs(1);
        Self { connector, outage, idle: Mutex::default(), free, limit, counters }
    }

    pub(super) async fn get(&self, plugin: &PluginName, key: &str) -> Result<Option<Bytes>, Unavailable> {
        let rows = self.ask(|reads| &reads.get, &[&plugin.as_str(), &key.as_bytes()]).await?;
        rows.first().map(|row| rows::bytes(row, 0)).transpose().map_err(unavailable)
    }

    pub(super) async fn first_reply(&self, owner: &str, key: &str, since_ms: u64) -> Result<Option<Bytes>, Unavailable> {
        let rows = self.ask(|reads| &reads.first_reply, &[&owner.as_bytes(), &key.as_bytes(), &signed(since_ms)]).await?;
        rows.first().map(|row| rows::bytes(row, 0)).transpose().map_err(unavailable)
    }

    pub(super) async fn get_many(&self, plugin: &PluginName, keys: &[String]) -> Result<Vec<Option<Bytes>>, Unavailable> {
        let wanted: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
        let rows = self.ask(|reads| &reads.get_many, &[&plugin.as_str(), &wanted]).await?;
        let entry = |row: &Row| Ok((rows::text(row, 0)?, rows::bytes(row, 1)?));
        let found: HashMap<String, Bytes> = rows.iter().map(entry).collect::<Result<_, _>>().map_err(unavailable)?;
        Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
    }

    pub(super) async fn scan(
        &self,
        plugin: &PluginName,
        start: &str,
        end: &str,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<(String, Bytes)>, Unavailable> {
        let end = if end.is_empty() { prefix_end(start.as_bytes()) } else { Some(end.as_bytes().to_vec()) };
        let (plugin, start, limit) = (plugin.as_str(), start.as_bytes(), signed(limit as u64));
        let rows = match &end {
            Some(end) if reverse => self.ask(|reads| &reads.scan_back, &[&plugin, &start, &limit, end]).await?,
            Some(end) => self.ask(|reads| &reads.scan, &[&plugin, &start, &limit, end]).await?,
            None if reverse => self.ask(|reads| &reads.scan_back_from_end, &[&plugin, &start, &limit]).await?,
            None => self.ask(|reads| &reads.scan_to_end, &[&plugin, &start, &limit]).await?,
        };
        let entry = |row: &Row| Ok((rows::text(row, 0)?, rows::bytes(row, 1)?));
        rows.iter().map(entry).collect::<Result<_, _>>().map_err(unavailable)
    }

    pub(super) async fn keys(
        &self,
        plugin: &PluginName,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<String>, Unavailable> {
        let (end, limit) = (prefix_end(prefix.as_bytes()), signed(limit as u64));
        let rows =
            self.ask(|reads| &reads.keys, &[&plugin.as_str(), &prefix.as_bytes(), &after.as_bytes(), &end, &limit]).await?;
        rows.iter().map(|row| rows::text(row, 0)).collect::<Result<_, _>>().map_err(unavailable)
    }

    pub(super) async fn handled_after(
        &self,
        plugin: &PluginName,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, u64)>, Unavailable> {
        let limit = signed(limit as u64);
        let rows = self.ask(|reads| &reads.handled_after, &[&plugin.as_str(), &after.as_bytes(), &limit]).await?;
        let handled = |row: &Row| Ok((rows::text(row, 0)?, rows::number(row, 1)?));
        rows.iter().map(handled).collect::<Result<_, _>>().map_err(unavailable)
    }

    pub(super) async fn outbox_after(&self, seq: u64, limit: usize) -> Result<Vec<OutboxRow>, Unavailable> {
        let rows = self.ask(|reads| &reads.outbox, &[&signed(seq), &signed(limit as u64)]).await?;
        rows.iter().map(rows::message).collect::<Result<_, _>>().map_err(unavailable)
    }

    pub(super) async fn outbox_waiting(&self, topic: &str, seq: u64, most: usize) -> Result<u64, Unavailable> {
        let rows = self.ask(|reads| &reads.waiting, &[&signed(seq), &topic.as_bytes(), &signed(most as u64)]).await?;
        rows.first().map_or(Ok(0), |row| rows::number(row, 0)).map_err(unavailable)
    }

    pub(super) async fn dead_letters(&self, seq: u64, limit: usize) -> Result<Vec<DeadLetterRow>, Unavailable> {
        let rows = self.ask(|reads| &reads.letters, &[&signed(seq), &signed(limit as u64)]).await?;
        rows.iter().map(rows::letter).collect::<Result<_, _>>().map_err(unavailable)
    }

    pub(super) async fn blob(&self, name: &str) -> Result<Option<Bytes>, Unavailable> {
        let rows = self.ask(|reads| &reads.blob, &[&name.as_bytes()]).await?;
        rows.first().map(|row| rows::bytes(row, 0)).transpose().map_err(unavailable)
    }

    pub(super) async fn blobs(&self, prefix: &str, limit: usize) -> Result<Vec<String>, Unavailable> {
        let rows = self.ask(|reads| &reads.blobs, &[&prefix.as_bytes(), &signed(limit as u64)]).await?;
        rows.iter().map(|row| rows::text(row, 0)).collect::<Result<_, _>>().map_err(unavailable)
    }

    pub(super) async fn size(&self, plugin: &PluginName) -> Result<u64, Unavailable> {
        let rows = self.ask(|reads| &reads.size, &[&plugin.as_str()]).await?;
        rows.first().map_or(Ok(0), |row| rows::number(row, 0)).map_err(unavailable)
    }

    /// Does not wait for an outage to end.
    pub(super) async fn health(&self) -> Result<(), Unavailable> {
        let asked = self.ask_until(Instant::now() + HEALTH, false, |reads| &reads.health, &[]);
        let late = || Unavailable::new("the database does not answer");
        let rows = tokio::time::timeout(HEALTH, asked).await.map_err(|_| late())??;
        let standby = rows.first().map_or(Ok(true), |row| row.try_get(0)).map_err(Unavailable::new)?;
        if standby { Err(Unavailable::new("the database is a standby")) } else { Ok(()) }
    }

    async fn ask(&self, query: Query, params: Params<'_>) -> Result<Vec<Row>, Unavailable> {
        self.ask_until(self.outage.end(), true, query, params).await
    }

    /// A read changes nothing, so it is repeated if its answer was lost.
    async fn ask_until(&self, end: Instant, again: bool, query: Query, params: Params<'_>) -> Result<Vec<Row>, Unavailable> {
        let _permit = match self.free.try_acquire() {
            Ok(permit) => permit,
            Err(_) => timeout_at(end.into(), self.free.acquire()).await.map_err(|_| self.busy())?.map_err(Unavailable::new)?,
        };
        let mut pauses = Pauses::new();
        loop {
            match self.attempt(query, params).await {
                Ok(rows) => return Ok(rows),
                Err(Failed::Lost(reason)) => {
                    self.outage.missed(&reason);
                    if !again || !pauses.wait(end).await {
                        return Err(Unavailable::new(reason));
                    }
                }
                Err(failed) => return Err(unavailable(failed)),
            }
        }
    }

    async fn attempt(&self, query: Query, params: Params<'_>) -> Result<Vec<Row>, Failed> {
        let reader = match self.idle() {
            Some(reader) => reader,
            None => self.connect().await?,
        };
        let answer = tokio::time::timeout(self.limit, rows_of(&reader.connection.client, query(&reader.reads), params)).await;
        // A connection without an answer in time could give it to the next request.
        let answer = answer.map_err(|_| Failed::Lost("an answer did not come in time".to_owned()))?;
        if !reader.connection.client.is_closed() {
            self.idle.lock().push(reader);
        }
        answer
    }

    fn idle(&self) -> Option<Reader> {
        let mut idle = self.idle.lock();
        // The last one used has the warmest cache; closed connections are dropped here.
        std::iter::from_fn(|| idle.pop()).find(|reader| !reader.connection.client.is_closed())
    }

    async fn connect(&self) -> Result<Reader, Failed> {
        // Credentials that worked at the start will work again, so a refusal is temporary.
        let connected = self.connector.connect(Box::new(|_| {})).await;
        let connection = connected.map_err(|failed| Failed::Lost(failed.reason()))?;
        let reads = Reads::prepare(&connection.client).await?;
        self.outage.over();
        Ok(Reader { connection, reads })
    }

    fn busy(&self) -> Unavailable {
        count(&self.counters.connections_busy, 1);
        Unavailable::new("all storage.connections stayed busy")
    }
}

/// All rows, up to the limit of bytes.
async fn rows_of(client: &Client, statement: &Statement, params: Params<'_>) -> Result<Vec<Row>, Failed> {
    let mut stream = pin!(client.query_raw(statement, params.iter().copied()).await?);
    let (mut rows, mut bytes) = (Vec::new(), 0);
    let is_scan = statement.columns().len() == 2;
    while let Some(row) = stream.try_next().await? {
        if is_scan {
            bytes += row.try_get::<_, &[u8]>(0)?.len() + row.try_get::<_, &[u8]>(1)?.len();
            if bytes > MAX_SCAN_BYTES {
                return Err(Failed::Refused(format!("a read has more than {MAX_SCAN_BYTES} bytes: read fewer entries")));
            }
        }
        rows.push(row);
    }
    Ok(rows)
}

fn unavailable(failed: Failed) -> Unavailable {
    Unavailable::new(failed.reason())
}
