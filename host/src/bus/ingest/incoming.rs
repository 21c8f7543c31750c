//! Converts a message of another system to a message of the bus. Messages that cannot be converted are rejected here with a
//! reason; only overlong data is shortened.

use sha2::{Digest, Sha256};

use crate::json;
use crate::names::{self, MAX_NAME};
use crate::storage::{BadMessage, OutboxMessage};
use crate::telemetry::traces::TraceParent;

/// Bytes of a rejected message's data that its dead letter shows. The source has all of it.
const SHOWN: usize = 16 << 10;

/// One message as received.
#[derive(Debug, Default)]
pub struct Incoming {
    pub topic: String,
    pub key: Option<Vec<u8>>,
    pub tenant: Option<String>,
    /// Unique among all messages of the source, so that a message that is received twice is handled once.
    pub id: String,
    pub data: Vec<u8>,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// The span that sent it, if the source gave one that can be parsed.
    pub trace: Option<TraceParent>,
    /// Why it cannot be parsed, if the source found an error; `data` is then the whole message.
    pub wrong: Option<String>,
}

/// A message that cannot be accepted.
#[derive(Debug)]
pub struct Rejected {
    /// The part of it that an operator is shown.
    pub message: OutboxMessage,
    /// The reason in metrics.
    pub reason: &'static str,
    pub error: String,
}

impl Incoming {
    /// The message, checked like any other publisher's. Its trace is set by the host.
    pub fn into_message(self) -> Result<OutboxMessage, Box<Rejected>> {
        let Self { topic, key, tenant, id, data, at_ms, trace: _, wrong } = self;
        let data = match String::from_utf8(data) {
            Ok(data) => json::into_well_formed(data),
            Err(error) => {
                let data = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let message = OutboxMessage { id, topic, key: key.map(text), tenant, data, hops: 0, at_ms, trace: None };
                return Err(Box::new(Rejected::new(message, "not_json", "its data is no UTF-8 text".to_owned())));
            }
        };
        let key = key.filter(|key| !key.is_empty()).map(text);
        let message = OutboxMessage { id, topic, key, tenant, data, hops: 0, at_ms, trace: None };
        if let Some(wrong) = wrong {
            return Err(Box::new(Rejected::new(message, "not_a_message", wrong)));
        }
        let bad = match message.check() {
            Ok(()) => return Ok(message),
            Err(bad) => bad,
        };
        let reason = match &bad {
            BadMessage::Name(_) if names::check_topic(&message.topic).is_err() => "bad_topic",
            BadMessage::Name(_) => "bad_name",
            BadMessage::Data(_) => "not_json",
            BadMessage::Bytes => "too_large",
        };
        Err(Box::new(Rejected::new(message, reason, bad.to_string())))
    }
}

impl Rejected {
    fn new(message: OutboxMessage, reason: &'static str, mut error: String) -> Self {
        let OutboxMessage { id, topic, key, tenant, mut data, at_ms, .. } = message;
        if data.len() > SHOWN {
            error = format!("{error} (of its {} bytes the first {SHOWN} are shown)", data.len());
            data.truncate(data.floor_char_boundary(SHOWN));
        }
        let (id, topic) = (clean(&id), clean(&topic));
        let (key, tenant) = (key.as_deref().map(clean), tenant.as_deref().map(clean));
        // Always JSON, since the data of a dead letter is parsed as JSON.
        let data = serde_json::Value::String(data).to_string();
        Self { message: OutboxMessage { id, topic, key, tenant, data, hops: 0, at_ms, trace: None }, reason, error }
    }
}

/// A key as the bus stores it. A key that is not a valid name is replaced by its hash, so that messages of one key stay in order.
fn text(key: Vec<u8>) -> String {
    match String::from_utf8(key) {
        Ok(key) if names::check("key", &key).is_ok() => key,
        Ok(key) => hashed(key.as_bytes()),
        Err(error) => hashed(error.as_bytes()),
    }
}

fn hashed(key: &[u8]) -> String {
    let digest = Sha256::digest(key);
    digest.iter().fold(String::from("sha256:"), |text, byte| format!("{text}{byte:02x}"))
}

/// Text from outside, safe to show.
fn clean(text: &str) -> String {
    let clean: String = text.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect();
    if clean.is_empty() { "?".to_owned() } else { clean }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::storage::MAX_SET_BYTES;

    fn incoming(topic: &str, key: &[u8], data: &[u8]) -> Incoming {
        let (topic, key, data) = (topic.to_owned(), Some(key.to_vec()), data.to_vec());
        Incoming { topic, key, data, id: "kafka:t:0:1".to_owned(), ..Incoming::default() }
    }

    #[test]
    fn a_well_formed_message_keeps_its_key_or_a_hash_of_it() {
        assert_eq!(incoming("a.b", b"k", b"{}").into_message().unwrap().key.as_deref(), Some("k"));
        assert_eq!(incoming("a.b", b"", b"{}").into_message().unwrap().key, None);
        let binary = incoming("a.b", &[0xff, 0], b"{}").into_message().unwrap().key.unwrap();
        assert_eq!(binary, incoming("a.b", &[0xff, 0], b"1").into_message().unwrap().key.unwrap());
        assert!(binary.starts_with("sha256:") && names::check("key", &binary).is_ok());
    }

    #[test]
    fn half_a_surrogate_pair_becomes_the_replacement_character() {
        let message = incoming("a.b", b"k", br#"{"title":"cut \ud83d"}"#).into_message().unwrap();
        assert_eq!(message.data, "{\"title\":\"cut \u{fffd}\"}");
    }

    #[test]
    fn malformed_messages_are_rejected_with_their_reason() {
        let large = vec![b'1'; MAX_SET_BYTES];
        let cases: [(&str, &[u8], &str); 5] = [
            ("a.b", b"no json", "not_json"),
            ("a.b", b"", "not_json"),
            ("a.b", b"\xff\xfe", "not_json"),
            ("No Topic", b"{}", "bad_topic"),
            ("a.b", &large, "too_large"),
        ];
        for (topic, data, reason) in cases {
            let rejected = incoming(topic, b"k", data).into_message().unwrap_err();
            assert_eq!(rejected.reason, reason);
            assert!(serde_json::from_str::<String>(&rejected.message.data).unwrap().len() <= SHOWN);
        }
        let tenant = Incoming { tenant: Some("a\u{1f}b".to_owned()), ..incoming("a.b", b"k", b"{}") };
        let rejected = tenant.into_message().unwrap_err();
        assert_eq!((rejected.reason, rejected.message.tenant.as_deref()), ("bad_name", Some("ab")));
    }
}
