//! `host/docs/limits.md`: every limit. A key is a limit if its comment has a sentence "Past it …"; limits without a key are in
//! [`super::fixed`].

use super::fixed::FIXED;
use super::pages::{cell, default, fill};
use super::{Key, sections, sentences};

/// The page.
pub fn page() -> String {
    let mut out = String::from("| key | limit | default | past it | metric |\n|---|---|---|---|---|\n");
    for key in sections().iter().flat_map(|section| &section.keys) {
        out.extend(row(key));
    }
    out.push_str("\nThese limits cannot be configured:\n\n| limit | value | past it | metric |\n|---|---|---|---|\n");
    for (limit, value, past, metric) in FIXED {
        let metric = if metric.is_empty() { "–".to_owned() } else { format!("`{metric}`") };
        out.push_str(&format!("| {limit} | {value} | {past} | {metric} |\n"));
    }
    fill(include_str!("limits.md"), &out)
}

/// The row of a key, if it is a limit.
fn row(key: &Key) -> Option<String> {
    let all = sentences(&key.about);
    let of = |begins: &str| all.iter().filter_map(|one| one.strip_prefix(begins)).collect::<Vec<_>>().join(" ");
    let past = of("Past it ");
    let past = if past.is_empty() { of("Past the rest ") } else { past };
    if past.is_empty() {
        return None;
    }
    let is_limit = |one: &&&str| !["Past ", "Metric: ", "Default: "].iter().any(|begins| one.starts_with(begins));
    let limit = all.iter().filter(is_limit).copied().collect::<Vec<_>>().join(" ");
    let metric = of("Metric: ");
    let metric = if metric.is_empty() { "–" } else { metric.trim_end_matches('.') };
    let default = match key.default {
        Some(_) => default(key),
        None => of("Default: ").trim_end_matches('.').to_owned(),
    };
    Some(format!("| `{}` | {} | {default} | {} | {metric} |\n", key.path, cell(&limit), cell(past.trim_end_matches('.'))))
}
