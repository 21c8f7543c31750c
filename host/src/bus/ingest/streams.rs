//! Redis Streams as a source. One node reads each stream, under one consumer name, so that the order by key holds over all nodes,
//! and the next node first reads the entries that a failed node did not acknowledge. Never acknowledges an entry that is not
//! accepted.

mod reply;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientLike as _, StreamsInterface as _};
use fred::types::Value;
use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::incoming::Incoming;
use super::pubsub::topic_of;
use super::{CHECK_INTERVAL, Ingest, LAG_INTERVAL, RETRY_INTERVAL, SetupError, Source};
use crate::cluster::redis::{self, Ends, Url};
use crate::names;
use crate::storage::MAX_SET_WRITES;
use crate::telemetry::traces::{TRACEPARENT, TraceParent};
use reply::Entry;

/// `[ingest.streams]`: Redis Streams as a source of messages.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The consumer group. It is created at the beginning of the stream, and must not be shared with other programs.
    pub group: String,
    /// The streams, at most 64: a list of names, whose entries name their `topic` (or `event`), or a table from stream to topic.
    pub streams: Names,
}

impl Default for Config {
    fn default() -> Self {
        Self { group: "hubbub".into(), streams: Names::List(Vec::new()) }
    }
}

/// Streams, with or without their own topics.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Names {
    List(Vec<String>),
    Topics(BTreeMap<String, String>),
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct ListOrTable;

        impl<'de> Visitor<'de> for ListOrTable {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of streams, or a table from stream to topic")
            }

            /// A variable writes a list with commas between the names.
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Names, E> {
                let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
                Ok(Names::List(names.map(str::to_owned).collect()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Names, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(list)).map(Names::List)
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Names, A::Error> {
                Deserialize::deserialize(MapAccessDeserializer::new(table)).map(Names::Topics)
            }
        }

        from.deserialize_any(ListOrTable)
    }
}

impl Names {
    fn pairs(&self) -> Vec<(String, Option<String>)> {
        match self {
            Self::List(names) => names.iter().map(|name| (name.clone(), None)).collect(),
            Self::Topics(topics) => topics.iter().map(|(name, topic)| (name.clone(), Some(topic.clone()))).collect(),
        }
    }

    /// All names of streams and topics.
    pub fn all(&self) -> BTreeSet<String> {
        self.pairs().into_iter().flat_map(|(name, topic)| [Some(name), topic]).flatten().collect()
    }
}

/// The most streams.
const MAX_STREAMS: usize = 64;

/// The most topics of one stream that are tracked: topics beyond them do not pause the stream.
const MAX_TOPICS: usize = 64;

/// The id at which the scan of pending entries starts.
const BEGINNING: &str = "0-0";

/// The one consumer of the group.
const CONSUMER: &str = "hubbub";

/// How long Redis waits for a new entry before it answers that there is none.
const BLOCK: Duration = Duration::from_secs(1);

/// The streams, before they are connected.
pub struct Streams {
    /// A separate connection, because it blocks.
    reader: Client,
    commands: Client,
    group: String,
    ingest: Arc<Ingest>,
    pub(crate) source: Source,
    streams: Vec<Stream>,
}

struct Stream {
    name: String,
    topic: Option<String>,
    /// Topics of its entries so far.
    seen: BTreeSet<String>,
    mine: bool,
    open: bool,
    /// The id at which to continue among the pending entries; none: all are acknowledged.
    pending: Option<String>,
    has_group: bool,
}

impl Streams {
    pub(crate) fn build(
        config: &Config,
        url: Option<&Url>,
        redis: &redis::Config,
        ingest: &Arc<Ingest>,
    ) -> Result<Option<Self>, SetupError> {
        let pairs = config.streams.pairs();
        if pairs.is_empty() {
            return Ok(None);
        }
        if pairs.len() > MAX_STREAMS {
            return Err(SetupError::TooMany("ingest.streams.streams", pairs.len(), MAX_STREAMS));
        }
        names::check("group", &config.group).map_err(|_| SetupError::Name("ingest.streams.group"))?;
        for (name, topic) in &pairs {
            names::check("stream", name).map_err(|_| SetupError::Name("a stream of ingest.streams"))?;
            topic.iter().try_for_each(|topic| names::check_topic(topic))?;
        }
        let url = url.ok_or(SetupError::NoRedis("ingest.streams"))?;
        let reader = redis::client(url, redis.timeout + BLOCK, 1)?;
        let commands = redis::client(url, redis.timeout, 1)?;
        let stream = |(name, topic)| Stream {
            name,
            topic,
            seen: BTreeSet::new(),
            mine: false,
            open: true,
            pending: None,
            has_group: false,
        };
        let streams = pairs.into_iter().map(stream).collect();
        let (group, ingest, source) = (config.group.clone(), ingest.clone(), ingest.source("streams")?);
        Ok(Some(Self { reader, commands, group, ingest, source, streams }))
    }

    /// Reads until it is dropped.
    pub(crate) async fn run(mut self) {
        let connections = [self.reader.connect(), self.commands.connect()];
        let _ends = Ends(connections.iter().map(|connection| connection.abort_handle()).collect());
        // A server that is not reachable yet is treated like a lost connection.
        let _ =
            tokio::time::timeout(BLOCK, async { tokio::join!(self.reader.wait_for_connect(), self.commands.wait_for_connect()) })
                .await;
        let (mut checked_at, mut reported_at): (Option<Instant>, Option<Instant>) = (None, None);
        loop {
            if checked_at.is_none_or(|at| at.elapsed() >= CHECK_INTERVAL) {
                checked_at = Some(Instant::now());
                self.check().await;
            }
            let mut turn = self.turn().await;
            if turn.is_ok() && reported_at.is_none_or(|at| at.elapsed() >= LAG_INTERVAL) {
                reported_at = Some(Instant::now());
                turn = self.report_lag().await.and(turn);
            }
            match turn {
                Ok(true) => self.source.outside.found(),
                Ok(false) => tokio::time::sleep(CHECK_INTERVAL).await,
                Err(error) => {
                    self.source.outside.missed(&error.details());
                    for stream in &mut self.streams {
                        // Entries of a lost answer are pending now; and a Redis that was emptied has no groups.
                        stream.pending = Some(BEGINNING.to_owned());
                        stream.has_group = false;
                    }
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
            }
        }
    }

    /// Updates which streams this node reads, and which are paused.
    async fn check(&mut self) {
        for stream in &mut self.streams {
            let mine = self.ingest.is_mine(&format!("stream:{}", stream.name));
            if mine && !stream.mine {
                stream.pending = Some(BEGINNING.to_owned());
                stream.has_group = false;
            }
            if !mine && stream.mine {
                // Another node reports these metrics from now on.
                self.ingest.services.metrics.exchange.paused(self.source.name, &stream.name, false);
                self.ingest.services.metrics.exchange.lag(self.source.name, &stream.name, 0);
            }
            stream.mine = mine;
            if mine {
                let topics: Vec<&str> = stream.topic.iter().chain(&stream.seen).map(String::as_str).collect();
                stream.open = self.ingest.is_open(&self.source, &stream.name, &topics).await;
            }
        }
    }

    /// One round over all streams: first pending entries, then new ones. False if no stream can be read.
    async fn turn(&mut self) -> Result<bool, Error> {
        let mut new = Vec::new();
        for at in 0..self.streams.len() {
            if !self.streams[at].mine || !self.streams[at].open {
                continue;
            }
            self.make_group(at).await?;
            match self.streams[at].pending.clone() {
                Some(after) => self.take_pending(at, &after).await?,
                None => new.push(self.streams[at].name.clone()),
            }
        }
        if new.is_empty() {
            return Ok(self.streams.iter().any(|stream| stream.mine && stream.open));
        }
        let ids = vec![">"; new.len()];
        let block = Some(BLOCK.as_millis() as u64);
        let read: Value =
            self.reader.xreadgroup(&self.group, CONSUMER, Some(MAX_SET_WRITES as u64), block, false, new, ids).await?;
        for (name, entries) in reply::streams(read) {
            if let Some(at) = self.streams.iter().position(|stream| stream.name == name) {
                self.take(at, entries).await?;
            }
        }
        Ok(true)
    }

    async fn make_group(&mut self, at: usize) -> Result<(), Error> {
        let stream = &mut self.streams[at];
        if stream.has_group {
            return Ok(());
        }
        let made: Result<Value, Error> = self.commands.xgroup_create(&stream.name, &self.group, "0", true).await;
        match made {
            Err(error) if !error.details().starts_with("BUSYGROUP") => Err(error),
            _ => {
                stream.has_group = true;
                Ok(())
            }
        }
    }

    /// Reads entries that were delivered but not acknowledged, to any consumer of the group.
    async fn take_pending(&mut self, at: usize, after: &str) -> Result<(), Error> {
        let (name, count) = (self.streams[at].name.clone(), Some(MAX_SET_WRITES as u64));
        let claimed: Value = self.commands.xautoclaim(name, &self.group, CONSUMER, 0, after, count, false).await?;
        let claimed = reply::claimed(claimed);
        // The stream was trimmed before these entries were accepted.
        self.ingest.services.metrics.exchange.rejected(self.source.name, "trimmed", claimed.trimmed);
        self.take(at, claimed.entries).await?;
        self.streams[at].pending = claimed.next;
        Ok(())
    }

    /// Accepts entries, then acknowledges them.
    async fn take(&mut self, at: usize, entries: Vec<Entry>) -> Result<(), Error> {
        if entries.is_empty() {
            return Ok(());
        }
        let ids: Vec<String> = entries.iter().map(|entry| entry.id.clone()).collect();
        let stream = &mut self.streams[at];
        let batch: Vec<_> = entries.into_iter().map(|entry| stream.incoming(entry)).collect();
        for incoming in &batch {
            if stream.topic.is_none() && stream.seen.len() < MAX_TOPICS && names::check_topic(&incoming.topic).is_ok() {
                stream.seen.insert(incoming.topic.clone());
            }
        }
        self.ingest.accept(&self.source, batch).await;
        let (name, group) = (&self.streams[at].name, &self.group);
        let _: Value = self.commands.xack(name, group.clone(), ids).await?;
        Ok(())
    }

    async fn report_lag(&mut self) -> Result<(), Error> {
        for stream in self.streams.iter_mut().filter(|stream| stream.mine && stream.has_group) {
            let groups: Vec<HashMap<String, Value>> = self.commands.xinfo_groups(&stream.name).await?;
            let ours = groups.iter().find(|group| group.get("name").and_then(Value::as_string).as_ref() == Some(&self.group));
            let number = |key: &str| ours.and_then(|group| group.get(key)?.as_i64()).unwrap_or(0);
            let (lag, pending) = (number("lag"), number("pending"));
            self.ingest.services.metrics.exchange.lag(self.source.name, &stream.name, lag + pending);
            if pending > 0 && stream.pending.is_none() {
                // This node has acknowledged all of its entries: a failed node left these after it had lost the stream.
                stream.pending = Some(BEGINNING.to_owned());
            }
        }
        Ok(())
    }
}

impl Stream {
    fn incoming(&self, entry: Entry) -> Incoming {
        let mut fields = entry.fields;
        let mut text = |name: &str| fields.remove(name).map(|value| String::from_utf8_lossy(&value).into_owned());
        let own_id = format!("stream:{}:{}", self.name, entry.id);
        let (topic, event) = (text("topic"), text("event"));
        let topic = self.topic.clone().or(topic).or_else(|| event.as_deref().map(topic_of));
        let at_ms = entry.id.split('-').next().and_then(|ms| ms.parse().ok()).unwrap_or(0);
        let (tenant, id) = (text("tenant"), text("id").unwrap_or(own_id));
        let (key, data) = (fields.remove("key"), fields.remove("data"));
        let trace = fields.get(TRACEPARENT).and_then(|value| TraceParent::read(value));
        let wrong = match (&topic, &data) {
            (None, _) => Some("it has neither a field `topic` nor `event`".to_owned()),
            (_, None) => Some("it has no field `data`".to_owned()),
            _ => None,
        };
        Incoming { topic: topic.unwrap_or_default(), key, tenant, id, data: data.unwrap_or_default(), at_ms, trace, wrong }
    }
}
