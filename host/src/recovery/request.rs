//! The part of a client's requests that is about recovery: whether its connection takes offsets, and which socket it was.

use http::{HeaderMap, Uri, header};
use hubbub_wire::PrivateId;
use serde::Deserialize;
use serde_json::Value;

use super::Config;
use super::offset::Offset;

/// Whether the client that opens a connection takes offsets. Some libraries pass an offset to handlers as one more argument, which
/// those written for one argument do not expect.
pub fn takes_offsets(config: &Config, uri: &Uri, headers: &HeaderMap) -> bool {
    if config.window.is_zero() || uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "recovery=0")) {
        return false;
    }
    let Some(agent) = headers.get(header::USER_AGENT) else {
        // Python's websocket-client sends an Origin and no User-Agent. No other known library does.
        return !headers.contains_key(header::ORIGIN);
    };
    let agent = agent.as_bytes().to_ascii_lowercase();
    !config.without.iter().any(|without| agent.starts_with(without.as_bytes()))
}

/// The part of a client's `auth` that is about recovery.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The private id of the socket that the client was.
    pub socket: Option<PrivateId>,
    pub offset: Given,
    /// The client takes no offsets.
    pub is_off: bool,
}

/// The offset that a client gives.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum Given {
    #[default]
    None,
    Offset(Offset),
    /// It is none that a node of Hubbub gives.
    Invalid,
}

impl Request {
    /// Reads `auth`, a JSON text. Other fields, and values of other types, are ignored.
    pub fn parse(auth: Option<&str>) -> Self {
        #[derive(Default, Deserialize)]
        struct Auth {
            #[serde(default)]
            pid: Value,
            #[serde(default)]
            offset: Value,
            #[serde(default)]
            recovery: Value,
        }
        // A derived `Deserialize` would accept an array as well.
        let object = auth.filter(|auth| auth.trim_start().starts_with('{'));
        let auth: Auth = object.and_then(|auth| serde_json::from_str(auth).ok()).unwrap_or_default();
        let offset = match &auth.offset {
            Value::Null => Given::None,
            Value::String(text) => Offset::parse(text).map_or(Given::Invalid, Given::Offset),
            _ => Given::Invalid,
        };
        let is_off = [Value::from(0), Value::from("0"), Value::from(false)].contains(&auth.recovery);
        Self { socket: auth.pid.as_str().and_then(PrivateId::parse), offset, is_off }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::offset::Position;
    use super::*;

    fn takes(query: &str, headers: &[(header::HeaderName, &str)]) -> bool {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        takes_offsets(&Config::default(), &format!("/socket.io/?{query}").parse().unwrap(), &headers)
    }

    #[test]
    fn libraries_that_pass_the_offset_on_get_none() {
        let (agent, origin) = (header::USER_AGENT, header::ORIGIN);
        assert!(takes("EIO=4", &[(agent.clone(), "Mozilla/5.0"), (origin.clone(), "http://localhost")]));
        assert!(takes("EIO=4", &[]), "Node's client over websocket");
        assert!(!takes("EIO=4&recovery=0", &[]));
        assert!(takes("EIO=4&recovery=01", &[]));
        for of_library in ["Python/3.12 aiohttp/3.9", "python-requests/2.31", "Dart/3.2 (dart:io)"] {
            assert!(!takes("EIO=4", &[(agent.clone(), of_library)]), "{of_library}");
        }
        assert!(!takes("EIO=4", &[(origin, "http://localhost")]), "Python's websocket-client");
        let off = Config { window: std::time::Duration::ZERO, ..Config::default() };
        assert!(!takes_offsets(&off, &"/socket.io/".parse().unwrap(), &HeaderMap::new()));
    }

    #[test]
    fn a_request_is_read_from_any_auth() {
        let id = PrivateId::random();
        let auth = format!(r#"{{"token":"t","pid":"{id}","offset":"0000000007.1f"}}"#);
        let offset = Given::Offset(Position { log: 7, position: 31 }.into());
        assert_eq!(Request::parse(Some(&auth)), Request { socket: Some(id), offset, is_off: false });
        for nothing in [None, Some("[1]"), Some("7"), Some(r#"{"pid":7}"#), Some(r#"{"pid":"short"}"#)] {
            assert_eq!(Request::parse(nothing), Request::default());
        }
        assert_eq!(Request::parse(Some(r#"{"offset":"x"}"#)).offset, Given::Invalid);
        assert!(Request::parse(Some(r#"{"recovery":false}"#)).is_off && Request::parse(Some(r#"{"recovery":0}"#)).is_off);
    }
}
