//! The query of a request, read as by Node's server: the last of several values counts, and percent-encoding is decoded.

use std::borrow::Cow;

/// The parameters of the engine.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Query<'a> {
    pub(crate) version: Option<Cow<'a, str>>,
    pub(crate) transport: Option<Cow<'a, str>>,
    /// The session id, if it is not empty.
    pub(crate) session: Option<Cow<'a, str>>,
    pub(crate) wants_jsonp: bool,
}

impl<'a> Query<'a> {
    pub(crate) fn parse(query: &'a str) -> Self {
        let mut parsed = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match &*unescaped(name) {
                "EIO" => parsed.version = Some(unescaped(value)),
                "transport" => parsed.transport = Some(unescaped(value)),
                "sid" => parsed.session = Some(unescaped(value)).filter(|sid| !sid.is_empty()),
                "j" => parsed.wants_jsonp = true,
                _ => {}
            }
        }
        parsed
    }
}

fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = match after {
            [high, low, ..] if *first == b'%' => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(if *first == b'+' { b' ' } else { *first }));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_counts_and_escapes_are_resolved() {
        let query = Query::parse("EIO=3&EIO=4&transport=poll%69ng&sid=a+b%&t=1&x");
        assert_eq!(query.version.as_deref(), Some("4"));
        assert_eq!(query.transport.as_deref(), Some("polling"));
        assert_eq!(query.session.as_deref(), Some("a b%"));
        assert!(!query.wants_jsonp);
        assert_eq!(Query::parse("sid=&j=0"), Query { wants_jsonp: true, ..Query::default() });
        assert_eq!(Query::parse(""), Query::default());
    }
}
