//! Checks the catalogue's table: every row names an existing test, and every event of the plugins has a row. Must never trust a
//! test name without finding it in the source.

use std::collections::BTreeSet;
use std::fs;

use tests::Server;

/// The five products, which are the sections of the table.
const PRODUCTS: [&str; 5] = ["lms", "support-desk", "crm", "conversations", "video"];

struct Row {
    product: String,
    event: String,
    direction: String,
    namespaces: String,
    tests: Vec<String>,
}

fn rows() -> Vec<Row> {
    let table = fs::read_to_string(tests::package_dir().join("catalogue.md")).expect("the table");
    let mut product = String::new();
    let mut rows = Vec::new();
    for line in table.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            product = name.trim().to_owned();
        }
        let cells: Vec<&str> = line.trim().trim_matches('|').split(" | ").map(str::trim).collect();
        let [event, direction, namespaces, tests] = cells.as_slice() else { continue };
        if *event == "event" {
            continue;
        }
        let tests = tests.split(',').map(|test| test.trim().trim_matches('`').to_owned()).collect();
        let bare = |cell: &str| cell.trim_matches('`').to_owned();
        rows.push(Row {
            product: product.clone(),
            event: bare(event),
            direction: bare(direction),
            namespaces: bare(namespaces),
            tests,
        });
    }
    rows
}

#[test]
fn every_row_of_the_catalogue_has_a_test_that_exists() {
    let rows = rows();
    for product in PRODUCTS {
        assert!(rows.iter().filter(|row| row.product == product).count() > 5, "{product} has no section");
    }
    for row in &rows {
        assert!(!row.tests.iter().all(String::is_empty), "{} {} of {} has no test", row.event, row.direction, row.product);
        for test in &row.tests {
            let (module, name) = test.split_once("::").unwrap_or_else(|| panic!("{test:?} is not module::function"));
            let source = fs::read_to_string(tests::package_dir().join(format!("suite/{module}.rs"))).unwrap_or_default();
            assert!(
                source.contains(&format!("fn {name}(")),
                "{} of {} names {test}, which does not exist",
                row.event,
                row.product
            );
        }
    }
}

#[tokio::test]
async fn every_event_of_the_plugins_has_a_row() {
    let rows = rows();
    let listed = |event: &str, direction: &str, namespace: &str| {
        rows.iter().any(|row| {
            let replies = direction == "S→C" && row.direction.contains("reply");
            row.event.split("`, `").any(|name| name == event)
                && (row.direction.contains(direction) || replies)
                && row.namespaces.split("`, `").any(|name| name == namespace)
        })
    };
    let (_, document) = Server::dev().start().await.get("/asyncapi.json").await;
    let mut missing = BTreeSet::new();
    for operation in document["operations"].as_object().expect("operations").values() {
        if operation["tags"][0]["name"].as_str().is_some_and(|plugin| plugin.starts_with("hubbub@")) {
            continue;
        }
        let channel = operation["channel"]["$ref"].as_str().expect("a channel");
        let namespace = document.pointer(&channel[1..]).expect("the channel")["address"].as_str().expect("an address");
        let event = operation["title"].as_str().expect("an event");
        let direction = if operation["action"] == "receive" { "C→S" } else { "S→C" };
        if !listed(event, direction, namespace) {
            missing.insert(format!("{event} {direction} in {namespace}"));
        }
    }
    assert!(missing.is_empty(), "events without a row: {missing:#?}");
}
