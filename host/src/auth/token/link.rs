//! The check for links in the claim `image`. Same rule as the SDK's `payload::is_link`, with which plugins check the messages of
//! backends.

use crate::shown::is_command;

/// An `http` or `https` address with a host, or a relative one.
pub(crate) fn is_link(text: &str) -> bool {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || is_command(c) || c == '\\') {
        return false;
    }
    let end_of_path = text.find(['/', '?', '#']).unwrap_or(text.len());
    match text[..end_of_path].split_once(':') {
        Some((scheme, "")) if ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => {
            let host = text[end_of_path..].strip_prefix("//").unwrap_or_default();
            !host.is_empty() && !host.starts_with(['/', '?', '#'])
        }
        Some(_) => false,
        // A leading `//` would use the page's scheme and lead to another host.
        None => !text.starts_with("//"),
    }
}

#[cfg(test)]
mod tests {
    use super::is_link;

    #[test]
    fn only_web_addresses_and_relative_paths_are_links() {
        for good in ["https://cdn.example.org/a.png?w=1", "HTTP://example.org", "/a/b:c", "a.png", "?q=a:b"] {
            assert!(is_link(good), "{good}");
        }
        for bad in [
            "",
            "javascript:x",
            "java\nscript:x",
            "data:image/png;base64,x",
            "//example.org/a",
            "/\\a",
            "https:///a",
            "/a\u{202e}",
        ] {
            assert!(!is_link(bad), "{bad:?}");
        }
    }
}
