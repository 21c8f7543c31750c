//! Hides what people wrote, and what is secret, so that a record can be handed around: a value becomes another of the same length
//! and kind, the same one wherever it comes again, and its key to nobody. What it does not know by a key, or by having seen it under
//! one, it leaves.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};

use crate::capability::tape::nested;

/// Parts of names whose values are hidden whatever is configured.
const SECRETS: [&str; 5] = ["password", "secret", "token", "credential", "authorization"];

/// From this length on a text is looked for everywhere; a shorter one only where it has a space or an `@`. Others are words that a
/// plugin may know itself, such as a role or a status.
const TELLING: usize = 12;

/// Hides values for one record.
pub struct Redactor {
    /// In lower case.
    keys: Vec<String>,
    /// Of this record alone, and written nowhere.
    salt: [u8; 32],
}

/// Where the text was found, besides what is hidden by its key.
type Telling = Vec<String>;

impl Redactor {
    pub fn new(keys: &[String]) -> Result<Self, getrandom::Error> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt)?;
        Ok(Self { keys: keys.iter().map(|key| key.to_lowercase()).collect(), salt })
    }

    /// Hides what is secret in a plugin's configuration, where a key of whatever kind is.
    pub fn config(&self, config: &mut Map<String, Value>) {
        let mut telling = Telling::new();
        for (key, value) in config {
            self.payload(value, self.hides(key) || key.to_lowercase().ends_with("key"), &mut telling);
        }
    }

    /// Hides what is to be hidden of a kept call: in its JSON texts by their keys, then the same texts anywhere else.
    pub fn call(&self, call: &mut Value) {
        let mut telling = Telling::new();
        self.outside(call, &mut telling);
        self.echoes(call, &in_order(telling));
    }

    /// Hides what is to be hidden of a part of a call in which JSON texts are taken apart already.
    pub fn beside(&self, call: &Value, part: &mut Value) {
        let mut telling = Telling::new();
        self.outside(&mut call.clone(), &mut telling);
        self.payload(part, false, &mut telling);
        self.echoes(part, &in_order(telling));
    }

    fn hides(&self, key: &str) -> bool {
        let key = key.to_lowercase();
        self.keys.contains(&key) || SECRETS.iter().any(|secret| key.contains(secret))
    }

    /// What is around the payloads has names of our own, which are no keys; but a user is described there.
    fn outside(&self, value: &mut Value, telling: &mut Telling) {
        match value {
            Value::String(text) => self.text(text, telling),
            Value::Array(items) => items.iter_mut().for_each(|item| self.outside(item, telling)),
            Value::Object(fields) => {
                for (key, value) in fields {
                    if key == "user" { self.payload(value, false, telling) } else { self.outside(value, telling) }
                }
            }
            _ => {}
        }
    }

    fn text(&self, text: &mut String, telling: &mut Telling) {
        if let Some(mut inside) = nested(text) {
            let before = inside.clone();
            self.payload(&mut inside, false, telling);
            if inside != before {
                *text = inside.to_string();
            }
        }
    }

    /// A payload, or a part of one. `hidden`: it stands under a key that is.
    fn payload(&self, value: &mut Value, hidden: bool, telling: &mut Telling) {
        match value {
            Value::String(text) if hidden => {
                let core = text.trim();
                if core.len() >= TELLING || core.contains(|c: char| c.is_whitespace() || c == '@') {
                    telling.extend([core.to_owned(), core.to_lowercase()]);
                }
                *text = self.mask(text);
            }
            Value::String(text) => self.text(text, telling),
            Value::Number(number) if hidden => *number = self.number(number),
            Value::Bool(bool) if hidden => *bool = false,
            Value::Array(items) => items.iter_mut().for_each(|item| self.payload(item, hidden, telling)),
            Value::Object(fields) => {
                for (key, value) in fields {
                    self.payload(value, hidden || self.hides(key), telling);
                }
            }
            _ => {}
        }
    }

    /// Hides texts that were under a key wherever else they are.
    fn echoes(&self, value: &mut Value, telling: &[String]) {
        match value {
            Value::String(text) => match nested(text) {
                Some(mut inside) => {
                    let before = inside.clone();
                    self.echoes(&mut inside, telling);
                    if inside != before {
                        *text = inside.to_string();
                    }
                }
                None => self.replace(text, telling),
            },
            Value::Array(items) => items.iter_mut().for_each(|item| self.echoes(item, telling)),
            Value::Object(fields) => {
                for (mut key, mut value) in std::mem::take(fields) {
                    match value.as_str().filter(|_| key == "base64").and_then(|text| BASE64_STANDARD.decode(text).ok()) {
                        Some(bytes) => value = BASE64_STANDARD.encode(self.bytes(bytes, telling)).into(),
                        None => self.echoes(&mut value, telling),
                    }
                    self.replace(&mut key, telling);
                    fields.insert(key, value);
                }
            }
            _ => {}
        }
    }

    fn replace(&self, text: &mut String, telling: &[String]) {
        for known in telling {
            if text.contains(known.as_str()) {
                *text = text.replace(known.as_str(), &self.mask(known));
            }
        }
    }

    fn bytes(&self, mut bytes: Vec<u8>, telling: &[String]) -> Vec<u8> {
        for known in telling.iter().map(String::as_bytes).filter(|known| !known.is_empty()) {
            let mut at = 0;
            while let Some(found) = bytes[at..].windows(known.len()).position(|window| window == known) {
                let (start, mask) = (at + found, self.mask(&String::from_utf8_lossy(known)));
                at = start + known.len();
                // The mask has the same bytes: characters are replaced by ones as long.
                bytes.splice(start..at, mask.bytes());
            }
        }
        bytes
    }

    /// Another text of the same length: letters for letters, digits for digits, as long in bytes. Lower case hides as lower case of
    /// what upper case hides as, so that a plugin which folds case still finds its own keys.
    fn mask(&self, text: &str) -> String {
        let core = text.trim().to_lowercase();
        let mut stream = Stream::new(&self.salt, core.as_bytes());
        text.chars()
            .map(|c| match c {
                'a'..='z' => char::from(b'a' + stream.next() % 26),
                'A'..='Z' => char::from(b'A' + stream.next() % 26),
                '0'..='9' => char::from(b'0' + stream.next() % 10),
                c if c.is_ascii() || c.is_whitespace() => c,
                c => match c.len_utf8() {
                    2 => 'ñ',
                    3 => '字',
                    _ => '🙂',
                },
            })
            .collect()
    }

    fn number(&self, number: &Number) -> Number {
        let digits = self.mask(&number.to_string());
        // Not every text of digits is a number as long: a leading zero is none.
        let digits = digits.strip_prefix('0').map_or(digits.clone(), |rest| format!("1{rest}"));
        digits.parse().unwrap_or_else(|_| Number::from(0))
    }
}

/// The longest first: one may be a part of another.
fn in_order(mut telling: Telling) -> Telling {
    telling.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    telling.dedup();
    telling
}

/// Bytes that follow from a text and the salt, and tell neither.
struct Stream<'a> {
    salt: &'a [u8; 32],
    text: &'a [u8],
    block: [u8; 32],
    at: usize,
    blocks: u64,
}

impl<'a> Stream<'a> {
    fn new(salt: &'a [u8; 32], text: &'a [u8]) -> Self {
        Self { salt, text, block: [0; 32], at: 32, blocks: 0 }
    }

    fn next(&mut self) -> u8 {
        if self.at == self.block.len() {
            let hash = Sha256::new().chain_update(self.salt).chain_update(self.blocks.to_le_bytes()).chain_update(self.text);
            self.block = hash.finalize().into();
            (self.at, self.blocks) = (0, self.blocks + 1);
        }
        self.at += 1;
        self.block[self.at - 1]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn redacted(keys: &[&str], mut value: Value) -> Value {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        Redactor::new(&keys).unwrap().call(&mut value);
        value
    }

    #[test]
    fn a_hidden_value_keeps_its_length_and_kind() {
        let payload = json!({ "content": "Hi Ana, 42 é!", "n": 1, "sub": {"content": {"deep": [12345, true]}} });
        let hidden = redacted(&["content"], json!({ "args": payload.to_string() }));
        let hidden: Value = serde_json::from_str(hidden["args"].as_str().unwrap()).unwrap();
        let text = hidden["content"].as_str().unwrap();
        assert_eq!((text.len(), text.chars().count(), &text[2..3]), (14, 13, " "));
        assert!(!text.contains("Ana") && text.ends_with('!'), "{text}");
        assert_eq!((&hidden["n"], hidden["sub"]["content"]["deep"][0].to_string().len()), (&json!(1), 5));
    }

    #[test]
    fn the_same_text_is_hidden_the_same_wherever_it_comes_again() {
        let message = json!({ "content": "meet me at nine" }).to_string();
        let copy = json!({ "preview": "Ana: meet me at nine!" }).to_string();
        let lower = json!({ "utf8": "MEET ME AT NINE".to_lowercase() });
        let raw = json!({ "base64": BASE64_STANDARD.encode(b"\xffmeet me at nine") });
        let hidden = redacted(&["content"], json!([message, copy, lower, raw, "by/meet me at nine"]));
        let content: Value = serde_json::from_str(hidden[0].as_str().unwrap()).unwrap();
        let mask = content["content"].as_str().unwrap();
        let copy: Value = serde_json::from_str(hidden[1].as_str().unwrap()).unwrap();
        assert_eq!(copy["preview"], format!("Ana: {mask}!"));
        assert_eq!((&hidden[2]["utf8"], &hidden[4]), (&json!(mask), &json!(format!("by/{mask}"))));
        assert!(BASE64_STANDARD.decode(hidden[3]["base64"].as_str().unwrap()).unwrap().ends_with(mask.as_bytes()));
    }

    #[test]
    fn two_texts_are_not_hidden_as_one_and_short_words_stay_where_they_mean_something() {
        let texts = json!([{"email": "ana@x.test"}, {"email": "bia@x.test"}, {"email": "student", "role": "student"}]);
        let hidden = redacted(&["email"], json!(texts.to_string()));
        let hidden: Value = serde_json::from_str(hidden.as_str().unwrap()).unwrap();
        assert_ne!(hidden[0]["email"], hidden[1]["email"]);
        assert_eq!(hidden[2]["role"], "student");
    }

    #[test]
    fn secrets_are_hidden_without_being_asked_for() {
        let hidden = redacted(&[], json!({ "auth": json!({"token": "abcdef", "accessToken": "ghi"}).to_string() }));
        assert!(!hidden.to_string().contains("abcdef") && !hidden.to_string().contains("ghi"), "{hidden}");
        let mut config = json!({ "apiKey": "k-123", "limit": 10 }).as_object().unwrap().clone();
        Redactor::new(&[]).unwrap().config(&mut config);
        assert!(config["apiKey"] != "k-123" && config["limit"] == 10, "{config:?}");
    }

    #[test]
    fn our_own_names_are_no_keys() {
        let call = json!({ "event": {"name": "chat:message"}, "caller": {"user": {"id": "u1", "name": "Ana"}} });
        let hidden = redacted(&["name", "event"], call);
        assert_eq!((&hidden["event"]["name"], &hidden["caller"]["user"]["id"]), (&json!("chat:message"), &json!("u1")));
        assert_ne!(hidden["caller"]["user"]["name"], "Ana");
    }
}
