//! Checks every request before its route runs: `Host` must be a name of the port, and the `Origin` of a browser must be allowed. It
//! must never refuse a client that is no browser because of its origin.

use std::sync::Arc;

use axum::response::Response;
use http::{HeaderValue, Method, Request, StatusCode, header};

use super::hosts::{Hosts, authorities};
use super::origin::Origins;
use crate::telemetry::{Metrics, Often, RefusedLabels};

/// Builds an error in a port's form from a status, a title and the details.
pub type Answer = fn(StatusCode, &'static str, &'static str) -> Response;

/// The guard of one port.
pub struct Guard {
    /// `public` or `admin`, as metrics and log name it.
    pub listener: &'static str,
    pub hosts: Hosts,
    /// Origins that are allowed besides the port's own.
    pub origins: Origins,
    /// Public paths. A page of any origin may send a read there; without CORS its browser hides the answer.
    pub open: fn(&str) -> bool,
    pub answer: Answer,
    pub metrics: Arc<Metrics>,
    pub log_limits: LogLimits,
}

/// Refusals that are logged at most once a minute.
#[derive(Default)]
pub struct LogLimits {
    hosts: Often,
    origins: Often,
}

impl Guard {
    /// The answer to a refused request; none if it is allowed.
    pub fn refuse<B>(&self, request: &Request<B>) -> Option<Response> {
        if let Some(host) = authorities(request).find(|authority| !self.hosts.allows(authority)) {
            self.count("host");
            if let Some(refused) = self.log_limits.hosts.happened() {
                let (listener, host) = (self.listener, format!("{host:.128}"));
                tracing::warn!(listener, refused, host, "requests are refused: their Host is not a name of this port");
            }
            let detail = "this port is not reached by the name in Host; the configuration lists its names";
            return Some((self.answer)(StatusCode::MISDIRECTED_REQUEST, "This host is not allowed", detail));
        }
        if !self.allows_origin(request) {
            self.count("origin");
            if let Some(refused) = self.log_limits.origins.happened() {
                let origin = request.headers().get(header::ORIGIN).and_then(|origin| origin.to_str().ok()).unwrap_or("?");
                let (listener, origin) = (self.listener, format!("{origin:.128}"));
                tracing::warn!(listener, refused, origin, "requests are refused: they are from pages of another origin");
            }
            let detail = "pages of this origin may send nothing here";
            return Some((self.answer)(StatusCode::FORBIDDEN, "This origin is not allowed", detail));
        }
        None
    }

    fn count(&self, reason: &'static str) {
        self.metrics.requests_refused.get_or_create(&RefusedLabels { listener: self.listener, reason }).inc();
    }

    fn allows_origin<B>(&self, request: &Request<B>) -> bool {
        let mut origins = request.headers().get_all(header::ORIGIN).iter().peekable();
        if origins.peek().is_none() {
            return true;
        }
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if is_read && (self.open)(request.uri().path()) {
            return true;
        }
        origins.all(|origin| self.origins.allows_header(Some(origin.as_bytes())) || self.is_own(origin, request))
    }

    /// Whether the origin equals the request's target. Only a known name counts, because with DNS rebinding the attacker's name is both
    /// `Host` and `Origin`.
    fn is_own<B>(&self, origin: &HeaderValue, request: &Request<B>) -> bool {
        let Some((scheme, page)) = origin.to_str().ok().and_then(|origin| origin.split_once("://")) else { return false };
        let default = match scheme {
            "http" => ":80",
            "https" => ":443",
            _ => return false,
        };
        let plain = |authority: &str| authority.strip_suffix(default).unwrap_or(authority).to_ascii_lowercase();
        let mut own = authorities(request).peekable();
        own.peek().is_some() && own.all(|authority| self.hosts.is_known(authority) && plain(authority) == plain(page))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::response::IntoResponse as _;

    use super::*;
    use crate::server::origin::Config;

    fn guard(hosts: Hosts, origins: &[&str]) -> Guard {
        let origins = Config { origins: origins.iter().map(|&origin| origin.to_owned()).collect() };
        Guard {
            listener: "public",
            hosts,
            origins: Origins::load(&origins).unwrap(),
            open: |path| path == "/health",
            answer: |status, title, _| (status, title).into_response(),
            metrics: Arc::new(Metrics::new()),
            log_limits: LogLimits::default(),
        }
    }

    fn status(guard: &Guard, method: Method, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        guard.refuse(&request.body(()).unwrap()).map_or(200, |refused| refused.status().as_u16())
    }

    #[test]
    fn an_unknown_host_is_refused_and_a_missing_host_is_allowed() {
        let guard = guard(Hosts::default(), &[]);
        assert_eq!(status(&guard, Method::GET, "/x", &[("host", "evil.example")]), 421);
        assert_eq!(status(&guard, Method::GET, "http://evil.example/x", &[("host", "localhost")]), 421);
        assert_eq!(status(&guard, Method::GET, "/health", &[("host", "evil.example")]), 421);
        assert_eq!(status(&guard, Method::GET, "/x", &[]), 200);
        assert_eq!(status(&guard, Method::GET, "/x", &[("host", "localhost:4100")]), 200);
        let text = guard.metrics.encode().unwrap();
        assert!(text.contains(r#"hubbub_requests_refused_total{listener="public",reason="host"} 3"#), "{text}");
    }

    #[test]
    fn only_the_ports_own_origin_and_listed_origins_are_allowed() {
        let guard = guard(Hosts::default(), &["https://app.example"]);
        let post = |origin| status(&guard, Method::POST, "/x", &[("host", "localhost:4100"), ("origin", origin)]);
        assert_eq!(["http://localhost:4100", "https://app.example"].map(post), [200, 200]);
        assert_eq!(["http://evil.example", "http://localhost:3000", "null", "", "localhost:4100"].map(post), [403; 5]);
        let twice = [("host", "localhost:4100"), ("origin", "http://localhost:4100"), ("origin", "http://evil.example")];
        assert_eq!(status(&guard, Method::POST, "/x", &twice), 403);
        assert_eq!(status(&guard, Method::POST, "/x", &[("origin", "http://localhost:4100")]), 403, "no Host, no own origin");
        let default = [("host", "127.0.0.1"), ("origin", "http://127.0.0.1:80")];
        assert_eq!(status(&guard, Method::POST, "/x", &default), 200);
    }

    #[test]
    fn with_all_hosts_allowed_only_a_known_name_is_an_own_origin() {
        let guard = guard(Hosts::all(), &[]);
        let post = |host: &str| status(&guard, Method::POST, "/x", &[("host", host), ("origin", &format!("http://{host}"))]);
        assert_eq!((post("evil.example:4100"), post("10.0.0.7:4100")), (403, 200));
    }

    #[test]
    fn any_page_may_read_public_paths_but_not_post_to_them() {
        let guard = guard(Hosts::default(), &[]);
        let foreign = [("host", "localhost"), ("origin", "http://evil.example")];
        assert_eq!(status(&guard, Method::GET, "/health", &foreign), 200);
        assert_eq!(status(&guard, Method::POST, "/health", &foreign), 403);
        assert_eq!(status(&guard, Method::GET, "/socket.io/", &foreign), 403);
    }
}
