//! The configuration: a file, then the environment, then flags. Every section belongs to the module it configures; here they are
//! only put together, and a mistake anywhere is found before a port is bound.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use crate::cluster::tap::Payloads;
use crate::gateway::keys::DEV_SECRET;
use crate::names::PluginName;
use crate::telemetry::{log, traces};
use crate::{capability, cluster, egress, gateway, ingest, release, sandbox, storage};

/// Everything that can be configured.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub log: log::Config,
    pub traces: traces::Config,
    pub auth: gateway::keys::Config,
    pub cors: gateway::origin::Config,
    pub gateway: gateway::Config,
    pub door: gateway::limits::Config,
    pub shutdown: gateway::drain::Config,
    pub presence: capability::presence::Config,
    pub limits: capability::limits::Config,
    pub quota: capability::quota::Config,
    pub timers: capability::timers::Config,
    pub bus: release::delivery::Config,
    pub sandbox: sandbox::Config,
    pub pool: release::pool::Config,
    pub breaker: release::breaker::Config,
    pub canary: release::releases::Config,
    pub record: release::recording::Config,
    pub signature: release::signature::Config,
    pub storage: storage::Config,
    pub redis: cluster::link::Config,
    pub bridge: cluster::bridge::Config,
    pub kafka: ingest::kafka::Brokers,
    pub ingest: ingest::Config,
    pub egress: egress::Config,
    pub api: Api,
    pub admin: Admin,
    /// `[plugins.NAME]`
    pub plugins: BTreeMap<PluginName, Plugin>,
}

/// `[server]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// The public port. Default 127.0.0.1:4100.
    pub listen: SocketAddr,
    /// The operator's port. Keep it to loopback. Default 127.0.0.1:4101.
    pub admin: SocketAddr,
    /// Where the embedded database lives. Default `.hubbub`.
    pub data: PathBuf,
    /// A folder of components: each `NAME.wasm` in it is the plugin NAME. Default: none but those that `[plugins.NAME]` gives a file.
    pub plugins: Option<PathBuf>,
}

/// `[api]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// The keys that backends show as `Authorization: Bearer`. Default: none, and nobody is let in; `dev-api-key` in `dev`.
    pub keys: Vec<String>,
}

/// `[admin]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// The operator's bearer token. Default: none, and `/admin/…` lets nobody in; `dev-admin-token` in `dev`.
    pub token: Option<String>,
    /// Dashboards that are told the figures at a time. Past it one is refused, and says so. Default 32.
    pub watchers: usize,
    /// Figures that may wait to be sent to one dashboard, one a second. Past it that one misses some. Default 16.
    pub watcher_queue: usize,
    /// Users and rooms that may be listened in on at a time. Past it one is refused, and says so. Default 8.
    pub taps: usize,
    /// Records that may wait for one who listens in. Past it they are dropped, and counted. Default 512.
    pub tap_queue: usize,
    /// What who listens in is told of an event: `none` for its name, size, time and outcome, `full` for its arguments, too.
    /// Default `none`; `full` in `dev`.
    pub tap_payloads: Option<Payloads>,
}

/// `[plugins.NAME]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plugin {
    /// The component's file.
    pub file: Option<PathBuf>,
    /// The interfaces it may import, such as `store`. Default: all there are. A component that imports another is not staged.
    pub grants: Option<Vec<release::grants::Interface>>,
    /// `[plugins.NAME.doors."/namespace"]`: what differs from the doors that the plugin describes.
    pub doors: release::doors::Configured,
    /// What differs from `[quota]` for it.
    pub quota: capability::quota::Own,
    /// What the plugin is initialized with.
    pub config: serde_json::Map<String, serde_json::Value>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4100)),
            admin: SocketAddr::from(([127, 0, 0, 1], 4101)),
            data: ".hubbub".into(),
            plugins: None,
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self { token: None, watchers: 32, watcher_queue: 16, taps: 8, tap_queue: 512, tap_payloads: None }
    }
}

/// How the server is meant to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Secrets that everyone knows, and pages of this machine let in.
    Dev,
    Serve,
}

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{file}: {why}", file = file.display())]
    File { file: PathBuf, why: std::io::Error },
    #[error("{file}: {why}", file = file.display())]
    Syntax { file: PathBuf, why: toml::de::Error },
    #[error("the configuration does not hold: {0}")]
    Value(String),
    #[error("{variable}: {why}")]
    Environment { variable: String, why: String },
    #[error("no key to check tokens with: set JWT_SECRET, or list keys under [auth]")]
    NoKey,
    #[error("the secret `{DEV_SECRET}` is for `hubbub dev`: everyone knows it")]
    DevSecret,
    #[error("a cluster (REDIS_URL) needs storage that its nodes share: set DATABASE_URL")]
    NoSharedStorage,
}

/// Where every OpenTelemetry program looks for its collector.
const OTLP_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// Reads the configuration.
pub fn load(mode: Mode, file: Option<&Path>, environment: &BTreeMap<String, String>) -> Result<Config, ConfigError> {
    let table = match file {
        Some(file) => read(file)?,
        None => Table::new(),
    };
    assemble(mode, table, environment)
}

/// Puts the environment over what the file holds, and checks the whole.
pub(crate) fn assemble(mode: Mode, mut table: Table, environment: &BTreeMap<String, String>) -> Result<Config, ConfigError> {
    for (variable, value) in environment {
        if let Some(path) = variable.strip_prefix("HUBBUB_").filter(|path| path.contains("__")) {
            set(&mut table, &path.to_ascii_lowercase(), value)
                .map_err(|why| ConfigError::Environment { variable: variable.clone(), why })?;
        }
    }
    let mut config: Config = Value::Table(table).try_into().map_err(|e: toml::de::Error| ConfigError::Value(e.to_string()))?;
    if let Some(secret) = environment.get("JWT_SECRET").filter(|secret| !secret.is_empty()) {
        config.auth.add_secret("JWT_SECRET", secret);
    }
    if let Some(url) = environment.get("REDIS_URL").filter(|url| !url.is_empty()) {
        config.redis.url = Some(url.clone().into());
    }
    if let Some(url) = environment.get("DATABASE_URL").filter(|url| !url.is_empty()) {
        config.storage.url = Some(storage::Url::from(url.clone()));
    }
    if let Some(brokers) = environment.get("KAFKA_BROKERS").filter(|brokers| !brokers.is_empty()) {
        config.kafka.brokers = brokers.clone();
    }
    if config.traces.endpoint.is_none() {
        config.traces.endpoint = environment.get(OTLP_ENDPOINT).cloned();
    }
    match mode {
        Mode::Dev => config.fill_in_dev(),
        Mode::Serve => config.check_serve()?,
    }
    Ok(config)
}

impl Config {
    fn fill_in_dev(&mut self) {
        if self.auth.keys.is_empty() {
            self.auth.add_secret("dev", DEV_SECRET);
        }
        if self.cors.origins.is_empty() {
            self.cors = gateway::origin::Config::dev();
        }
        // Who works on a plugin waits for nobody.
        self.shutdown.spread.get_or_insert_default();
        if self.api.keys.is_empty() {
            self.api.keys.push("dev-api-key".into());
        }
        self.admin.tap_payloads.get_or_insert(Payloads::Full);
        self.admin.token.get_or_insert_with(|| "dev-admin-token".into());
    }

    fn check_serve(&self) -> Result<(), ConfigError> {
        if self.auth.keys.is_empty() {
            return Err(ConfigError::NoKey);
        }
        let is_dev = |key: &gateway::keys::KeyConfig| key.secret.as_ref().is_some_and(|secret| secret.expose() == DEV_SECRET);
        if self.auth.keys.iter().any(is_dev) {
            return Err(ConfigError::DevSecret);
        }
        if self.redis.url.is_some() && self.storage.url.is_none() {
            return Err(ConfigError::NoSharedStorage);
        }
        Ok(())
    }
}

fn read(file: &Path) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(file).map_err(|why| ConfigError::File { file: file.to_owned(), why })?;
    text.parse().map_err(|why| ConfigError::Syntax { file: file.to_owned(), why })
}

/// Sets `section__key` (and deeper). A value is TOML where it reads as such (`10`, `true`, `["a"]`), else text.
fn set(table: &mut Table, path: &str, value: &str) -> Result<(), String> {
    let (key, rest) = match path.split_once("__") {
        Some((key, rest)) => (key, Some(rest)),
        None => (path, None),
    };
    if key.is_empty() {
        return Err("a part of the name is empty".into());
    }
    let Some(rest) = rest else {
        let parsed = format!("value = {value}").parse::<Table>().ok().and_then(|mut parsed| parsed.remove("value"));
        table.insert(key.to_owned(), parsed.unwrap_or_else(|| Value::String(value.to_owned())));
        return Ok(());
    };
    let section = table.entry(key).or_insert_with(|| Value::Table(Table::new()));
    match section {
        Value::Table(section) => set(section, rest, value),
        _ => Err(format!("`{key}` is a value, not a section")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_environment_sets_every_key() {
        let variables = environment(&[
            ("HUBBUB_PLUGINS__CHAT__CONFIG__MESSAGES_PER_MINUTE", "0"),
            ("HUBBUB_PRESENCE__GRACE", "2s"),
            ("HUBBUB_SERVER__LISTEN", "127.0.0.1:1"),
            ("HUBBUB_CORS__ORIGINS", r#"["https://a.example"]"#),
            ("HUBBUB_BIN", "ignored"),
        ]);
        let config = load(Mode::Dev, None, &variables).unwrap();
        let chat = &config.plugins[&PluginName::parse("chat").unwrap()];
        assert_eq!(chat.config["messages_per_minute"], 0);
        assert_eq!(config.presence.grace, std::time::Duration::from_secs(2));
        assert_eq!(config.server.listen.port(), 1);
        assert_eq!(config.cors.origins, ["https://a.example"]);
    }

    #[test]
    fn the_collector_is_where_every_program_looks_for_it_unless_ours_is_named() {
        let standard = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318");
        let found = |pairs: &[(&str, &str)]| load(Mode::Dev, None, &environment(pairs)).unwrap().traces.endpoint;
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[standard]).as_deref(), Some("http://a:4318"));
        assert_eq!(found(&[standard, ("HUBBUB_TRACES__ENDPOINT", "http://b:4318")]).as_deref(), Some("http://b:4318"));
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = load(Mode::Dev, None, &environment(&[("HUBBUB_GATEWAY__MAX_PAYLAOD", "1")])).unwrap_err();
        assert!(error.to_string().contains("max_paylaod"), "{error}");
    }

    #[test]
    fn the_database_of_the_environment_goes_before_the_one_of_the_file_and_neither_is_shown() {
        let variables = [("DATABASE_URL", "postgres://u:secret@a/d"), ("HUBBUB_STORAGE__URL", "postgres://u:secret@b/d")];
        let config = load(Mode::Dev, None, &environment(&variables)).unwrap();
        assert_eq!(config.storage.url, Some(storage::Url::from("postgres://u:secret@a/d".to_owned())));
        let config = load(Mode::Dev, None, &environment(&variables[1..])).unwrap();
        assert_eq!(config.storage.url, Some(storage::Url::from("postgres://u:secret@b/d".to_owned())));
        assert!(!format!("{config:?}").contains("secret@"));
    }

    #[test]
    fn kafka_is_where_the_environment_says_and_its_properties_are_not_shown() {
        let variables = [
            ("KAFKA_BROKERS", "a:1"),
            ("HUBBUB_KAFKA__BROKERS", "b:1"),
            ("HUBBUB_KAFKA__PROPERTIES", r#"{"sasl.password" = "secret!"}"#),
        ];
        let config = load(Mode::Dev, None, &environment(&variables)).unwrap();
        assert_eq!(config.kafka.brokers, "a:1");
        assert!(!format!("{config:?}").contains("secret!"));
    }

    #[test]
    fn serve_wants_a_key_of_its_own() {
        let none = load(Mode::Serve, None, &environment(&[])).unwrap_err();
        assert!(matches!(none, ConfigError::NoKey));
        let dev = load(Mode::Serve, None, &environment(&[("JWT_SECRET", DEV_SECRET)])).unwrap_err();
        assert!(matches!(dev, ConfigError::DevSecret));
    }
}
