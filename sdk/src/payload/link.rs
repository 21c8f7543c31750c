//! Links in payloads: addresses that a client opens or shows. A link that would run code, or that leads to another place than it seems
//! to, is not passed on.

use serde::{Deserialize, Deserializer};

/// Whether a text is a link that may be passed on: an `http` or `https` address with a host, or a relative address (`/lessons/7`,
/// `a.png`, `?page=2`). Not a link: any other scheme (`javascript:`, `data:`), a host without a scheme (`//example.org`), a backslash
/// (browsers read it as a slash), a space, a control character, and a character that changes the direction of writing.
///
/// ```
/// use hubbub_sdk::payload::is_link;
///
/// assert!(is_link("https://example.org/a.png") && is_link("/lessons/7"));
/// assert!(!is_link("javascript:alert(1)") && !is_link("//example.org/a.png"));
/// ```
pub fn is_link(text: &str) -> bool {
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || c == '\\' || is_direction(c);
    if text.is_empty() || text.contains(is_odd) {
        return false;
    }
    let end_of_path = text.find(['/', '?', '#']).unwrap_or(text.len());
    match text[..end_of_path].split_once(':') {
        Some((scheme, "")) if ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => {
            let host = text[end_of_path..].strip_prefix("//").unwrap_or_default();
            !host.is_empty() && !host.starts_with(['/', '?', '#'])
        }
        Some(_) => false,
        None => !text.starts_with("//"),
    }
}

fn is_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Reads a field that is a link. A text that is not a link reads as `None`, and does not fail the payload. With `default`, the field may
/// be missing.
///
/// ```
/// use hubbub_sdk::payload::link;
///
/// #[derive(serde::Deserialize)]
/// struct Author {
///     #[serde(default, deserialize_with = "link")]
///     image: Option<String>,
/// }
///
/// let read = |json| serde_json::from_str::<Author>(json).map(|author| author.image);
/// assert_eq!(read(r#"{"image":"/ana.png"}"#)?.as_deref(), Some("/ana.png"));
/// assert_eq!(read(r#"{"image":"javascript:alert(1)"}"#)?, None);
/// # Ok::<(), serde_json::Error>(())
/// ```
pub fn link<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|text| is_link(text)))
}

#[cfg(test)]
mod tests {
    use super::is_link;

    #[test]
    fn web_addresses_and_relative_ones_are_links() {
        for good in [
            "https://cdn.example.org/a.png?w=1#x",
            "HTTP://example.org",
            "http://[::1]:80/",
            "/a/b:c",
            "a.png",
            "./a",
            "../a",
            "?q=a:b",
            "#top",
            "/a//b",
            "https://example.org/%20",
            "images/ção.png",
        ] {
            assert!(is_link(good), "{good}");
        }
    }

    #[test]
    fn other_schemes_and_deceptive_addresses_are_not_links() {
        for bad in [
            "",
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            "java\nscript:alert(1)",
            " javascript:alert(1)",
            "data:text/html,x",
            "vbscript:x",
            "blob:https://example.org/1",
            "file:///etc/passwd",
            "//example.org/a",
            "/\\example.org",
            "\\\\example.org",
            "https:example.org",
            "https:/example.org",
            "https://",
            "https:///a",
            "http://?x",
            "example.org:80/a",
            "/a b",
            "/a\u{202e}gpj",
            "/a\u{85}",
            "mailto:ana@example.org",
        ] {
            assert!(!is_link(bad), "{bad:?}");
        }
    }
}
