//! The words in a component's code: in its data, and in comparisons of its instructions. They can be read in the component, so
//! none is a user's.

use std::collections::HashSet;

use wasmparser::{Operator, Parser, Payload};

use super::MIN_PART;

/// The words of a component.
#[derive(Debug, Default)]
pub struct Vocabulary {
    /// The printable parts of its data, one per line.
    data: String,
    /// Constants of 2, 4 or 8 printable bytes: comparisons with short texts are compiled to these.
    constants: HashSet<Vec<u8>>,
}

impl Vocabulary {
    /// Parses a component. Unreadable parts are skipped.
    pub fn of(component: &[u8]) -> Self {
        let mut found = Self::default();
        for payload in Parser::new(0).parse_all(component).map_while(Result::ok) {
            match payload {
                Payload::DataSection(section) => {
                    section.into_iter().filter_map(Result::ok).for_each(|data| found.add_data(data.data));
                }
                Payload::CodeSectionEntry(body) => {
                    let Ok(operators) = body.get_operators_reader() else { continue };
                    operators.into_iter().filter_map(Result::ok).for_each(|operator| found.add_constant(&operator));
                }
                _ => {}
            }
        }
        found
    }

    /// Adds the vocabulary of another component.
    pub fn join(mut self, other: Self) -> Self {
        self.data.push('\n');
        self.data.push_str(&other.data);
        self.constants.extend(other.constants);
        self
    }

    fn add_data(&mut self, data: &[u8]) {
        for part in String::from_utf8_lossy(data).split(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER) {
            if part.len() > 1 {
                self.data.push_str(part);
                self.data.push('\n');
            }
        }
    }

    fn add_constant(&mut self, operator: &Operator<'_>) {
        let bytes = match operator {
            Operator::I32Const { value } => value.to_le_bytes().to_vec(),
            Operator::I64Const { value } => value.to_le_bytes().to_vec(),
            _ => return,
        };
        let printable = bytes.iter().take_while(|byte| byte.is_ascii_graphic() || **byte == b' ').count();
        if matches!(printable, 2 | 4 | 8) && bytes[printable..].iter().all(|byte| *byte == 0) {
            self.constants.insert(bytes[..printable].to_vec());
        }
    }

    /// Whether a text is in the component, even as a part of another word.
    pub(crate) fn contains(&self, text: &str) -> bool {
        self.data.contains(text) || self.is_compared(text.as_bytes())
    }

    /// Whether a word is likely to be in the code: a long one anywhere, a short one only at the end of a word.
    pub(crate) fn has(&self, word: &str) -> bool {
        let is_long = word.len() >= MIN_PART && !word.contains(|c: char| c.is_ascii_digit());
        if is_long { self.contains(word) } else { self.contains_word(word) }
    }

    /// Whether a word is in the component and ends there. Texts in the data follow each other without separators.
    fn contains_word(&self, word: &str) -> bool {
        let ends = |(at, _)| !self.data[at + word.len()..].starts_with(char::is_alphanumeric);
        // Comparisons with two bytes are so common that for a word of three letters they prove nothing.
        self.data.match_indices(word).any(ends) || (word.len() != 3 && self.is_compared(word.as_bytes()))
    }

    /// Whether instructions may compare with a text: its bytes are constants, the largest first, and the last may overlap.
    fn is_compared(&self, text: &[u8]) -> bool {
        let Some(size) = [8, 4, 2].into_iter().find(|size| text.len() >= *size) else { return false };
        if !self.constants.contains(&text[..size]) {
            return false;
        }
        let rest = &text[size..];
        // A single byte may be any constant.
        rest.len() < 2 || (rest.len() <= size && self.constants.contains(&text[text.len() - size..])) || self.is_compared(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary(data: &[u8], constants: &[i64]) -> Vocabulary {
        let mut found = Vocabulary::default();
        found.add_data(data);
        constants.iter().for_each(|value| found.add_constant(&Operator::I64Const { value: *value }));
        found
    }

    #[test]
    fn texts_in_the_data_are_found() {
        let found = vocabulary(b"\x01contentchatIdmissing field\x00v2/\xff", &[]);
        assert!(found.contains("chatId") && found.contains("missing field") && !found.contains("chatid"));
        assert!(found.contains_word("v2") && found.contains_word("field") && !found.contains_word("chat"));
    }

    #[test]
    fn texts_in_comparisons_are_found() {
        let chunk = |text: &str| text.bytes().rev().fold(0_i64, |number, byte| number << 8 | i64::from(byte));
        let found = vocabulary(b"", &[chunk("ADMI"), chunk("question"), chunk("STUD"), chunk("DENT")]);
        assert!(found.contains("ADMIN") && found.contains("questions") && found.contains("STUDENT"));
        assert!(vocabulary(b"", &[chunk("an")]).contains_word("an") && !vocabulary(b"", &[chunk("an")]).contains_word("ana"));
        assert!(!found.contains("STUDIO") && !found.contains("admin") && !found.contains("questionable"));
    }
}
