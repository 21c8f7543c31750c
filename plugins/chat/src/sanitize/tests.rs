//! The corpus of known attacks, and texts that skip the parser.

use super::{clean, is_plain, parsed};

/// One attack a line, `\n` for a line break.
const ATTACKS: &str = include_str!("attacks.txt");

/// The parts of a cleaned text that a browser would read as tags.
fn tags(html: &str) -> impl Iterator<Item = &str> {
    html.split('<').skip(1).map(|rest| rest.split('>').next().unwrap_or(rest))
}

#[test]
fn no_attack_of_the_corpus_leaves_code_that_runs() {
    let attacks: Vec<String> = ATTACKS.lines().filter(|line| !line.is_empty()).map(|line| line.replace("\\n", "\n")).collect();
    assert!(attacks.len() > 50, "the corpus has {} attacks", attacks.len());
    for attack in attacks {
        let cleaned = clean(attack.clone());
        for tag in tags(&cleaned) {
            let name = tag.trim_start_matches('/').split(' ').next().unwrap_or_default();
            assert!(super::TAGS.contains(&name), "<{tag}> is left of {attack}");
            let link = |rest: &str| {
                let href = rest.strip_prefix("a href=\"").and_then(|rest| rest.split('"').next());
                href.is_some_and(|href| super::SCHEMES.iter().any(|scheme| href.starts_with(&format!("{scheme}:"))))
            };
            let bare = tag.trim_start_matches('/') == name;
            assert!(bare || link(tag) || tag == "a rel=\"noopener noreferrer nofollow\"", "<{tag}> is left of {attack}");
        }
        assert_eq!(clean(cleaned.clone()), cleaned, "cleaning twice changes {attack}");
    }
}

#[test]
fn formatting_and_links_stay() {
    let html = "<p>See <strong>this</strong>:</p><pre><code>a &lt; b</code></pre><ul><li>one</li></ul>";
    assert_eq!(clean(html.into()), html);
    let link = clean(r#"<a href="https://example.com/?a=1&b=2" onclick="x()">here</a>"#.into());
    assert_eq!(link, r#"<a href="https://example.com/?a=1&amp;b=2" rel="noopener noreferrer nofollow">here</a>"#);
    assert_eq!(clean("1 < 2 & 3 > 2".into()), "1 &lt; 2 &amp; 3 &gt; 2");
}

#[test]
fn text_that_skips_the_parser_equals_the_parsers_result() {
    let texts = [
        "Como faço?",
        "\"quotes\" and 'others'",
        "a\nb\t c",
        "😀 é \u{202e} \u{7f}\u{1}\u{b}\u{c}",
        "\u{fffd}\u{d7ff}\u{e000}\u{fffe}\u{85}\u{2028}",
    ];
    for text in texts {
        assert!(is_plain(text), "{text:?}");
    }
    let all =
        (0..=0x2fff).chain([0xd7ff, 0xe000, 0xfdd0, 0xfeff, 0xfffd, 0xffff, 0x1_f600, 0x10_ffff]).filter_map(char::from_u32);
    for text in texts.map(str::to_owned).into_iter().chain(all.flat_map(|c| [format!("{c}"), format!("a{c}b"), format!("{c}\n")]))
    {
        if is_plain(&text) {
            assert_eq!(parsed(&text), text, "{text:?}");
        }
    }
}
