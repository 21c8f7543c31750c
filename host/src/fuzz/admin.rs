//! An operator's request before it reaches a handler: the checks of `Host` and `Origin`, the login, the query, the names and the body.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, LazyLock};

use axum::extract::Query;
use axum::response::IntoResponse as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};

use crate::admin::requests::{DeployQuery, LetterSelection, MAX_IDS, Page, RecordQuery};
use crate::auth::logins::{self, Logins};
use crate::call::canary::Trial;
use crate::deploy::checks::signature::{self, HEADER, Signers};
use crate::names::PluginName;
use crate::proxies;
use crate::server::api::bearer;
use crate::server::guard::{Guard, LogLimits};
use crate::server::hosts::Hosts;
use crate::server::origin::Origins;
use crate::telemetry::Metrics;

/// The operator's token, too long for a fuzzer to find.
const TOKEN: &str = "a token that random bytes never match";

struct Port {
    guard: Guard,
    logins: Logins,
    signers: Signers,
}

static PORT: LazyLock<Port> = LazyLock::new(|| {
    let metrics = Arc::new(Metrics::new());
    let guard = Guard {
        listener: "admin",
        hosts: Hosts::default(),
        origins: Origins::default(),
        open: |_| false,
        answer: |status, title, _| (status, title).into_response(),
        metrics: metrics.clone(),
        log_limits: LogLimits::default(),
    };
    // A public key without a private key.
    let signature = signature::Config { keys: vec![STANDARD.encode([0x58; 32])] };
    let signers = Signers::load(&signature).expect("a key of 32 bytes");
    Port { guard, logins: Logins::new("admin", &logins::Config::default(), metrics), signers }
});

/// An HTTP/1.1 request. If it passes the guard, it names only this machine, and its parsed values are within their limits.
pub fn admin(bytes: &[u8]) {
    let Some((request, body)) = request(bytes) else { return };
    let headers = request.headers();
    if PORT.guard.refuse(&request).is_none() {
        let hosts = headers.get_all(header::HOST).iter().chain(headers.get_all(header::ORIGIN));
        let names = hosts.map(|value| value.to_str().expect("the guard refuses other bytes than text"));
        for name in names.chain(request.uri().authority().map(|authority| authority.as_str())) {
            assert!(name.is_empty() || is_of_this_machine(name), "{name} got past the guard");
        }
    }
    let address = proxies::client(Ipv4Addr::LOCALHOST.into(), headers, &["0.0.0.0/0".parse().expect("a network")]);
    let denied = PORT.logins.check(Some(address), bearer(headers), |token| token == TOKEN);
    assert!(denied.is_err(), "logged in by {:?}", bearer(headers));
    let signature = headers.get(HEADER).and_then(|signature| signature.to_str().ok());
    assert!(PORT.signers.check(body, signature).is_err(), "a forged signature was accepted");
    names(request.uri().path());
    queries(request.uri());
    if let Ok(which) = LetterSelection::read(body) {
        assert!(which.ids.len() <= MAX_IDS && (!which.ids.is_empty() || which.plugin.is_some() || which.topic.is_some()));
    }
}

/// Parses a request line, headers up to an empty line, and a body. None if HTTP would refuse it.
fn request(bytes: &[u8]) -> Option<(Request<()>, &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let (head, body) = (&bytes[..end], bytes.get(end + 2..).unwrap_or_default());
    let mut lines = head.split(|byte| *byte == b'\n');
    let (method, target) = str::from_utf8(lines.next()?).ok()?.split_once(' ')?;
    let mut request = Request::builder().method(method.parse::<Method>().ok()?).uri(target).body(()).ok()?;
    let mut headers = HeaderMap::new();
    for line in lines.take(64) {
        let at = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..at]).ok()?;
        headers.append(name, HeaderValue::from_bytes(line[at + 1..].trim_ascii()).ok()?);
    }
    *request.headers_mut() = headers;
    Some((request, body))
}

/// Whether an authority or origin is loopback or an address. It must share no code with the guard under test.
fn is_of_this_machine(name: &str) -> bool {
    let authority = name.split_once("://").map_or(name, |(_, authority)| authority);
    let host = match authority.strip_prefix('[') {
        Some(rest) => return rest.split(']').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => authority.split(':').next().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase(),
    };
    host == "localhost" || host.ends_with(".localhost") || host.parse::<IpAddr>().is_ok()
}

/// Plugins' names become file names and keys in storage, so they may have only safe characters.
fn names(path: &str) {
    for part in path.split('/') {
        if let Ok(name) = PluginName::parse(part) {
            let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
            assert!(name.as_str() == part && part.bytes().all(is_plain) && !part.is_empty() && part.len() <= 64, "{part:?}");
        }
    }
}

fn queries(uri: &http::Uri) {
    if let Ok(Query(how)) = Query::<DeployQuery>::try_from_uri(uri)
        && let Ok(Some(Trial::Canary(percent) | Trial::Shadow(percent))) = how.trial()
    {
        assert!((1..=100).contains(&percent), "{percent} percent");
    }
    if let Ok(Query(what)) = Query::<RecordQuery>::try_from_uri(uri)
        && let Ok(share) = what.share()
    {
        assert!((1..=100).contains(&share), "{share} percent of {:?}", what.time);
    }
    drop(Query::<Page>::try_from_uri(uri));
}
