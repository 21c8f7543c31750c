//! Makes safe HTML of a client's text, with an allow-list and a real parser. Patterns would miss attacks.

use std::{cell::OnceCell, collections::HashSet};

use ammonia::Builder;

/// Formatting and links. No images, no styles, no classes, no ids.
const TAGS: [&str; 15] = ["a", "b", "blockquote", "br", "code", "del", "em", "i", "li", "ol", "p", "pre", "s", "strong", "ul"];

/// The schemes of links.
const SCHEMES: [&str; 3] = ["http", "https", "mailto"];

thread_local! {
    /// The rules, built once for each instance: building them costs more than a message.
    static RULES: OnceCell<Builder<'static>> = const { OnceCell::new() };
}

/// The text as safe HTML.
pub(crate) fn clean(text: String) -> String {
    if is_plain(&text) { text } else { parsed(&text) }
}

/// Whether the parser would return the text unchanged: it has no markup, and no character that HTML reads or writes differently.
fn is_plain(text: &str) -> bool {
    !text.contains(['<', '>', '&', '\0', '\r', '\u{a0}', '\u{feff}'])
}

fn parsed(text: &str) -> String {
    RULES.with(|rules| rules.get_or_init(build_rules).clean(text).to_string())
}

fn build_rules() -> Builder<'static> {
    let mut rules = Builder::empty();
    rules
        .tags(HashSet::from(TAGS))
        .clean_content_tags(HashSet::from(["script", "style"]))
        .tag_attributes([("a", HashSet::from(["href"]))].into())
        .url_schemes(HashSet::from(SCHEMES))
        .url_relative(ammonia::UrlRelative::Deny)
        .link_rel(Some("noopener noreferrer nofollow"));
    rules
}

#[cfg(test)]
mod tests;
