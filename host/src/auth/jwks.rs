//! JSON Web Key Sets: public keys that their issuer may replace at any time, from a file or a url. A failing, wrong or oversized
//! source never removes working keys, and never makes a connection wait longer than its timeout.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::Url;
use tokio::io::AsyncReadExt;
use tokio::sync::{Notify, Semaphore, watch};

use super::algorithm::Algorithm;
use super::config::KeyConfig;
use super::keys::{Key, KeyError, SetError};
use crate::duration::millis;

pub(crate) use set::parse;

pub(crate) mod set;

/// The most connections that wait for one refresh. The next is refused at once, as if the key were unknown.
const MAX_WAITING: usize = 1024;

/// The first pause after a failure. It doubles up to the entry's `refresh`.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// A connection waits this much longer than a refresh's own timeout, so that it sees the end of a refresh that used all of it.
const GRACE: Duration = Duration::from_millis(500);

/// The place of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    File(PathBuf),
    Url(Url),
}

impl Location {
    /// None if the text is not a url, or if others on the network could forge the answer.
    pub(crate) fn url(text: &str, dev: bool) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let safe = url.scheme() == "https" || (url.scheme() == "http" && (dev || is_loopback(&url)));
        (safe && url.has_host()).then_some(Self::Url(url))
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// One set and its limits. See [`KeyConfig`].
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    location: Location,
    pub(crate) refresh: Duration,
    timeout: Duration,
    max_bytes: usize,
    cooldown: Duration,
    /// If set, keys of other algorithms are skipped.
    algorithm: Option<Algorithm>,
}

impl Settings {
    pub(crate) fn new(location: Location, key: &KeyConfig) -> Self {
        let refresh = match location {
            Location::File(_) => Duration::from_secs(10),
            Location::Url(_) => Duration::from_secs(600),
        };
        Self {
            location,
            refresh: key.refresh.unwrap_or(refresh),
            timeout: key.timeout.unwrap_or(Duration::from_secs(5)),
            max_bytes: key.max_bytes.unwrap_or(256 * 1024),
            cooldown: key.cooldown.unwrap_or(Duration::from_secs(30)),
            algorithm: key.alg,
        }
    }
}

/// One set that is refreshed.
pub(crate) struct Source {
    name: String,
    settings: Settings,
    client: Option<reqwest::Client>,
    request: Mutex<Request>,
    kick: Notify,
    waiting: Semaphore,
    /// The number of finished attempts, successful or not.
    attempts: watch::Sender<u64>,
}

#[derive(Default)]
struct Request {
    /// When a refresh was last requested, by the steady clock.
    at_ms: Option<u64>,
    /// Whether an attempt is due or running.
    pending: bool,
}

impl Source {
    pub(crate) fn new(name: &str, settings: Settings) -> Result<Self, KeyError> {
        let client = match &settings.location {
            Location::File(_) => None,
            Location::Url(url) => Some(client(url, &settings).map_err(|e| KeyError::Client(e.to_string()))?),
        };
        Ok(Self {
            name: name.to_owned(),
            settings,
            client,
            request: Mutex::default(),
            kick: Notify::new(),
            waiting: Semaphore::new(MAX_WAITING),
            attempts: watch::Sender::new(0),
        })
    }

    /// Whether another source has the same location and algorithm.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let parts = |source: &Self| (source.settings.location.clone(), source.settings.algorithm);
        parts(self) == parts(other)
    }

    /// Reads a file once, before anything runs, so that an unusable one is a configuration error. A url is fetched later: a node
    /// that restarts while the issuer is down must recover by itself once the issuer does.
    pub(crate) fn first(&self) -> Result<Option<Vec<Key>>, SetError> {
        use std::io::Read;
        let Location::File(path) = &self.settings.location else { return Ok(None) };
        let mut body = Vec::new();
        std::fs::File::open(path)?.take(self.settings.max_bytes as u64 + 1).read_to_end(&mut body)?;
        self.parse(&body).map(Some)
    }

    /// Refreshes the set in a loop, and publishes each new valid one. Never returns.
    pub(crate) async fn run(&self, publish: impl Fn(Vec<Key>)) {
        let mut last = Vec::new();
        let mut failures = 0_u32;
        loop {
            self.request().pending = true;
            match self.attempt(&mut last).await {
                Ok(keys) => {
                    failures = 0;
                    if let Some(keys) = keys {
                        tracing::info!(key = self.name, keys = keys.len(), "took a new key set");
                        publish(keys);
                    }
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    tracing::warn!(key = self.name, failures, %error, "kept the old key set");
                }
            }
            self.request().pending = false;
            self.attempts.send_modify(|attempts| *attempts += 1);
            tokio::select! {
                () = tokio::time::sleep(self.pause(failures)) => {}
                () = self.kick.notified() => {}
            }
        }
    }

    /// Requests a refresh because a token names an unknown key, and waits for its end. False if none was made: within the
    /// cooldown, past the timeout, or with too many connections waiting.
    pub(crate) async fn refreshed(&self, steady_ms: u64) -> bool {
        let Ok(_permit) = self.waiting.try_acquire() else { return false };
        let mut attempts = self.attempts.subscribe();
        {
            let mut request = self.request();
            if !request.pending {
                let cooldown = millis(self.settings.cooldown);
                if request.at_ms.is_some_and(|at| steady_ms.saturating_sub(at) < cooldown) {
                    return false;
                }
                *request = Request { at_ms: Some(steady_ms), pending: true };
                self.kick.notify_one();
            }
        }
        let end = tokio::time::timeout(self.settings.timeout.saturating_add(GRACE), attempts.changed()).await;
        matches!(end, Ok(Ok(())))
    }

    /// Completes after the next attempt that ends from now on.
    #[cfg(test)]
    pub(crate) fn next_attempt(&self) -> impl Future<Output = ()> + use<> {
        let mut attempts = self.attempts.subscribe();
        async move {
            let _ = attempts.changed().await;
        }
    }

    fn request(&self) -> parking_lot::MutexGuard<'_, Request> {
        self.request.lock()
    }

    /// The set, if it differs from `last`.
    async fn attempt(&self, last: &mut Vec<u8>) -> Result<Option<Vec<Key>>, SetError> {
        let body = tokio::time::timeout(self.settings.timeout, self.read()).await.map_err(|_| SetError::Timeout)??;
        if body == *last {
            return Ok(None);
        }
        let keys = self.parse(&body)?;
        *last = body;
        Ok(Some(keys))
    }

    async fn read(&self) -> Result<Vec<u8>, SetError> {
        match (&self.settings.location, &self.client) {
            (Location::Url(url), Some(client)) => fetch(client, url.clone(), self.settings.max_bytes).await,
            (Location::Url(_), None) => Err(SetError::NotASet),
            (Location::File(path), _) => {
                let mut body = Vec::new();
                let file = tokio::fs::File::open(path).await?;
                file.take(self.settings.max_bytes as u64 + 1).read_to_end(&mut body).await?;
                Ok(body)
            }
        }
    }

    fn parse(&self, body: &[u8]) -> Result<Vec<Key>, SetError> {
        if body.len() > self.settings.max_bytes {
            return Err(SetError::TooLarge(self.settings.max_bytes));
        }
        let (keys, skipped) = parse(body, self.settings.algorithm)?;
        for why in skipped {
            tracing::warn!(key = self.name, why, "skipped a key of the set");
        }
        Ok(keys)
    }

    /// With jitter, so that the nodes of a cluster do not fetch at the same moment.
    fn pause(&self, failures: u32) -> Duration {
        // Without randomness all nodes fetch at once, which an issuer can bear.
        let spread = f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
        if failures == 0 {
            return self.settings.refresh.mul_f64(0.9 + 0.1 * spread);
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << (failures - 1).min(16));
        pause.min(self.settings.refresh).mul_f64(0.5 + 0.5 * spread)
    }
}

fn client(url: &Url, settings: &Settings) -> reqwest::Result<reqwest::Client> {
    let client = reqwest::Client::builder()
        .timeout(settings.timeout)
        .user_agent("hubbub")
        // A redirect could lead from the issuer to any host, past the check of the url.
        .redirect(reqwest::redirect::Policy::none());
    if is_loopback(url) { client.no_proxy().build() } else { client.build() }
}

async fn fetch(client: &reqwest::Client, url: Url, max_bytes: usize) -> Result<Vec<u8>, SetError> {
    let mut response = client.get(url).header("accept", "application/jwk-set+json, application/json").send().await?;
    if !response.status().is_success() {
        return Err(SetError::Status(response.status().as_u16()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > max_bytes {
            return Err(SetError::TooLarge(max_bytes));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
