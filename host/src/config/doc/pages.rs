//! `host/docs/configuration.md` and `host/docs/metrics.md`: hand-written text with generated tables.

use super::{Key, Section, sections};
use crate::telemetry::catalogue::Described;

/// The place of the generated part in a page.
const GENERATED: &str = "<!-- generated -->";

/// `host/docs/configuration.md`.
pub fn configuration() -> String {
    let all: Vec<String> = sections().iter().map(section).collect();
    fill(include_str!("configuration.md"), &all.join("\n"))
}

/// `host/docs/metrics.md`.
pub fn metrics(all: &[Described]) -> String {
    let mut table = String::from("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for one in all {
        let labels: Vec<_> = one.labels.iter().map(|label| format!("`{label}`")).collect();
        table.push_str(&format!("| `{}` | {} | {} | {} |\n", one.name, one.kind, labels.join(", "), cell(&one.help)));
    }
    fill(include_str!("metrics.md"), &table)
}

/// Inserts the generated part into a page.
pub(super) fn fill(page: &str, generated: &str) -> String {
    page.replace(GENERATED, generated.trim_end())
}

/// A text, escaped for a table's cell.
pub(super) fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn section(section: &Section) -> String {
    let mut out =
        format!("### `{}`\n{}\n\n| key | kind | default | meaning |\n|---|---|---|---|\n", section.title, section.about);
    for key in &section.keys {
        out.push_str(&format!("| `{}` | {} | {} | {} |\n", key.name, key.kind, default(key), cell(&key.about)));
    }
    out
}

/// The default of a key, for bytes also in a larger unit.
pub(super) fn default(key: &Key) -> String {
    let Some(value) = key.default.as_ref() else { return "–".into() };
    let size = value.as_u64().filter(|_| key.about.contains("ytes ")).and_then(larger_unit);
    let written = super::sample::toml(value).unwrap_or_default();
    match size {
        Some(size) => format!("`{written}` ({size})"),
        None => format!("`{written}`"),
    }
}

fn larger_unit(bytes: u64) -> Option<String> {
    [(30, "GiB"), (20, "MiB"), (10, "KiB")]
        .into_iter()
        .find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift))
        .map(|(shift, unit)| format!("{} {unit}", bytes >> shift))
}
