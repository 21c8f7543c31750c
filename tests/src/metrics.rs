//! Reads `/metrics` in the Prometheus text format. Must never guess: a missing sample is `None`.

use std::collections::BTreeMap;

/// One scrape.
#[derive(Debug, Default)]
pub struct Metrics {
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Reads the text format. A line that is neither a comment nor a sample fails the test.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self { samples: lines.map(Sample::parse).collect() }
    }

    /// The sum of all samples with that name and these labels, and possibly others. None if there is no such sample.
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |sample: &&Sample| {
            sample.name == name && labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|v| v == value))
        };
        self.samples.iter().filter(has).map(|sample| sample.value).reduce(|a, b| a + b)
    }

    /// The names of the exposed metrics, each once.
    pub fn names(&self) -> Vec<&str> {
        let names: std::collections::BTreeSet<_> = self.samples.iter().map(|sample| sample.name.as_str()).collect();
        names.into_iter().collect()
    }
}

impl Sample {
    fn parse(line: &str) -> Self {
        let name_end = line.find(['{', ' ']).unwrap_or_else(|| panic!("not a sample: {line}"));
        let (name, mut rest) = line.split_at(name_end);
        let mut labels = BTreeMap::new();
        if let Some(inside) = rest.strip_prefix('{') {
            rest = inside;
            while !rest.starts_with('}') {
                let (key, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("bad labels: {line}"));
                let (value, after) = quoted(after).unwrap_or_else(|| panic!("bad labels: {line}"));
                labels.insert(key.to_owned(), value);
                rest = after.strip_prefix(',').unwrap_or(after);
            }
            rest = &rest[1..];
        }
        let value = rest.split_whitespace().next().and_then(|text| text.parse().ok());
        Self { name: name.to_owned(), labels, value: value.unwrap_or_else(|| panic!("no value: {line}")) }
    }
}

/// The text up to the closing quote, unescaped, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn labels_and_sums_are_read() {
        let text = "# HELP a b\na_total{x=\"1\",y=\"q\\\"}\"} 2\na_total{x=\"2\"} 3.5\nplain 7 123\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.get("a_total", &[]), Some(5.5));
        assert_eq!(metrics.get("a_total", &[("y", "q\"}")]), Some(2.0));
        assert_eq!(metrics.get("plain", &[]), Some(7.0));
        assert_eq!(metrics.get("b", &[]), None);
        assert_eq!(metrics.names(), ["a_total", "plain"]);
    }
}
