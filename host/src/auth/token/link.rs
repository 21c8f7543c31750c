//! Which texts of the claim `image` are links. The rule is the one of the SDK's `payload::is_link`, by which plugins check what backends
//! publish.

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
        // It would take the page's scheme, and lead to another host.
        None => !text.starts_with("//"),
    }
}

#[cfg(test)]
mod tests {
    use super::is_link;

    #[test]
    fn web_addresses_and_relative_ones_are_links_and_nothing_else() {
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
