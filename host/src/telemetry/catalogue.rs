//! A list of all metrics with type, labels and help, parsed from an exposition, for the metrics page.

use std::collections::{BTreeMap, BTreeSet};

/// One metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The name of its samples, such as `hubbub_deliveries_total`.
    pub name: String,
    pub kind: String,
    pub labels: Vec<String>,
    pub help: String,
}

/// Parses an exposition in the OpenMetrics text format. Sorted by name.
pub fn read(exposition: &str) -> Vec<Described> {
    let mut found: BTreeMap<&str, Described> = BTreeMap::new();
    let mut labels: BTreeSet<String> = BTreeSet::new();
    let mut last = "";
    for line in exposition.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name), Some(help)) => {
                (last, labels) = (name, BTreeSet::new());
                let (kind, help) = (String::new(), help.trim_end_matches('.').to_owned());
                found.insert(name, Described { name: name.to_owned(), kind, labels: Vec::new(), help });
            }
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let Some(metric) = found.get_mut(name) else { continue };
                kind.clone_into(&mut metric.kind);
                if kind == "counter" {
                    metric.name.push_str("_total");
                }
            }
            (Some("#"), ..) => {}
            _ => {
                labels.extend(labels_of(line).filter(|label| *label != "le").map(str::to_owned));
                if let Some(metric) = found.get_mut(last) {
                    metric.labels = labels.iter().cloned().collect();
                }
            }
        }
    }
    found.into_values().collect()
}

/// The names of a sample's labels.
fn labels_of(sample: &str) -> impl Iterator<Item = &str> {
    let inner = sample.split_once('{').map_or("", |(_, rest)| rest);
    inner.split("=\"").map(|before| before.rsplit(['{', ',', '"']).next().unwrap_or_default()).take(inner.matches("=\"").count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn names_types_labels_and_help_are_read() {
        let text = "# HELP a_b Things.\n# TYPE a_b counter\na_b_total{plugin=\"x\",code=\"\"} 1\n# HELP c Now.\n# TYPE c gauge\nc 2\n# EOF\n";
        let described = |name: &str, kind: &str, labels: &[&str], help: &str| Described {
            name: name.into(),
            kind: kind.into(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            help: help.into(),
        };
        assert_eq!(
            read(text),
            [described("a_b_total", "counter", &["code", "plugin"], "Things"), described("c", "gauge", &[], "Now")]
        );
    }

    #[test]
    fn examples_of_all_metrics_show_their_labels() {
        let all = read(&Metrics::examples().encode().unwrap_or_default());
        let calls = all.iter().find(|one| one.name == "hubbub_plugin_calls_total");
        assert_eq!(calls.map(|one| one.labels.as_slice()), Some(&["outcome", "plugin", "version"].map(str::to_owned)[..]));
    }
}
