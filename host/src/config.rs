//! The configuration: a file, overridden by the environment, overridden by flags. Each section is defined by its module and only
//! assembled here. Every error must be found before a port is bound.

mod aliases;
pub mod doc;
mod environment;
mod exposed;
mod keys;
mod listen;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Table;

use crate::auth::config::{DEV_SECRET, LEAST_SECRET, Secret};
use crate::names::PluginName;
use crate::rooms::tap::Payloads;
use crate::telemetry::{log, traces};
use crate::{
    auth, budgets, bus, call, cluster, deploy, presence, recovery, replay, sandbox, server, socket, storage, timers, transaction,
};

pub use environment::environment;
pub use exposed::Secrets;
pub use listen::{Host, InvalidListen, Listen};
pub use tree::Error as ValueError;

/// Everything that can be configured.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub log: log::Config,
    pub traces: traces::Config,
    pub auth: auth::config::Config,
    pub cors: server::origin::Config,
    pub logins: auth::logins::Config,
    pub gateway: socket::Config,
    pub admission: socket::admission::Config,
    pub recovery: recovery::Config,
    pub once: transaction::onces::Config,
    pub shutdown: socket::drain::Config,
    pub presence: presence::Config,
    pub limits: transaction::limits::Config,
    pub quota: budgets::quota::Config,
    pub shares: budgets::shares::Config,
    pub timers: timers::Config,
    pub bus: bus::Config,
    pub sandbox: sandbox::Config,
    pub pool: call::pool::Config,
    pub breaker: call::breaker::Config,
    pub canary: deploy::releases::Config,
    pub record: replay::recording::Config,
    pub signature: deploy::checks::signature::Config,
    pub storage: storage::Config,
    pub redis: cluster::redis::Config,
    pub bridge: cluster::bridge::Config,
    pub kafka: bus::ingest::kafka::Brokers,
    pub ingest: bus::ingest::Config,
    pub egress: bus::egress::Config,
    pub api: Api,
    pub admin: Admin,
    pub plugins: BTreeMap<PluginName, Plugin>,
    /// Warnings to log: variables that look like settings, and renamed keys.
    #[serde(skip)]
    pub notes: Vec<String>,
}

/// `[server]`: the ports, the data folder and the folder of plugins.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// The public port: an address, a name such as `localhost:4100`, or `:4100` for all interfaces, IPv4 and IPv6. Port 0 takes a
    /// free port, and the log names it.
    #[schemars(with = "String")]
    pub listen: Listen,
    /// The admin port, in the same form as `listen`. Keep it on loopback or on a private network.
    #[schemars(with = "String")]
    pub admin: Listen,
    /// The folder of the embedded database and of compiled components. Only the server's own user may read it.
    pub data: PathBuf,
    /// How long a start waits for a port or a data folder that is in use, such as one that a killed server has not released yet.
    /// Past it the start fails and names what is in use.
    #[serde(deserialize_with = "crate::duration::deserialize")]
    #[schemars(with = "crate::duration::Text")]
    pub in_use_timeout: Duration,
    /// A folder of components: each `NAME.wasm` in it is the plugin NAME. Default: none, so that only plugins with a `file` under
    /// `[plugins.NAME]` are loaded.
    pub plugins: Option<PathBuf>,
}

/// `[api]`: access of backends to `/api`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// The API keys that backends send as `Authorization: Bearer KEY`, each of at least 16 bytes. Default: none, so that every
    /// call of `/api` is refused; in `dev` on loopback it is `dev-api-key`.
    pub keys: Vec<Secret>,
}

/// `[admin]`: the admin API, the dashboard and its live tap.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// The admin token that operators send as `Authorization: Bearer TOKEN`, of at least 16 bytes. Default: none, so that every
    /// call of `/admin` is refused; in `dev` on loopback it is `dev-admin-token`.
    pub token: Option<Secret>,
    /// Names of the admin port in the `Host` header of requests, in the form of `gateway.hosts`. Addresses and `localhost` are
    /// always allowed. A request with another name is answered with HTTP 421. Metric: `requests_refused`.
    pub hosts: Vec<String>,
    /// TCP connections of the admin port; 0 means no limit. Past it only `/ready` and `/metrics` are answered, and every other
    /// request with HTTP 503. Metric: `limits_passed`.
    pub tcp_connections: u64,
    /// Dashboards that are connected at the same time. Past it another dashboard is refused. Metric: `admin_watchers_refused`.
    pub watchers: usize,
    /// Updates that may wait for one dashboard; there is one update a second. Past it that dashboard misses updates. Metric:
    /// `admin_figures_dropped`.
    pub watcher_queue: usize,
    /// Users and rooms that the live tap follows at the same time. Past it another tap is refused. Metric: `admin_taps_refused`.
    pub taps: usize,
    /// Records that may wait for one live tap. Past it records are dropped. Metric: `admin_tap_records_dropped`.
    pub tap_queue: usize,
    /// How much the live tap shows of an event, and `hubbub dead list` of a message: `none` shows name, size, time and outcome,
    /// `full` shows the arguments as well. Default: `none`; `full` in `dev`.
    pub tap_payloads: Option<Payloads>,
}

/// `[plugins.NAME]`: one plugin. In the name of an environment variable `_` is written for `-`.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Plugin {
    /// The component's file. Default: `NAME.wasm` in the folder `server.plugins`.
    pub file: Option<PathBuf>,
    /// The oldest version that may run, such as `1.2.0`. An older release is not deployed, not started and not the target of a
    /// rollback. Default: any version.
    #[schemars(with = "Option<String>")]
    pub min_version: Option<deploy::checks::versions::LeastVersion>,
    /// The interfaces that the component may import, such as `store`. A component that imports another one fails staging.
    /// Default: all interfaces.
    pub grants: Option<Vec<deploy::checks::grants::Interface>>,
    /// The door policies of the plugin's namespaces, by namespace. See `[plugins.NAME.doors."/namespace"]`.
    pub doors: deploy::checks::doors::Configured,
    pub quota: budgets::quota::Own,
    /// The plugin's own settings, which it is initialized with. The host itself reads one of them: `tenant_path` names the place
    /// of the tenant in the data of a message, such as `org.id`.
    pub config: serde_json::Map<String, serde_json::Value>,
}

impl fmt::Debug for Plugin {
    // The plugin's settings may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.config.keys().collect();
        f.debug_struct("Plugin").field("file", &self.file).field("grants", &self.grants).field("config", &keys).finish()
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: Listen::loopback(4100),
            admin: Listen::loopback(4101),
            data: ".hubbub".into(),
            in_use_timeout: Duration::from_secs(1),
            plugins: None,
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            token: None,
            hosts: Vec::new(),
            tcp_connections: 256,
            watchers: 32,
            watcher_queue: 16,
            taps: 8,
            tap_queue: 512,
            tap_payloads: None,
        }
    }
}

/// The mode of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Public development secrets, and pages of this machine are allowed.
    Dev,
    /// `Dev` for a server that other machines reach: secrets that are not configured are generated.
    Exposed,
    Serve,
}

/// An invalid configuration. No error may show a value or a line of the file, because it may hold a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{file}: {why}", file = file.display())]
    File { file: PathBuf, why: std::io::Error },
    #[error("{file}: line {line}, column {column}: {why}", file = file.display())]
    Syntax { file: PathBuf, line: usize, column: usize, why: String },
    #[error("{file}: {why}", file = file.display())]
    FileValue { file: PathBuf, why: ValueError },
    #[error("{0}")]
    Value(ValueError),
    #[error("{variable}: {why}")]
    Environment { variable: String, why: String },
    #[error("{old} and {new} are both set, and the first is the old name of the second: remove {old}")]
    BothNames { old: String, new: String },
    #[error("{0} is empty, which would grant access to everyone")]
    EmptySecret(&'static str),
    #[error("{0} has less than {LEAST_SECRET} bytes: it can be guessed. Make one with `openssl rand -hex 16`")]
    ShortSecret(String),
    #[error("{0} is the public default of `hubbub dev`")]
    DevDefault(String),
    #[error("no key to check tokens with: set JWT_SECRET, or list keys under [auth]")]
    NoKey,
    #[error("the secret `{DEV_SECRET}` is the public one of `hubbub dev`")]
    DevSecret,
    #[error("the secret `{0}` is public and only for loopback, but --expose accepts other machines")]
    Exposed(&'static str),
    #[error("a cluster (REDIS_URL) needs storage that its nodes share: set DATABASE_URL")]
    NoSharedStorage,
}

/// The API key of `hubbub dev` on loopback. `serve` refuses it.
const DEV_API_KEY: &str = "dev-api-key";

/// The admin token of `hubbub dev` on loopback. `serve` refuses it.
const DEV_ADMIN_TOKEN: &str = "dev-admin-token";

/// The standard variable with the address of the OpenTelemetry collector.
const OTLP_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// The variable of the operator's commands, which differs from the server's by one `_`.
const COMMANDS_TOKEN: &str = "HUBBUB_ADMIN_TOKEN";

/// Loads the configuration from a file and the environment.
pub fn load(mode: Mode, file: Option<&Path>, environment: &BTreeMap<String, String>) -> Result<Config, ConfigError> {
    let Some(file) = file else { return assemble(mode, Table::new(), environment) };
    assemble(mode, read(file)?, environment).map_err(|error| match error {
        ConfigError::Value(why) if why.variable.is_none() => ConfigError::FileValue { file: file.to_owned(), why },
        other => other,
    })
}

/// Overrides the file with the environment, and checks the result.
pub(crate) fn assemble(mode: Mode, table: Table, environment: &BTreeMap<String, String>) -> Result<Config, ConfigError> {
    let mut root = tree::Place::of_file(toml::Value::Table(table));
    let mut notes = environment::overlay(&mut root, environment)?;
    notes.extend(aliases::rename(&mut root)?);
    let mut config = Config::deserialize(root).map_err(ConfigError::Value)?;
    config.notes = notes;
    let variable = |name: &str| environment.get(name).filter(|value| !value.trim().is_empty()).cloned();
    if let Some(secret) = variable("JWT_SECRET") {
        config.auth.add_secret("JWT_SECRET", &secret);
    }
    if let Some(url) = variable("REDIS_URL") {
        config.redis.url = Some(url.into());
    }
    if let Some(url) = variable("DATABASE_URL") {
        config.storage.url = Some(storage::Url::from(url));
    }
    if let Some(brokers) = variable("KAFKA_BROKERS") {
        config.kafka.brokers = brokers;
    }
    if config.traces.endpoint.is_none() {
        config.traces.endpoint = variable(OTLP_ENDPOINT);
    }
    if config.admin.token.is_none() && variable(COMMANDS_TOKEN).is_some() {
        config.notes.push(format!("{COMMANDS_TOKEN} is for the operator's commands; the server's own is HUBBUB_ADMIN__TOKEN"));
    }
    config.check_secrets()?;
    match mode {
        Mode::Dev => {
            config.fill_in_dev();
            config.fill_in_known_secrets();
        }
        Mode::Exposed => {
            config.check_exposed()?;
            config.fill_in_dev();
        }
        Mode::Serve => config.check_serve()?,
    }
    Ok(config)
}

impl Config {
    fn fill_in_dev(&mut self) {
        if self.cors.origins.is_empty() {
            self.cors = server::origin::Config::dev();
        }
        // In development a restart must not take seconds.
        self.shutdown.spread.get_or_insert_default();
        self.admin.tap_payloads.get_or_insert(Payloads::Full);
        self.gateway.hosts.get_or_insert_default();
    }

    fn fill_in_known_secrets(&mut self) {
        if self.auth.keys.is_empty() {
            self.auth.add_secret("dev", DEV_SECRET);
        }
        if self.api.keys.is_empty() {
            self.api.keys.push(DEV_API_KEY.to_owned().into());
        }
        self.admin.token.get_or_insert_with(|| DEV_ADMIN_TOKEN.to_owned().into());
    }

    /// Refuses the public secrets.
    fn check_exposed(&self) -> Result<(), ConfigError> {
        let secrets = self.auth.keys.iter().filter_map(|key| key.secret.as_ref());
        let known = secrets.chain(&self.api.keys).chain(&self.admin.token).map(Secret::expose);
        match known
            .into_iter()
            .find_map(|secret| [DEV_SECRET, DEV_API_KEY, DEV_ADMIN_TOKEN].into_iter().find(|dev| secret == *dev))
        {
            Some(known) => Err(ConfigError::Exposed(known)),
            None => self.check_bearers(),
        }
    }

    fn check_secrets(&self) -> Result<(), ConfigError> {
        let is_empty = |secret: &Secret| secret.expose().trim().is_empty();
        if self.api.keys.iter().any(is_empty) {
            return Err(ConfigError::EmptySecret("an entry of api.keys"));
        }
        if self.admin.token.as_ref().is_some_and(is_empty) {
            return Err(ConfigError::EmptySecret("admin.token"));
        }
        Ok(())
    }

    /// The secrets that are sent as `Authorization: Bearer`, with their keys.
    fn bearers(&self) -> impl Iterator<Item = (String, &Secret)> {
        let keys = self.api.keys.iter().enumerate().map(|(at, key)| (format!("api.keys.{at}"), key));
        keys.chain(self.admin.token.iter().map(|token| ("admin.token".to_owned(), token)))
    }

    /// Refuses public secrets, and short ones that can be guessed.
    fn check_bearers(&self) -> Result<(), ConfigError> {
        for (key, secret) in self.bearers() {
            if [DEV_API_KEY, DEV_ADMIN_TOKEN].contains(&secret.expose()) {
                return Err(ConfigError::DevDefault(key));
            }
            if secret.expose().trim().len() < LEAST_SECRET {
                return Err(ConfigError::ShortSecret(key));
            }
        }
        Ok(())
    }

    fn check_serve(&self) -> Result<(), ConfigError> {
        if self.auth.keys.is_empty() {
            return Err(ConfigError::NoKey);
        }
        let is_dev = |key: &auth::config::KeyConfig| key.secret.as_ref().is_some_and(|secret| secret.expose() == DEV_SECRET);
        if self.auth.keys.iter().any(is_dev) {
            return Err(ConfigError::DevSecret);
        }
        self.check_bearers()?;
        if self.redis.url.is_some() && self.storage.url.is_none() {
            return Err(ConfigError::NoSharedStorage);
        }
        Ok(())
    }
}

fn read(file: &Path) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(file).map_err(|why| ConfigError::File { file: file.to_owned(), why })?;
    text.parse().map_err(|error: toml::de::Error| {
        // The position without the line itself, which the parser's message quotes.
        let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        ConfigError::Syntax { file: file.to_owned(), line, column, why: error.message().to_owned() }
    })
}
