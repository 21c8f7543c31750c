//! Text from outside, made safe for an operator's terminal and logs. Control characters and those that change the writing
//! direction are escaped, so that no text controls a terminal, forges a line or imitates another text. The escapes are JSON's:
//! JSON stays JSON with the same value.

use std::borrow::Cow;
use std::fmt::Write as _;

/// One line: line breaks and tabs are escaped as well.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_command)
}

/// Text with several lines: line breaks and tabs stay.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_command(c) && c != '\n' && c != '\t')
}

/// Whether a character controls a reader or a terminal instead of being displayed: C0 and C1 controls, line and paragraph
/// separators, and direction controls.
pub fn is_command(c: char) -> bool {
    let sets_direction = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || sets_direction || matches!(c, '\u{2028}' | '\u{2029}')
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            _ if !is_escaped(c) => shown.push(c),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            _ => drop(write!(shown, "\\u{:04x}", u32::from(c))),
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_control_characters_are_escaped() {
        let direction = ['\u{61c}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}'];
        let controls = ['\0', '\u{1b}', '\u{7f}', '\u{80}', '\u{9b}', '\u{9f}', '\u{2028}', '\u{2029}'];
        for c in direction.into_iter().chain(controls) {
            let escape = format!("a\\u{:04x}b", u32::from(c));
            assert_eq!((line(&format!("a{c}b")), lines(&format!("a{c}b"))), (escape.clone().into(), escape.into()));
        }
        let plain = "São João, 日本語, 🙂, שלום, a\u{200d}b";
        assert_eq!(line(plain), plain);
        assert_eq!(line("a\r\n\tb"), "a\\r\\n\\tb");
        assert_eq!(lines("a\r\n\tb"), "a\\r\n\tb");
    }

    #[test]
    fn escaped_json_has_the_same_value() {
        let value = serde_json::json!({ "name\u{202e}": "a\u{9b}\u{2028}\n" });
        let read: serde_json::Value = serde_json::from_str(&line(&value.to_string())).unwrap_or_default();
        assert_eq!(read, value);
    }
}
