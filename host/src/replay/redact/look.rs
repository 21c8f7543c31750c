//! Collects the words of a call, with their positions, before any is replaced.

use std::collections::HashSet;

use serde_json::Number;

use super::walk::{At, Work};
use super::{Redactor, words};

/// The longest value of an enum.
const MAX_VALUE: usize = 40;

/// The words of one call.
pub(crate) struct Facts<'r> {
    redactor: &'r Redactor,
    /// Words of the input, in lower case.
    pub(crate) inputs: HashSet<String>,
    /// Hidden words of the input, in lower case, the shortest first.
    pub(crate) hidden: Vec<String>,
    /// Words of the user's ids, in lower case.
    pub(crate) identity: HashSet<String>,
    /// Words of values under names of secrets, in lower case.
    pub(crate) secret: HashSet<String>,
    /// Words in names of fields.
    pub(crate) names: HashSet<String>,
    /// Words that are a whole value, or a part of a key or name of the host.
    pub(crate) values: HashSet<String>,
    /// Numbers that are a part of a key or name of the host.
    pub(crate) places: HashSet<String>,
    /// JSON numbers, as texts.
    pub(crate) numbers: HashSet<String>,
    pub(crate) has_markup: bool,
    /// Words of the input, unchanged.
    input_words: HashSet<String>,
}

impl<'r> Facts<'r> {
    pub(crate) fn new(redactor: &'r Redactor) -> Self {
        Self {
            redactor,
            inputs: HashSet::new(),
            hidden: Vec::new(),
            identity: HashSet::new(),
            secret: HashSet::new(),
            names: HashSet::new(),
            values: HashSet::new(),
            places: HashSet::new(),
            numbers: HashSet::new(),
            has_markup: false,
            input_words: HashSet::new(),
        }
    }

    /// Determines which words are hidden.
    pub(crate) fn finish(mut self) -> Self {
        let hidden = self.input_words.iter().filter(|word| !self.redactor.keeps(word, &self)).map(|word| words::folded(word));
        let hidden: HashSet<String> = hidden.collect();
        self.hidden = hidden.into_iter().collect();
        self.hidden.sort_unstable_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
        self
    }

    fn note(&mut self, text: &str, at: At, is_value: bool) {
        for found in words::words(text) {
            let (word, folded) = (&text[found.clone()], words::folded(&text[found]));
            if at.is_id {
                self.identity.insert(folded.clone());
            }
            if at.is_hidden {
                self.secret.insert(folded.clone());
            }
            if !at.is_output {
                self.inputs.insert(folded);
                self.input_words.insert(word.to_owned());
            }
            if is_value {
                self.values.insert(word.to_owned());
            }
            if at.is_place {
                self.places.insert(word.to_owned());
            }
        }
    }
}

impl Work for Facts<'_> {
    fn hides(&self, key: &str) -> bool {
        self.redactor.hides(key)
    }

    fn text(&mut self, text: &str, at: At) -> Option<String> {
        let is_bare = !text.is_empty()
            && text.len() <= MAX_VALUE
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_:./".contains(&byte));
        let is_spaced = text.contains(char::is_whitespace);
        let is_written = at.is_hidden || at.is_written || at.is_claims || at.is_identity;
        let is_value = if at.is_place { !is_spaced } else { is_bare && !is_written && !at.is_output };
        self.has_markup |= !at.is_output && text.contains(['<', '&']);
        self.note(text, At { is_place: at.is_place && !is_spaced, ..at }, is_value);
        None
    }

    fn name(&mut self, name: &str, at: At) -> Option<String> {
        self.note(name, At { is_hidden: false, ..at }, false);
        for found in words::words(name) {
            let word = &name[found];
            // A key of digits is an id, which is often a number elsewhere.
            if word.bytes().all(|byte| byte.is_ascii_digit()) {
                self.places.insert(word.to_owned());
            } else {
                self.names.insert(word.to_owned());
            }
        }
        None
    }

    fn number(&mut self, number: &Number, at: At) -> Option<Number> {
        if !at.is_hidden && !at.is_claims {
            self.numbers.insert(number.to_string());
        }
        None
    }

    fn flag(&mut self, flag: bool, _: At) -> bool {
        flag
    }

    fn bytes(&mut self, bytes: &mut Vec<u8>, at: At) {
        let text: String = bytes.iter().map(|byte| if byte.is_ascii_alphanumeric() { char::from(*byte) } else { ' ' }).collect();
        self.note(&text, At { is_place: false, ..at }, false);
    }
}
