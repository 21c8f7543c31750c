//! Connections to PostgreSQL: the address, TLS, session settings, and the classification of errors. Never shows the address, and
//! never relies on a session's defaults for durability.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::{Config, Url};
use super::OpenError;

/// The silence after which a keepalive is sent.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// The first and the longest wait between two attempts to connect.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failed {
    /// The database is not reachable or not able to answer: retry.
    Lost(String),
    /// The database refused the data of the request.
    Data(String),
    /// The database refused for any other reason.
    Refused(String),
}

impl Failed {
    pub(super) fn reason(self) -> String {
        match self {
            Self::Lost(reason) | Self::Data(reason) | Self::Refused(reason) => reason,
        }
    }
}

impl From<tokio_postgres::Error> for Failed {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(answer) = error.as_db_error() else {
            let mut reason = error.to_string();
            if let Some(cause) = std::error::Error::source(&error) {
                let hint = if has_unknown_issuer(cause) { " (storage.tls_ca sets the trusted authorities)" } else { "" };
                reason = format!("{reason}: {cause}{hint}");
            }
            return Self::Lost(reason);
        };
        let (code, reason) = (answer.code(), format!("{} ({})", answer.message(), answer.code().code()));
        // The server shuts down or is a standby now, has no free connection, or chose this transaction to resolve a deadlock.
        let passing = [
            &SqlState::READ_ONLY_SQL_TRANSACTION,
            &SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
            &SqlState::TOO_MANY_CONNECTIONS,
            &SqlState::T_R_DEADLOCK_DETECTED,
            &SqlState::T_R_SERIALIZATION_FAILURE,
            &SqlState::ADMIN_SHUTDOWN,
            &SqlState::CRASH_SHUTDOWN,
            &SqlState::CANNOT_CONNECT_NOW,
        ];
        match &code.code()[..2] {
            _ if passing.contains(&code) => Self::Lost(reason),
            "08" => Self::Lost(reason),
            "22" | "23" | "54" => Self::Data(reason),
            _ => Self::Refused(reason),
        }
    }
}

/// Whether TLS failed because no known authority has signed the certificate.
fn has_unknown_issuer(cause: &(dyn std::error::Error + 'static)) -> bool {
    let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    matches!(
        inner.and_then(|inner| inner.downcast_ref()),
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature))
    )
}

/// Makes connections to one database.
pub(super) struct Connector {
    config: tokio_postgres::Config,
    tls: Option<MakeRustlsConnect>,
    /// The limit of a connect, including the session's settings.
    limit: Duration,
    statement_timeout: Duration,
}

/// A connection with the task that drives it. Closed on drop, even during a request.
pub(super) struct Connection {
    pub(super) client: Client,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Resolves when the connection is lost.
    pub(super) async fn lost(mut self) {
        let _ = (&mut self.driver).await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A database that hangs would keep the task alive.
        self.driver.abort();
    }
}

/// Called on a notification, with the process number of the server process that sent it.
pub(super) type OnNotification = Box<dyn Fn(i32) + Send>;

impl Connector {
    pub(super) fn new(url: &Url, config: &Config) -> Result<Self, OpenError> {
        // The parser's error messages quote parts of the url, and so of the password.
        let mut to: tokio_postgres::Config = url.expose().parse().map_err(|_| OpenError::Url)?;
        // With two `@`, the text after the first is part of a password, and would be shown as the host.
        let has_password = |host: &tokio_postgres::config::Host| match host {
            tokio_postgres::config::Host::Tcp(host) => host.contains('@'),
            tokio_postgres::config::Host::Unix(_) => false,
        };
        if to.get_hosts().iter().any(has_password) {
            return Err(OpenError::Url);
        }
        let limit = config.connect_timeout.max(Duration::from_millis(1));
        if to.get_connect_timeout().is_none() {
            to.connect_timeout(limit);
        }
        if to.get_application_name().is_none() {
            to.application_name("hubbub");
        }
        to.keepalives_idle(KEEPALIVE).tcp_user_timeout(config.statement_timeout);
        // Of several hosts, the one that accepts writes; a standby would refuse every commit.
        to.target_session_attrs(TargetSessionAttrs::ReadWrite);
        let tls = match to.get_ssl_mode() {
            SslMode::Require => Some(tls(config)?),
            // A configured authority implies that the connection must be encrypted.
            _ if config.tls_ca.is_some() => {
                return Err(OpenError::Tls("without sslmode=require in the database's url nothing is encrypted".into()));
            }
            _ => None,
        };
        let hosts = u32::try_from(to.get_hosts().len().max(1)).unwrap_or(u32::MAX);
        Ok(Self { config: to, tls, limit: limit.saturating_mul(hosts), statement_timeout: config.statement_timeout })
    }

    /// Host and database, for messages.
    pub(super) fn name(&self) -> String {
        use tokio_postgres::config::Host;
        let (hosts, ports) = (self.config.get_hosts(), self.config.get_ports());
        // One port applies to all hosts; without any, the default port.
        let ports = ports.iter().chain(std::iter::repeat(ports.first().unwrap_or(&5432)));
        let hosts: Vec<_> = hosts
            .iter()
            .zip(ports)
            .map(|(host, port)| match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(path) => path.display().to_string(),
            })
            .collect();
        let database = self.config.get_dbname().or(self.config.get_user()).unwrap_or_default();
        format!("{database} at {}", hosts.join(","))
    }

    pub(super) async fn connect(&self, on_notification: OnNotification) -> Result<Connection, Failed> {
        let late = || Failed::Lost("the database does not answer within storage.connect_timeout".to_owned());
        tokio::time::timeout(self.limit, self.prepare(on_notification)).await.map_err(|_| late())?
    }

    async fn prepare(&self, on_notification: OnNotification) -> Result<Connection, Failed> {
        let connection = match &self.tls {
            Some(tls) => {
                let (client, io) = self.config.connect(tls.clone()).await?;
                Connection { client, driver: tokio::spawn(drive(io, on_notification)) }
            }
            None => {
                let (client, io) = self.config.connect(NoTls).await?;
                Connection { client, driver: tokio::spawn(drive(io, on_notification)) }
            }
        };
        let ms = self.statement_timeout.as_millis().clamp(1, i32::MAX as u128);
        // The planner expects many rows of a group's arrays: it must not scan a table for them. An acknowledgement needs the
        // sync, whatever the server's default is.
        let settings = format!(
            "SET statement_timeout = {ms}; SET idle_in_transaction_session_timeout = {ms};
            SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off;
            SET plan_cache_mode = force_generic_plan; SET jit = off;
            SELECT set_config('synchronous_commit', 'on', false)
                WHERE current_setting('synchronous_commit') IN ('off', 'local')"
        );
        connection.client.batch_execute(&settings).await?;
        Ok(connection)
    }
}

fn tls(config: &Config) -> Result<MakeRustlsConnect, OpenError> {
    let failed = |why: String| OpenError::Tls(why);
    let certificates = match &config.tls_ca {
        Some(file) => {
            let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            read.map_err(|e| failed(format!("{}: {e}", file.display())))?
        }
        None => rustls_native_certs::load_native_certs().certs,
    };
    let mut roots = RootCertStore::empty();
    if roots.add_parsable_certificates(certificates).0 == 0 {
        return Err(failed(match &config.tls_ca {
            Some(file) => format!("{} holds no certificate", file.display()),
            None => "the system has no certificates: set it to a file with the authority of the database".to_owned(),
        }));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| failed(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(client))
}

async fn drive<S, T>(mut io: tokio_postgres::Connection<S, T>, on_notification: OnNotification)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    // An error that ends the loop also fails the client's pending requests.
    while let Some(Ok(message)) = poll_fn(|context| io.poll_message(context)).await {
        if let AsyncMessage::Notification(notification) = message {
            on_notification(notification.process_id());
        }
    }
}

/// The waits between attempts: exponential backoff with jitter.
pub(super) struct Pauses(Duration);

impl Pauses {
    pub(super) fn new() -> Self {
        Self(PAUSE.0)
    }

    /// Waits, unless the wait would exceed `end`: then returns false at once.
    pub(super) async fn wait(&mut self, end: Instant) -> bool {
        // Without randomness all nodes retry at the same time, which the database survives.
        let spread = f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
        let pause = self.0.mul_f64(0.5 + 0.5 * spread);
        self.0 = (self.0 * 2).min(PAUSE.1);
        if Instant::now() + pause >= end {
            return false;
        }
        tokio::time::sleep(pause).await;
        true
    }
}
