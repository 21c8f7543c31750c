//! Validates JSON text in one pass, without recursion and without building values.

use std::borrow::Cow;

/// The name and the arguments of an event's array.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EventText<'a> {
    /// The first element, unescaped. A number's name is its text.
    pub(crate) name: Cow<'a, str>,
    /// The other elements, without the brackets.
    pub(crate) args: &'a str,
}

/// Splits `["name",args…]`. Returns None if it is not a JSON array that begins with a string or a number.
pub(crate) fn event(text: &str) -> Option<EventText<'_>> {
    let mut scan = Scan::new(text);
    scan.open()?;
    let start = scan.at;
    match scan.peek()? {
        b'"' => scan.string()?,
        b'-' | b'0'..=b'9' => scan.number()?,
        _ => return None,
    }
    let name = &text[start..scan.at];
    let args = scan.rest_of_array(text)?;
    Some(EventText { name: unquoted(name), args })
}

/// The elements of a JSON array, without the brackets. Returns None if it is not one.
pub(crate) fn array(text: &str) -> Option<&str> {
    let mut scan = Scan::new(text);
    scan.open()?;
    let start = scan.at;
    if scan.peek()? == b']' {
        scan.at += 1;
        return scan.end().map(|()| "");
    }
    scan.value()?;
    scan.rest_of_array(text)?;
    let end = text.rfind(']')?;
    text.get(start..end).map(trim)
}

/// Whether a text is a JSON object.
pub(crate) fn is_object(text: &str) -> bool {
    let mut scan = Scan::new(text);
    scan.space();
    scan.peek() == Some(b'{') && scan.value().is_some() && scan.end().is_some()
}

/// Trims JSON's white space, which is a subset of Rust's.
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\n', '\r'])
}

/// Appends a text as a JSON string.
pub(crate) fn quote(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..0x20 => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// The content of a valid JSON string. A lone surrogate becomes U+FFFD, since Rust strings cannot hold it.
fn unquoted(json: &str) -> Cow<'_, str> {
    let Some(inside) = json.strip_prefix('"').and_then(|json| json.strip_suffix('"')) else { return Cow::Borrowed(json) };
    if !inside.contains('\\') {
        return Cow::Borrowed(inside);
    }
    let mut text = String::with_capacity(inside.len());
    let mut rest = inside;
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.push_str(plain);
        let (char, length) = unescape(escape);
        text.push(char);
        rest = escape.get(length..).unwrap_or_default();
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// The character of an escape, and its length after the backslash.
fn unescape(escape: &str) -> (char, usize) {
    let unit = |at: usize| escape.get(at..at + 4).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    match escape.as_bytes().first() {
        Some(b'b') => ('\u{8}', 1),
        Some(b'f') => ('\u{c}', 1),
        Some(b'n') => ('\n', 1),
        Some(b'r') => ('\r', 1),
        Some(b't') => ('\t', 1),
        Some(b'u') => {
            let first = unit(1).unwrap_or(0xfffd);
            let second = if escape.get(5..7) == Some("\\u") { unit(7) } else { None };
            match (first, second) {
                (0xd800..=0xdbff, Some(low @ 0xdc00..=0xdfff)) => {
                    let code = 0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00);
                    (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 11)
                }
                _ => (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 5),
            }
        }
        Some(other) => (char::from(*other), 1),
        None => (char::REPLACEMENT_CHARACTER, 0),
    }
}

/// A position in a text. Methods return None if the text is not JSON.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    fn new(text: &'a str) -> Self {
        Self { bytes: text.as_bytes(), at: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Skips the bracket of the outermost array.
    fn open(&mut self) -> Option<()> {
        self.space();
        if self.next()? != b'[' {
            return None;
        }
        self.space();
        Some(())
    }

    /// After the first element of the outermost array: the text of the other elements.
    fn rest_of_array(&mut self, text: &'a str) -> Option<&'a str> {
        let mut start = None;
        loop {
            self.space();
            let at = self.at;
            match self.next()? {
                b',' => {
                    start.get_or_insert(self.at);
                    self.value()?;
                }
                b']' => {
                    self.end()?;
                    return text.get(start.unwrap_or(at)..at).map(trim);
                }
                _ => return None,
            }
        }
    }

    /// Only white space may follow.
    fn end(&mut self) -> Option<()> {
        self.space();
        (self.at == self.bytes.len()).then_some(())
    }

    fn value(&mut self) -> Option<()> {
        let mut open = Open::default();
        loop {
            self.space();
            match self.peek()? {
                b'{' => {
                    self.at += 1;
                    self.space();
                    if self.peek()? != b'}' {
                        self.key()?;
                        open.push(true);
                        continue;
                    }
                    self.at += 1;
                }
                b'[' => {
                    self.at += 1;
                    self.space();
                    if self.peek()? != b']' {
                        open.push(false);
                        continue;
                    }
                    self.at += 1;
                }
                b'"' => self.string()?,
                b'-' | b'0'..=b'9' => self.number()?,
                b't' => self.literal(b"true")?,
                b'f' => self.literal(b"false")?,
                b'n' => self.literal(b"null")?,
                _ => return None,
            }
            if self.close(&mut open)? {
                return Some(());
            }
        }
    }

    /// After a value: skips the ends of arrays and objects that it completes. Returns whether none is open.
    fn close(&mut self, open: &mut Open) -> Option<bool> {
        while let Some(is_object) = open.last() {
            self.space();
            match (self.next()?, is_object) {
                (b',', true) => {
                    self.space();
                    self.key()?;
                    return Some(false);
                }
                (b',', false) => return Some(false),
                (b'}', true) | (b']', false) => open.pop(),
                _ => return None,
            }
        }
        Some(true)
    }

    fn key(&mut self) -> Option<()> {
        if self.peek()? != b'"' {
            return None;
        }
        self.string()?;
        self.space();
        (self.next()? == b':').then_some(())
    }

    fn string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            self.plain();
            match self.next()? {
                b'"' => return Some(()),
                b'\\' => match self.next()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => {
                        let digits = self.bytes.get(self.at..self.at + 4)?;
                        if !digits.iter().all(u8::is_ascii_hexdigit) {
                            return None;
                        }
                        self.at += 4;
                    }
                    _ => return None,
                },
                _ => return None,
            }
        }
    }

    /// Skips the bytes of a string that are neither quotes nor escapes nor control characters, eight at a time.
    fn plain(&mut self) {
        const ONES: u64 = u64::MAX / 255;
        const HIGHS: u64 = ONES << 7;
        // Exact for "any byte of the word", which is all that is needed.
        let has_less = |word: u64, than: u64| word.wrapping_sub(ONES * than) & !word & HIGHS;
        while let Some(eight) = self.bytes.get(self.at..self.at + 8) {
            let mut word = [0; 8];
            word.copy_from_slice(eight);
            let word = u64::from_le_bytes(word);
            let quote = word ^ (ONES * u64::from(b'"'));
            let backslash = word ^ (ONES * u64::from(b'\\'));
            if (has_less(word, 0x20) | has_less(quote, 1) | has_less(backslash, 1)) != 0 {
                break;
            }
            self.at += 8;
        }
        while matches!(self.peek(), Some(byte) if byte >= 0x20 && byte != b'"' && byte != b'\\') {
            self.at += 1;
        }
    }

    fn number(&mut self) -> Option<()> {
        if self.peek()? == b'-' {
            self.at += 1;
        }
        match self.next()? {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return None,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.some_digits()?;
        }
        Some(())
    }

    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn some_digits(&mut self) -> Option<()> {
        let start = self.at;
        self.digits();
        (self.at > start).then_some(())
    }

    fn literal(&mut self, word: &[u8]) -> Option<()> {
        if !self.bytes.get(self.at..)?.starts_with(word) {
            return None;
        }
        self.at += word.len();
        Some(())
    }
}

/// A stack of open arrays and objects, one bit each. The first 64 levels need no heap memory.
#[derive(Default)]
struct Open {
    depth: usize,
    last: u64,
    full: Vec<u64>,
}

impl Open {
    fn push(&mut self, is_object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.full.push(self.last);
        }
        self.last = self.last << 1 | u64::from(is_object);
        self.depth += 1;
    }

    fn last(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.last & 1 == 1)
    }

    fn pop(&mut self) {
        self.depth -= 1;
        self.last >>= 1;
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.last = self.full.pop().unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests;
