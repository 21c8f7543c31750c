//! The node's connection to Redis: commands, and the channels that it subscribes to. It tracks whether Redis answers, and never
//! waits longer than its timeout; while Redis is unavailable, commands fail at once.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::{ClientLike, EventInterface};
use fred::types::config::{Config as FredConfig, ReconnectPolicy, TcpConfig, UnresponsiveConfig};
use fred::types::scripts::Script;
use fred::types::{Builder, FromValue, MultipleKeys, MultipleValues};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::watch;

/// `[redis]`: the Redis that makes several nodes one cluster.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `redis://USER:PASSWORD@HOST:PORT/DATABASE` of a Redis 7, or `rediss://` for TLS. The variable `REDIS_URL` overrides it.
    /// Default: none, so that the node is on its own.
    pub url: Option<Url>,
    /// The first part of every key and channel. Clusters with different prefixes can share one Redis.
    pub prefix: String,
    /// How long a command may take. Past it Redis counts as down. Metric: `cluster_redis_up`.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub timeout: Duration,
    /// The time between two heartbeats of a node.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub heartbeat: Duration,
    /// How long a node may be silent. Past it other nodes take over the work that one node does for all, such as the bus and
    /// schedules.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub node_timeout: Duration,
    /// Events that may wait to be sent to other nodes. Past it clients of the other nodes miss an event. Metric:
    /// `cluster_events_unsent`.
    pub outbox: usize,
    /// Events of other nodes that may wait to be delivered. Past it the oldest are read from the log, and are lost without recovery. Metric:
    /// `cluster_events_unheard`.
    pub inbox: usize,
    /// Changes of room counts that may wait to be written. Past it all counts are written anew.
    pub room_counts: usize,
}

impl Default for Config {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            url: None,
            prefix: "hubbub".into(),
            timeout: seconds(1),
            heartbeat: seconds(1),
            node_timeout: seconds(5),
            outbox: 16_384,
            inbox: 65_536,
            room_counts: 65_536,
        }
    }
}

/// The address of Redis. It holds a password, so it is never shown.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(from = "String")]
pub struct Url(String);

impl From<String> for Url {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redis://…")
    }
}

#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    #[error(
        "not a URL of Redis: write redis://USER:PASSWORD@HOST:PORT/DATABASE, where @ : / ? # and % of the password are \
         percent-encoded (redis.url, or a source's own redis_url)"
    )]
    Url,
    #[error("the Redis client cannot be created: {0}")]
    Client(String),
    #[error("redis.{0} must be greater than 0")]
    Zero(&'static str),
}

/// Redis does not answer, or returns an error. For the log, never for a client.
#[derive(Debug, Clone, thiserror::Error)]
#[error("Redis does not answer: {0}")]
pub struct RedisUnavailable(String);

impl RedisUnavailable {
    pub fn new(why: &str) -> Self {
        Self(why.to_owned())
    }
}

impl From<fred::error::Error> for RedisUnavailable {
    fn from(error: fred::error::Error) -> Self {
        Self(error.details().to_owned())
    }
}

/// None while Redis is unavailable, otherwise the number of this period of availability. In each new period, a node must publish
/// its state again.
pub type Epoch = Option<u64>;

pub struct Redis {
    pub client: Client,
    /// A connection for subscriptions alone, so that their messages do not delay commands.
    pub subscriber: Client,
    pub config: Config,
    epoch: watch::Sender<Epoch>,
    /// The number of the subscriber's connection. It does not get what was published between two.
    connection: watch::Sender<u64>,
    /// Whether the connection for commands has been made once.
    has_connected: AtomicBool,
    /// Whether it has answered since the start.
    has_answered: AtomicBool,
}

impl Redis {
    /// Creates the client, which does not connect before `run`. None without a URL.
    pub fn open(config: Config) -> Result<Option<Arc<Self>>, RedisError> {
        let Some(url) = &config.url else { return Ok(None) };
        let sizes = [("outbox", config.outbox), ("inbox", config.inbox), ("room_counts", config.room_counts)];
        if let Some((name, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(RedisError::Zero(name));
        }
        let builder = builder(url, config.timeout, config.inbox)?;
        let (client, subscriber) = (built(&builder)?, built(&builder)?);
        let (epoch, connection) = (watch::Sender::new(None), watch::Sender::new(0));
        let (has_connected, has_answered) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Some(Arc::new(Self { client, subscriber, config, epoch, connection, has_connected, has_answered })))
    }

    /// Connects, and reconnects whenever the connection is lost, until the future is dropped.
    pub async fn run(self: Arc<Self>) {
        let reconnected = {
            let link = self.clone();
            async move {
                let (mut commands, mut channels) = (link.client.reconnect_rx(), link.subscriber.reconnect_rx());
                loop {
                    tokio::select! {
                        _ = commands.recv() => link.has_connected.store(true, Ordering::Relaxed),
                        _ = channels.recv() => link.connection.send_modify(|connection| *connection += 1),
                    }
                    // Redis may have lost its data.
                    link.mark_down();
                }
            }
        };
        let (commands, channels) = (self.client.connect(), self.subscriber.connect());
        let _ends = Ends(vec![commands.abort_handle(), channels.abort_handle()]);
        reconnected.await;
    }

    /// The current epoch and its changes.
    pub fn epochs(&self) -> watch::Receiver<Epoch> {
        self.epoch.subscribe()
    }

    /// The number of the subscriber's connection and its changes.
    pub fn connections(&self) -> watch::Receiver<u64> {
        self.connection.subscribe()
    }

    pub fn is_up(&self) -> bool {
        self.epoch.borrow().is_some()
    }

    /// Waits for the first answer since the start, for twice the timeout of a command.
    pub async fn started(&self) {
        if !self.has_answered.load(Ordering::Relaxed) {
            let _ = tokio::time::timeout(self.config.timeout * 2, self.epochs().wait_for(Option::is_some)).await;
        }
    }

    /// Counts both connections as made, without a Redis.
    #[cfg(test)]
    pub fn connected(&self) {
        self.connection.send_replace(1);
        self.has_connected.store(true, Ordering::Relaxed);
    }

    /// Records that Redis answers. Without effect until both connections have been made once: each counts as an interruption then.
    pub fn mark_up(&self) {
        if *self.connection.borrow() == 0 || !self.has_connected.load(Ordering::Relaxed) {
            return;
        }
        self.has_answered.store(true, Ordering::Relaxed);
        self.epoch.send_if_modified(|epoch| match epoch {
            Some(_) => false,
            None => {
                static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
                *epoch = Some(NEXT.fetch_add(1, Ordering::Relaxed));
                true
            }
        });
    }

    /// Records that Redis does not answer, or has lost this node's state.
    pub fn mark_down(&self) {
        self.epoch.send_if_modified(|epoch| epoch.take().is_some());
    }

    /// The full name of a key or channel of this cluster.
    pub fn name(&self, rest: fmt::Arguments<'_>) -> String {
        format!("{}:{rest}", self.config.prefix)
    }

    /// Runs a script, which Redis executes as a whole or not at all.
    pub async fn eval<R, K, V>(&self, script: &Script, keys: K, args: V) -> Result<R, RedisUnavailable>
    where
        R: FromValue,
        K: Into<MultipleKeys> + Send,
        V: TryInto<MultipleValues> + Send,
        V::Error: Into<fred::error::Error> + Send,
    {
        if !self.is_up() {
            return Err(RedisUnavailable("the connection is down".into()));
        }
        Ok(script.evalsha_with_reload(&self.client, keys, args).await?)
    }

    /// Closes the connection after the commands that were sent.
    pub async fn close(&self) {
        // An error here only means that the connection is closed already.
        let _ = tokio::join!(self.client.quit(), self.subscriber.quit());
    }
}

/// A client apart from the cluster's, with the same settings: commands that cannot be sent, or that take over `timeout`, fail. At
/// most `inbox` messages wait to be read. The caller connects it.
pub fn client(url: &Url, timeout: Duration, inbox: usize) -> Result<Client, RedisError> {
    built(&builder(url, timeout, inbox)?)
}

fn built(builder: &Builder) -> Result<Client, RedisError> {
    builder.build().map_err(|error| RedisError::Client(error.details().to_owned()))
}

fn builder(url: &Url, timeout: Duration, inbox: usize) -> Result<Builder, RedisError> {
    // The parser's message quotes parts of the URL, which may be the password.
    let mut parsed = FredConfig::from_url(&url.0).map_err(|_| RedisError::Url)?;
    parsed.version = fred::types::RespVersion::RESP3;
    // A command that cannot be sent fails at once: a late one would be of no use.
    parsed.fail_fast = true;
    let mut builder = Builder::from_config(parsed);
    builder
        .set_policy(ReconnectPolicy::new_exponential(0, 50, 2000, 2))
        .with_performance_config(|performance| {
            performance.default_command_timeout = timeout;
            performance.broadcast_channel_capacity = inbox;
        })
        .with_connection_config(|connection| {
            connection.connection_timeout = timeout * 2;
            connection.internal_command_timeout = timeout * 2;
            connection.max_command_attempts = 1;
            connection.tcp = TcpConfig { nodelay: Some(true), ..TcpConfig::default() };
            connection.unresponsive = UnresponsiveConfig { max_timeout: Some(timeout * 5), interval: Duration::from_secs(1) };
        });
    Ok(builder)
}

/// Tasks that are aborted when this value is dropped.
pub struct Ends(pub Vec<tokio::task::AbortHandle>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::AbortHandle::abort);
    }
}
