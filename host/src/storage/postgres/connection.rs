//! Making connections: the address, TLS, the settings of a session, and what an error means. Never shows the address, and never
//! trusts a session's defaults where an acknowledgement rests on them.

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

/// After this much silence the other side is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// The first and the longest wait between two tries to connect.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Why something did not happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failed {
    /// The database is not there, or not able to: try again.
    Lost(String),
    /// It answered, with a no that is about what was asked.
    Data(String),
    /// It answered, with a no of any other kind.
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
                let hint = if is_of_nobody_known(cause) { " (storage.tls_ca names who may sign it)" } else { "" };
                reason = format!("{reason}: {cause}{hint}");
            }
            return Self::Lost(reason);
        };
        let (code, reason) = (answer.code(), format!("{} ({})", answer.message(), answer.code().code()));
        // Shut down, or a standby by now; no place for one more; chosen as the one to give way.
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

/// Whether TLS failed for a certificate that none of the known authorities has signed.
fn is_of_nobody_known(cause: &(dyn std::error::Error + 'static)) -> bool {
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
    /// To connect, all of a session's settings included.
    limit: Duration,
    statement_timeout: Duration,
}

/// A connection, and the task that moves its bytes. Dropped, it is closed, whatever is under way.
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
        // A database that hangs would keep the task for as long.
        self.driver.abort();
    }
}

/// What to do at a notification, with the number of the server's process that sent it.
pub(super) type Heard = Box<dyn Fn(i32) + Send>;

impl Connector {
    pub(super) fn new(url: &Url, config: &Config) -> Result<Self, OpenError> {
        // The parser's own words quote parts of the url, and with it of the password.
        let mut to: tokio_postgres::Config = url.expose().parse().map_err(|_| OpenError::Url)?;
        // Behind the first of two `@` is a part of a password, which the name of the database would show.
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
        // Of several hosts the one that takes writes; a standby would refuse every commit.
        to.target_session_attrs(TargetSessionAttrs::ReadWrite);
        let tls = match to.get_ssl_mode() {
            SslMode::Require => Some(tls(config)?),
            // Who names authorities means to be encrypted.
            _ if config.tls_ca.is_some() => {
                return Err(OpenError::Tls("without sslmode=require in the database's url nothing is encrypted".into()));
            }
            _ => None,
        };
        let hosts = u32::try_from(to.get_hosts().len().max(1)).unwrap_or(u32::MAX);
        Ok(Self { config: to, tls, limit: limit.saturating_mul(hosts), statement_timeout: config.statement_timeout })
    }

    /// Host and database, for people.
    pub(super) fn name(&self) -> String {
        use tokio_postgres::config::Host;
        let (hosts, ports) = (self.config.get_hosts(), self.config.get_ports());
        // One port is for all hosts, and none is the usual one.
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

    pub(super) async fn connect(&self, heard: Heard) -> Result<Connection, Failed> {
        let late = || Failed::Lost("the database does not answer within storage.connect_timeout".to_owned());
        tokio::time::timeout(self.limit, self.prepare(heard)).await.map_err(|_| late())?
    }

    async fn prepare(&self, heard: Heard) -> Result<Connection, Failed> {
        let connection = match &self.tls {
            Some(tls) => {
                let (client, io) = self.config.connect(tls.clone()).await?;
                Connection { client, driver: tokio::spawn(drive(io, heard)) }
            }
            None => {
                let (client, io) = self.config.connect(NoTls).await?;
                Connection { client, driver: tokio::spawn(drive(io, heard)) }
            }
        };
        let ms = self.statement_timeout.as_millis().clamp(1, i32::MAX as u128);
        // A group's arrays are many rows to a planner that does not look inside: it must not read a table for them. An
        // acknowledgement needs the sync, whatever the server's default is.
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
            None => "the system knows no certificates: name a file of those that sign the database's".to_owned(),
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

async fn drive<S, T>(mut io: tokio_postgres::Connection<S, T>, heard: Heard)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    // What ends it, the client's pending requests are told as well.
    while let Some(Ok(message)) = poll_fn(|context| io.poll_message(context)).await {
        if let AsyncMessage::Notification(notification) = message {
            heard(notification.process_id());
        }
    }
}

/// The waits between tries, each longer than the one before, and none the same on two nodes.
pub(super) struct Pauses(Duration);

impl Pauses {
    pub(super) fn new() -> Self {
        Self(PAUSE.0)
    }

    /// Waits, unless that would go past the end: then false, at once.
    pub(super) async fn wait(&mut self, end: Instant) -> bool {
        // Without randomness all nodes come at once, which the database survives.
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
