//! Checks `/metrics` against the conventions of Prometheus: names, units, help and labels. Must hold for every metric, including
//! future ones.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tests::{Server, fixture, wait};

/// A metric family of the exposition.
#[derive(Default)]
struct Family {
    kind: String,
    help: String,
    /// Names of its samples.
    samples: BTreeSet<String>,
    labels: BTreeSet<String>,
}

/// The exposition of a server on which every kind of event has happened.
async fn exposition() -> String {
    let server = Server::dev().plugin("hostile", &fixture::hostile().await).start().await;
    server.connect_refused("/chat", "no token").await;
    server.publish("chat.upserted", json!({})).await;
    let mut visitor = server.connect("/hostile", ()).await;
    visitor.refused("nothing:answers:to:this", json!({})).await;
    visitor.refused("trap", json!(null)).await;
    visitor.ask("flood-metrics", json!(null)).await;
    visitor.leave().await;
    wait::until("the disconnect to be counted", wait::DEADLINE, async || {
        let answer = server.http().get(server.admin_url("/metrics")).send().await.expect("the admin port answers");
        answer.text().await.ok().filter(|text| text.contains("hubbub_socket_disconnects_total"))
    })
    .await
}

fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families = BTreeMap::<String, Family>::new();
    let mut last = String::new();
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name)) => {
                assert!(!families.contains_key(name), "{name} is described twice");
                last = name.to_owned();
                families.entry(last.clone()).or_default().help = words.next().unwrap_or_default().to_owned();
            }
            (Some("#"), Some("TYPE"), Some(name)) => {
                families.entry(name.to_owned()).or_default().kind = words.next().unwrap_or_default().to_owned();
            }
            (Some("#"), ..) => {}
            _ => {
                let name: String = line.chars().take_while(|c| !matches!(c, '{' | ' ')).collect();
                let family = families.entry(last.clone()).or_default();
                assert!(name.starts_with(&last), "{line} is listed under {last}");
                let keys = line.split("=\"").map(|before| before.rsplit(['{', ',']).next().unwrap_or_default());
                family.labels.extend(keys.take(line.matches("=\"").count()).map(str::to_owned));
                family.samples.insert(name);
            }
        }
    }
    families
}

/// Violations of the conventions by a metric.
fn faults(name: &str, family: &Family) -> Vec<&'static str> {
    let words: Vec<_> = name.split('_').collect();
    let ends = |of: &[&str]| family.samples.iter().all(|sample| of.iter().any(|end| *sample == format!("{name}{end}")));
    let shape = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let not_base =
        ["ms", "us", "ns", "millis", "milliseconds", "micros", "minutes", "hours", "kb", "mb", "kib", "mib", "percent"];
    let unit = words.iter().position(|word| ["seconds", "bytes"].contains(word));
    let rules = [
        (name.starts_with("hubbub_") && name.chars().all(shape), "its name has another shape"),
        (!family.help.trim_matches(['.', ' ']).is_empty(), "it has no help"),
        (!words.iter().any(|word| not_base.contains(word)), "its unit is not a base one"),
        (!words.iter().any(|word| ["gauge", "counter", "histogram", "total"].contains(word)), "its name contains its type"),
        (unit.is_none_or(|at| at == words.len() - 1), "its unit is not at its end"),
        (family.kind != "counter" || ends(&["_total"]), "a counter's samples end in _total"),
        (family.kind != "gauge" || ends(&[""]), "a gauge's samples have its name"),
        (family.kind != "histogram" || ends(&["_bucket", "_sum", "_count"]), "a histogram has other samples"),
        (["counter", "gauge", "histogram"].contains(&family.kind.as_str()), "its type is another"),
    ];
    rules.into_iter().filter(|(holds, _)| !holds).map(|(_, what)| what).collect()
}

#[tokio::test]
async fn every_metric_follows_prometheus_conventions() {
    let text = exposition().await;
    assert!(text.ends_with("# EOF\n"), "the exposition must end with EOF");
    let families = families(&text);
    assert!(families.len() > 40, "{}", families.len());
    let wrong = families.iter().filter_map(|(name, family)| Some((name, faults(name, family))).filter(|(_, f)| !f.is_empty()));
    assert_eq!(wrong.collect::<Vec<_>>(), []);
    // Values that clients, users or tenants choose must not be labels.
    let bounded = ["plugin", "version", "outcome", "code", "reason", "limit", "listener", "quota", "source", "name", "le"];
    for (name, family) in &families {
        let others: Vec<_> = family.labels.iter().filter(|label| !bounded.contains(&label.as_str())).collect();
        assert!(others.is_empty(), "{name} has the labels {others:?}");
    }
}

#[test]
fn the_convention_check_finds_violations() {
    let family = |kind: &str, sample: &str| Family {
        kind: kind.into(),
        help: "Help".into(),
        samples: [sample.to_owned()].into(),
        labels: BTreeSet::new(),
    };
    assert_eq!(faults("hubbub_a_seconds", &family("counter", "hubbub_a_seconds_total")), [] as [&str; 0]);
    assert_eq!(faults("hubbub_a_ms", &family("gauge", "hubbub_a_ms")), ["its unit is not a base one"]);
    assert_eq!(faults("hubbub_a", &family("counter", "hubbub_a")), ["a counter's samples end in _total"]);
    assert_eq!(faults("hubbub_seconds_of_a", &family("gauge", "hubbub_seconds_of_a")), ["its unit is not at its end"]);
    let silent = Family { help: ".".into(), ..family("gauge", "hubbub_a") };
    assert_eq!(faults("hubbub_a", &silent), ["it has no help"]);
}

#[tokio::test]
async fn calls_cpu_and_instances_are_counted_per_plugin() {
    let server = Server::dev().plugin("hostile", &fixture::hostile().await).start().await;
    let mut client = server.connect("/hostile", ()).await;
    for _ in 0..5 {
        client.ask("fine", json!(null)).await;
    }
    client.refused("trap", json!(null)).await;
    client.refused("loop", json!(null)).await;
    let metrics = server.metrics().await;
    let of = |name: &str, more: &[(&str, &str)]| metrics.get(name, &[&[("plugin", "hostile")], more].concat());
    assert_eq!(of("hubbub_plugin_calls_total", &[("outcome", "fault")]), Some(2.0));
    assert!(of("hubbub_plugin_calls_total", &[("outcome", "ok")]) >= Some(5.0));
    assert!(of("hubbub_plugin_call_seconds_count", &[]) >= Some(7.0));
    // The loop used its 20 ms of CPU.
    let cpu = of("hubbub_plugin_cpu_seconds_total", &[]).expect("CPU is counted");
    assert!((0.01..2.0).contains(&cpu), "{cpu}");
    assert!(of("hubbub_plugin_instances_idle", &[]) >= Some(0.0));
    assert_eq!(of("hubbub_plugin_calls_waiting", &[]), Some(0.0));
}
