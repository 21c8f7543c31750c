//! The web pages that may connect: the section `[cors]`, for CORS answers and the `Origin` of websockets. An answer must never be a
//! wildcard, but name the allowed origin.

use schemars::JsonSchema;
use serde::Deserialize;

/// The most entries of `cors.origins`; more are an error.
const MAX_ORIGINS: usize = 256;

/// Hosts of this machine. An entry such as `http://localhost:*` allows every port of all of them.
const LOCAL_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// The host of a page opened under the address that a development server listens on. It needs an entry of its own.
const ANY_HOST: &str = "0.0.0.0";

/// The `Origin` of a page without one: in a sandboxed frame, or from a file in most browsers.
const OPAQUE: &str = "null";

/// `[cors]`: which web pages may connect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The allowed origins, for HTTP and for websockets, at most 256: `https://app.example.com` exactly; `http://localhost:*` for
    /// any port of this machine under `localhost`, `127.0.0.1` and `[::1]`; `http://0.0.0.0:*`; an app's origin such as
    /// `capacitor://localhost`, `ionic://localhost`, `app://-`, `chrome-extension://ID` or `file://`; `null` for every page
    /// without an origin, which any website can make; `*` for all. Default: none, so that pages of other origins are refused; the
    /// origins of this machine in `dev`.
    pub origins: Vec<String>,
}

impl Config {
    /// The defaults of `dev`: pages of this machine, on any port.
    pub fn dev() -> Self {
        Self { origins: ["http://localhost:*", "https://localhost:*", "http://0.0.0.0:*"].map(str::to_owned).to_vec() }
    }
}

/// An entry that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    #[error("cors.origins: `{entry}` {why}")]
    Entry { entry: String, why: &'static str },
    #[error("cors.origins has {0} entries, and at most {MAX_ORIGINS} are allowed")]
    TooMany(usize),
}

/// The allowed origins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    all: bool,
    local_http: bool,
    local_https: bool,
    any_http: bool,
    any_https: bool,
    /// Sorted, in the form that browsers send.
    exact: Vec<String>,
}

impl Origins {
    /// # Errors
    /// The error names the first entry that is no origin.
    pub fn load(config: &Config) -> Result<Self, OriginError> {
        if config.origins.len() > MAX_ORIGINS {
            return Err(OriginError::TooMany(config.origins.len()));
        }
        let mut origins = Self::default();
        for entry in &config.origins {
            origins.add(entry).map_err(|why| OriginError::Entry { entry: entry.clone(), why })?;
        }
        origins.exact.sort_unstable();
        Ok(origins)
    }

    fn add(&mut self, entry: &str) -> Result<(), &'static str> {
        if entry == "*" {
            self.all = true;
            return Ok(());
        }
        if entry == OPAQUE {
            self.exact.push(OPAQUE.to_owned());
            return Ok(());
        }
        let (scheme, authority) = entry.split_once("://").ok_or("has no scheme: write https://…")?;
        let scheme = scheme.to_ascii_lowercase();
        check_scheme(&scheme)?;
        let default_port = match scheme.as_str() {
            "http" => Some(":80"),
            "https" => Some(":443"),
            _ => None,
        };
        let authority = authority.to_ascii_lowercase();
        if authority.contains(['/', '?', '#', '@', ' ', '\\']) {
            return Err("has more than a scheme, a host and a port: leave out what follows them");
        }
        if let Some(host) = authority.strip_suffix(":*") {
            let any_port = match (scheme.as_str(), host) {
                ("http", ANY_HOST) => &mut self.any_http,
                ("https", ANY_HOST) => &mut self.any_https,
                ("http", host) if LOCAL_HOSTS.contains(&host) => &mut self.local_http,
                ("https", host) if LOCAL_HOSTS.contains(&host) => &mut self.local_https,
                _ => return Err("has `*` as its port, which only localhost, 127.0.0.1, [::1] and 0.0.0.0 may have"),
            };
            *any_port = true;
            return Ok(());
        }
        // The origin of a file has no host.
        if !(scheme == "file" && authority.is_empty()) {
            check_authority(&authority)?;
        }
        // Browsers leave out the scheme's default port.
        let authority = default_port.and_then(|port| authority.strip_suffix(port)).unwrap_or(&authority);
        self.exact.push(format!("{scheme}://{authority}"));
        Ok(())
    }

    /// Whether pages of an origin may connect. Browsers send it in lower case.
    pub fn allows(&self, origin: &str) -> bool {
        self.all || self.is_local(origin) || self.exact.binary_search_by(|its| its.as_str().cmp(origin)).is_ok()
    }

    /// Whether an `Origin` header is allowed. Without one the client is no browser and is allowed; cookies grant nothing, so that its
    /// token decides. A header that is not text is refused.
    pub fn allows_header(&self, header: Option<&[u8]>) -> bool {
        match header.map(str::from_utf8) {
            None => true,
            Some(Ok(origin)) => self.allows(origin),
            Some(Err(_)) => false,
        }
    }

    fn is_local(&self, origin: &str) -> bool {
        let (authority, local, any) = match origin.split_once("://") {
            Some(("http", authority)) => (authority, self.local_http, self.any_http),
            Some(("https", authority)) => (authority, self.local_https, self.any_https),
            _ => return false,
        };
        let is_at = |host: &str| match authority.strip_prefix(host) {
            Some("") => true,
            Some(rest) => rest.strip_prefix(':').is_some_and(is_port),
            None => false,
        };
        (local && LOCAL_HOSTS.into_iter().any(is_at)) || (any && is_at(ANY_HOST))
    }
}

/// Refuses schemes that no origin of a page has.
fn check_scheme(scheme: &str) -> Result<(), &'static str> {
    let is_one = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    match scheme {
        "ws" | "wss" => Err("is the address of a websocket: write the page's, https://…"),
        "ftp" | "data" | "blob" | "javascript" | "about" => Err("has a scheme that no page's origin has"),
        _ if is_one => Ok(()),
        _ => Err("has no usable scheme"),
    }
}

fn check_authority(authority: &str) -> Result<(), &'static str> {
    let (host, port) = match authority.rsplit_once(':') {
        // Colons within the brackets of an IPv6 address do not precede a port.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_name = |host: &str| host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    let is_address = |host: &str| {
        let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        inner.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
    };
    if host.contains('*') {
        return Err("has `*` in its host: name each host");
    }
    if host.is_empty() || !(is_name(host) || is_address(host)) {
        return Err("has no usable host: international names are written as browsers send them, xn--…");
    }
    match port {
        Some(port) if !is_port(port) => Err("has no usable port"),
        _ => Ok(()),
    }
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn origins(entries: &[&str]) -> Result<Origins, OriginError> {
        Origins::load(&Config { origins: entries.iter().map(|&entry| entry.to_owned()).collect() })
    }

    #[test]
    fn exact_origins_match_exactly() {
        let origins = origins(&["https://app.example.com", "HTTPS://Shop.Example.com:443", "http://10.0.0.1:8080"]).unwrap();
        for origin in ["https://app.example.com", "https://shop.example.com", "http://10.0.0.1:8080"] {
            assert!(origins.allows(origin), "{origin}");
        }
        for origin in [
            "http://app.example.com",
            "https://app.example.com:444",
            "https://app.example.com.evil.com",
            "https://evil-app.example.com",
            "https://example.com",
            "https://app.example.com/",
            "HTTPS://app.example.com",
            "http://10.0.0.1",
            "null",
            "",
            "*",
        ] {
            assert!(!origins.allows(origin), "{origin}");
        }
    }

    #[test]
    fn a_local_wildcard_allows_any_port_of_this_machine_only() {
        let origins = origins(&["http://localhost:*"]).unwrap();
        for origin in
            ["http://localhost", "http://localhost:3000", "http://localhost:65535", "http://127.0.0.1:5173", "http://[::1]:4100"]
        {
            assert!(origins.allows(origin), "{origin}");
        }
        for origin in [
            "https://localhost:3000",
            "http://localhost:",
            "http://localhost:65536",
            "http://localhost:80.evil.com",
            "http://localhost.evil.com",
            "http://localhost:3000@evil.com",
            "http://127.0.0.1.evil.com",
            "http://127.0.0.2",
            "http://localhost:3000/",
            "null",
        ] {
            assert!(!origins.allows(origin), "{origin}");
        }
    }

    #[test]
    fn only_listed_app_origins_are_allowed() {
        let named = [
            "capacitor://localhost",
            "ionic://localhost",
            "app://-",
            "chrome-extension://abcdefgh",
            "file://",
            "null",
            "tauri://localhost",
        ];
        let some = origins(&named).unwrap();
        for origin in named {
            assert!(some.allows(origin) && some.allows_header(Some(origin.as_bytes())), "{origin}");
            assert!(!origins(&["https://app.example.com"]).unwrap().allows(origin), "{origin} is not named");
        }
        for origin in [
            "http://localhost",
            "capacitor://localhost:80",
            "app://",
            "app://x",
            "chrome-extension://other",
            "file:///a",
            "Null",
            "",
        ] {
            assert!(!some.allows(origin), "{origin}");
        }
        assert!(origins(&["Capacitor://LOCALHOST"]).unwrap().allows("capacitor://localhost"));
    }

    #[test]
    fn any_address_is_an_entry_of_its_own() {
        let some = origins(&["http://0.0.0.0:*"]).unwrap();
        assert!(some.allows("http://0.0.0.0:5173") && some.allows("http://0.0.0.0"));
        for origin in ["https://0.0.0.0:5173", "http://localhost:5173", "http://0.0.0.0.evil.com", "http://0.0.0.0:99999"] {
            assert!(!some.allows(origin), "{origin}");
        }
        assert!(!origins(&["http://localhost:*"]).unwrap().allows("http://0.0.0.0:5173"));
    }

    #[test]
    fn dev_allows_only_this_machine() {
        let origins = Origins::load(&Config::dev()).unwrap();
        assert!(origins.allows("http://0.0.0.0:3000"));
        assert!(origins.allows("http://localhost:3000") && origins.allows("https://127.0.0.1:3000"));
        assert!(!origins.allows("https://example.com"));
    }

    #[test]
    fn a_missing_origin_is_allowed_and_an_unlisted_one_is_not() {
        let none = origins(&[]).unwrap();
        assert!(none.allows_header(None));
        assert!(!none.allows_header(Some(b"https://app.example.com")));
        assert!(!none.allows_header(Some(b"")));
        let all = origins(&["*"]).unwrap();
        assert!(all.allows_header(Some(b"https://app.example.com")) && all.allows_header(Some(b"null")));
        assert!(!all.allows_header(Some(b"\xff")));
    }

    #[test]
    fn a_wrong_entry_is_named() {
        for entry in [
            "",
            "app.example.com",
            "https://",
            "https://app.example.com/",
            "https://app.example.com/path",
            "https://*.example.com",
            "https://app.example.com:*",
            "https://app.example.com:0",
            "https://app.example.com:99999",
            "https://user@app.example.com",
            "https://bücher.example",
            "https://[::1",
            "https://:443",
            "ftp://app.example.com",
            "wss://app.example.com",
            "javascript://x",
            "app://",
            "app://-:*",
            "capacitor://localhost/",
            "://x",
            "1app://x",
            "file:///index.html",
            "Null",
            "**",
        ] {
            let error = origins(&["https://fine.example.com", entry]).unwrap_err();
            assert!(error.to_string().contains(&format!("`{entry}`")), "{entry}: {error}");
        }
        assert_eq!(origins(&vec!["*"; 257]), Err(OriginError::TooMany(257)));
    }
}
