//! Redacts users' texts and secrets, so that a recording can be shared. Every word is replaced by a stand-in (see `words`), the
//! same in the whole recording, so that a call behaves the same in a replay. Words of the component's code are kept: names of
//! fields, prefixes of keys, values of enums, sentences; and numbers, since the code calculates with them.

mod look;
mod vocabulary;
mod walk;
mod words;

use std::collections::{HashMap, HashSet};

use parking_lot::{Mutex, MutexGuard};
use serde_json::{Map, Number, Value};

use look::Facts;
use walk::{At, Work, walk, walk_call};

pub use vocabulary::Vocabulary;

/// Values under names that contain one of these are always hidden.
const SECRETS: [&str; 5] = ["password", "secret", "token", "credential", "authorization"];

/// Words of the host: its enums, and the schemes of links.
const HOSTS: [&str; 20] = [
    "Online",
    "Away",
    "online",
    "away",
    "Soft",
    "Durable",
    "InvalidKey",
    "ValueTooLarge",
    "NotACounter",
    "Unavailable",
    "InvalidName",
    "InvalidJson",
    "NoCaller",
    "Denied",
    "Taken",
    "RetryAfter",
    "http",
    "https",
    "mailto",
    "Bearer",
];

/// Names of HTML, which are kept in a call with markup: a plugin that sanitizes it compares with them.
const MARKUP: [&str; 40] = [
    "a",
    "abbr",
    "alt",
    "amp",
    "apos",
    "b",
    "blockquote",
    "br",
    "class",
    "code",
    "data",
    "div",
    "em",
    "gt",
    "h1",
    "h2",
    "h3",
    "href",
    "hr",
    "i",
    "iframe",
    "img",
    "javascript",
    "li",
    "lt",
    "nbsp",
    "ol",
    "onclick",
    "onerror",
    "p",
    "pre",
    "quot",
    "s",
    "script",
    "span",
    "src",
    "strong",
    "style",
    "u",
    "ul",
];

/// The most words in each cache: ids made by the code, and lookups in the component. Past it they are looked up again.
const MAX_CACHED: usize = 1 << 16;

/// The least length of an id made by the code: a word with a digit that is in the output of a call and not in its input.
const MIN_ID: usize = 6;

/// The least length of a word that is searched inside other words.
const MIN_PART: usize = 4;

/// How much is hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hide {
    /// All words that are not in the code.
    Texts,
    /// Values under names of secrets, and the same words elsewhere.
    Secrets,
}

/// Hides values in one recording.
pub struct Redactor {
    hide: Hide,
    /// In lower case.
    keys: Vec<String>,
    vocabulary: Vocabulary,
    /// Random for each recording, and never written.
    salt: [u8; 32],
    /// Hidden words of the configuration.
    configured: HashSet<String>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// Ids made by the code since the start of the recording.
    made: HashSet<String>,
    /// Whether the component contains a word.
    known: HashMap<String, bool>,
}

impl Redactor {
    /// Values under `keys` are always hidden. `vocabulary` is that of the recorded component.
    pub fn new(hide: Hide, keys: &[String], vocabulary: Vocabulary) -> Result<Self, getrandom::Error> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt)?;
        let keys = keys.iter().map(|key| key.to_lowercase()).collect();
        Ok(Self { hide, keys, vocabulary, salt, configured: HashSet::new(), memory: Mutex::default() })
    }

    /// Hides secrets in a plugin's configuration: values under names of secrets or names that end with `key`, and the user in a
    /// url. The rest is needed to initialize the plugin.
    pub fn config(&mut self, config: &mut Map<String, Value>) {
        for (key, value) in config {
            let is_secret = self.hides(key) || key.to_lowercase().ends_with("key");
            self.setting(value, is_secret);
        }
    }

    fn setting(&mut self, value: &mut Value, is_secret: bool) {
        match value {
            Value::String(text) => {
                let hidden = if is_secret { 0..text.len() } else { user_of_url(text) };
                let found: Vec<_> =
                    words::words(&text[hidden.clone()]).map(|at| at.start + hidden.start..at.end + hidden.start).collect();
                for at in found {
                    let word = text[at.clone()].to_owned();
                    text.replace_range(at, &words::pseudonym(&self.salt, &word));
                    self.configured.insert(words::folded(&word));
                }
            }
            Value::Number(number) if is_secret => *number = self.number(number),
            Value::Array(items) => items.iter_mut().for_each(|item| self.setting(item, is_secret)),
            Value::Object(fields) => {
                for (key, value) in fields {
                    let is_secret = is_secret || self.hides(key) || key.to_lowercase().ends_with("key");
                    self.setting(value, is_secret);
                }
            }
            _ => {}
        }
    }

    /// Redacts a recorded call.
    pub fn call(&self, call: &mut Value) {
        let facts = self.collect(call);
        walk_call(call, &mut Hiding { redactor: self, facts: &facts });
    }

    /// Redacts a part of a call's output.
    pub fn part_of(&self, call: &Value, part: &mut Value) {
        let facts = self.collect(&mut call.clone());
        walk(part, At::out(), &mut Hiding { redactor: self, facts: &facts });
    }

    fn collect(&self, call: &mut Value) -> Facts<'_> {
        let mut facts = Facts::new(self);
        walk_call(call, &mut facts);
        facts.inputs.extend(self.configured.iter().cloned());
        facts.identity.extend(self.configured.iter().cloned());
        facts.finish()
    }

    /// Whether all values under a key are hidden.
    fn hides(&self, key: &str) -> bool {
        let key = key.to_lowercase();
        (self.hide == Hide::Texts && self.keys.contains(&key)) || SECRETS.iter().any(|secret| key.contains(secret))
    }

    /// Whether a word of the input is kept.
    fn keeps(&self, word: &str, facts: &Facts<'_>) -> bool {
        let folded = words::folded(word);
        if self.hide == Hide::Secrets {
            return !facts.secret.contains(&folded) && !self.configured.contains(&folded);
        }
        let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
        if HOSTS.contains(&word) || (is_number && facts.numbers.contains(word)) {
            return true;
        }
        if facts.identity.contains(&folded) {
            return false;
        }
        if self.memory().made.contains(word) || (facts.has_markup && MARKUP.contains(&folded.as_str())) {
            return true;
        }
        if is_number {
            return facts.places.contains(word);
        }
        match (facts.names.contains(word), facts.values.contains(word)) {
            // A name that is not also a value, as an id would be, may be a part of another word in the data.
            (true, false) => self.cached(&format!("{word}:"), |vocabulary| vocabulary.contains(word)),
            (false, false) => false,
            _ => self.cached(word, |vocabulary| vocabulary.has(word)),
        }
    }

    /// Searches the component once for each word. The cache key of a name ends with a colon, since names are searched
    /// differently.
    fn cached(&self, word: &str, look: impl FnOnce(&Vocabulary) -> bool) -> bool {
        if let Some(known) = self.memory().known.get(word) {
            return *known;
        }
        let known = look(&self.vocabulary);
        let mut memory = self.memory();
        if memory.known.len() >= MAX_CACHED {
            memory.known.clear();
        }
        memory.known.insert(word.to_owned(), known);
        known
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Both are consistent after every change.
        self.memory.lock()
    }

    fn number(&self, number: &Number) -> Number {
        let mut text = number.to_string();
        let found: Vec<_> = words::words(&text).collect();
        for at in found {
            let hidden = words::pseudonym(&self.salt, &text[at.clone()]);
            text.replace_range(at, &hidden);
        }
        text.parse().unwrap_or_else(|_| Number::from(0))
    }
}

/// Replaces hidden words.
struct Hiding<'a> {
    redactor: &'a Redactor,
    facts: &'a Facts<'a>,
}

impl Hiding<'_> {
    /// The stand-in of a word. None: the word is kept.
    fn word(&self, word: &str, at: At) -> Option<String> {
        let (redactor, salt) = (self.redactor, &self.redactor.salt);
        let folded = words::folded(word);
        if self.facts.inputs.contains(&folded) {
            return (!redactor.keeps(word, self.facts)).then(|| words::pseudonym(salt, word));
        }
        // The code has made it: a constant, an id, or a part of an input word.
        if at.is_output && !redactor.cached(word, |vocabulary| vocabulary.has(word)) {
            if let Some(part) = self.part(word, &folded) {
                return Some(part);
            }
            let is_id = word.len() >= MIN_ID && word.contains(|c: char| c.is_ascii_digit());
            let mut memory = redactor.memory();
            if is_id && memory.made.len() < MAX_CACHED {
                memory.made.insert(word.to_owned());
            }
        }
        None
    }

    /// The stand-in of a word that is a part of a hidden word, as in a truncated text, or that contains a hidden word.
    fn part(&self, word: &str, folded: &str) -> Option<String> {
        let salt = &self.redactor.salt;
        let hidden = self.facts.hidden.iter();
        let whole =
            hidden.clone().find(|whole| whole.starts_with(folded) || (folded.len() >= MIN_PART && whole.contains(folded)));
        if let Some((whole, at)) = whole.and_then(|whole| Some((whole, whole.find(folded)?))) {
            return words::pseudonym(salt, whole).get(at..at + folded.len()).map(|part| words::recased(part, word));
        }
        let inside = hidden.filter(|inside| inside.len() >= MIN_PART && folded.contains(inside.as_str()));
        let longest = inside.max_by_key(|inside| inside.len())?;
        Some(words::recased(&folded.replace(longest.as_str(), &words::pseudonym(salt, longest)), word))
    }

    /// The end of a sentence of the code that starts here.
    fn sentence(&self, text: &str, start: usize) -> usize {
        let mut end = start;
        for at in words::words(&text[start..]) {
            let next = start + at.end;
            if !self.redactor.vocabulary.contains(&text[start..next]) {
                break;
            }
            end = next;
        }
        let is_sentence = end - start >= 3 * MIN_PART && text[start..end].contains(' ');
        if is_sentence { end } else { start }
    }

    fn hidden(&self, text: &str, at: At) -> Option<String> {
        let (mut hidden, mut done, mut skip) = (String::new(), 0, 0);
        for found in words::words(text) {
            if found.start < skip {
                continue;
            }
            if let Some(length) = words::date_time(&text[found.start..]) {
                skip = found.start + length;
                continue;
            }
            // Sentences of the code occur only in the output.
            if at.is_output && self.redactor.hide == Hide::Texts {
                skip = self.sentence(text, found.start);
                if skip > found.start {
                    continue;
                }
            }
            if let Some(other) = self.word(&text[found.clone()], at) {
                hidden.push_str(&text[done..found.start]);
                hidden.push_str(&other);
                done = found.end;
            }
        }
        (done > 0).then(|| hidden + &text[done..])
    }
}

impl Work for Hiding<'_> {
    fn hides(&self, key: &str) -> bool {
        self.redactor.hides(key)
    }

    fn text(&mut self, text: &str, at: At) -> Option<String> {
        self.hidden(text, at)
    }

    fn name(&mut self, name: &str, at: At) -> Option<String> {
        if self.redactor.hide == Hide::Texts { self.hidden(name, at) } else { None }
    }

    fn number(&mut self, number: &Number, at: At) -> Option<Number> {
        let is_hidden = at.is_hidden || (at.is_claims && self.redactor.hide == Hide::Texts);
        (is_hidden && !self.facts.numbers.contains(&number.to_string())).then(|| self.redactor.number(number))
    }

    fn flag(&mut self, flag: bool, at: At) -> bool {
        flag && !at.is_hidden
    }

    fn bytes(&mut self, bytes: &mut Vec<u8>, at: At) {
        // Texts lie between other bytes that may look like letters, so only long words are treated as text.
        let runs = bytes.split_inclusive(|byte| !byte.is_ascii_alphanumeric()).map(<[u8]>::to_vec).collect::<Vec<_>>();
        bytes.clear();
        for run in runs {
            let word = std::str::from_utf8(&run).unwrap_or_default();
            let word = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            let other = if word.len() >= MIN_PART { self.word(word, at) } else { None };
            match other {
                Some(other) => {
                    bytes.extend_from_slice(other.as_bytes());
                    bytes.extend_from_slice(&run[word.len()..]);
                }
                None => bytes.extend_from_slice(&run),
            }
        }
    }
}

/// The part of a url with the user and password: empty if there is none.
fn user_of_url(text: &str) -> std::ops::Range<usize> {
    let Some(start) = text.find("://").map(|at| at + 3) else { return 0..0 };
    let host = text[start..].find(['/', '?', '#']).map_or(text.len(), |end| start + end);
    text[start..host].rfind('@').map_or(0..0, |end| start..start + end)
}

#[cfg(test)]
mod tests;
