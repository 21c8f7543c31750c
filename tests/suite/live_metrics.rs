//! The operator's live metrics without the page: pushed, requested, in the terminal, and for Grafana. Must never show one to a
//! client without the token.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::json;
use tests::client::ConnectFailure;
use tests::polling::Polling;
use tests::server::{ADMIN_TOKEN, run};
use tests::{Client, Server, wait};

#[tokio::test]
async fn metrics_are_sent_every_second_to_watchers_with_the_token() {
    let server = Server::dev().start().await;
    let _visitor = server.connect("/", ()).await;
    let mut watcher = Client::connect(server.admin_address(), "/figures", ADMIN_TOKEN).await.expect("the token is right");
    let (first, second) = (watcher.next("figures").await, watcher.next("figures").await);
    assert_ne!(first["at"], second["at"]);
    assert_eq!((&second["connections"], &second["sockets"]), (&json!(1), &json!(1)), "watchers are not counted");
    let chat = second["plugins"].as_array().and_then(|all| all.iter().find(|plugin| plugin["name"] == "chat"));
    assert_eq!(chat.expect("the chat plugin is listed")["state"], "active");
    let (status, asked) = server.admin(Method::GET, "/admin/figures", Vec::new()).await;
    assert_eq!((status, asked["plugins"].is_array()), (200, true), "{asked}");
}

#[tokio::test]
async fn live_metrics_need_the_admin_token() {
    let server = Server::dev().start().await;
    for auth in [json!({"token": "a guess"}), json!({"token": 7}), json!({}), json!("text")] {
        match Client::connect(server.admin_address(), "/figures", auth.clone()).await {
            Err(ConnectFailure::Refused(sentence)) => assert_eq!(sentence, "The operator's token is needed", "{auth}"),
            Err(other) => panic!("{auth}: {other:?}"),
            Ok(_) => panic!("accepted with {auth}"),
        }
    }
    for path in ["/admin/figures", "/admin/grafana.json"] {
        let answer = server.http().get(server.admin_url(path)).send().await.expect("an answer");
        assert_eq!(answer.status(), 401, "{path}");
        assert_eq!(server.get(path).await.0, 404, "{path} is not for the public port");
    }
    server.connect_refused("/figures", ADMIN_TOKEN).await;
    let refused = server.metrics().await.get("hubbub_admin_watchers_refused_total", &[]);
    assert_eq!(refused, Some(4.0));
}

#[tokio::test]
async fn a_watcher_over_the_limit_is_refused_until_another_leaves() {
    let server = Server::dev().env("HUBBUB_ADMIN__WATCHERS", "1").start().await;
    let connect = || Client::connect(server.admin_address(), "/figures", ADMIN_TOKEN);
    let first = connect().await.expect("one watcher is allowed");
    match connect().await {
        Err(ConnectFailure::Refused(sentence)) => assert_eq!(sentence, "Too many are watching"),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("a second watcher was accepted"),
    }
    first.leave().await;
    wait::eventually("another watcher to be accepted", async || connect().await.is_ok()).await;
}

#[tokio::test]
async fn updates_dropped_for_a_slow_watcher_are_counted() {
    let server = Server::dev().env("HUBBUB_ADMIN__WATCHER_QUEUE", "4").start().await;
    let idle = Polling::open_admin(&server).await;
    idle.connect("/figures", Some(&json!({"token": ADMIN_TOKEN}))).await;
    wait::eventually("updates to be dropped", async || {
        server.metrics().await.get("hubbub_admin_figures_dropped_total", &[]).is_some_and(|dropped| dropped > 0.0)
    })
    .await;
}

#[tokio::test]
async fn top_prints_one_frame_for_scripts() {
    let server = Server::dev().start().await;
    let url = server.admin_url("");
    let top = |token| run(&["top", "--once", "--url", &url, "--token", token], &[]);
    let shown = top(ADMIN_TOKEN);
    let frame = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.status.success() && frame.contains("connections 0") && !frame.contains('\u{1b}'), "{shown:?}");
    assert!(frame.lines().any(|line| line.starts_with("chat ") && line.contains("active")), "{frame}");
    let refused = top("a guess");
    assert!(!refused.status.success() && refused.stdout.is_empty(), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("The operator's token is needed"), "{refused:?}");
}

#[tokio::test]
async fn every_metric_in_the_grafana_dashboard_exists() {
    let server = Server::dev().start().await;
    // A metric that has counted nothing is not exposed at all.
    server.connect_refused("/chat", "no token").await;
    let mut visitor = server.connect("/", ()).await;
    visitor.refused("nothing:answers:to:this", json!({})).await;
    visitor.leave().await;
    server.connect("/", json!({"pid": "AAAAAAAAAAAAAAAAAAAAAA"})).await;
    let what = "the disconnect to be counted";
    let text = wait::until(what, wait::DEADLINE, async || {
        let answer = server.http().get(server.admin_url("/metrics")).send().await.expect("the admin port answers");
        answer.text().await.ok().filter(|text| text.contains("hubbub_socket_disconnects_total"))
    })
    .await;
    let mut known = BTreeSet::new();
    for (name, kind) in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')) {
        let ends: &[&str] = match kind {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_count", "_sum"],
            _ => &[""],
        };
        known.extend(ends.iter().map(|end| format!("{name}{end}")));
    }
    let (_, dashboard) = server.admin(Method::GET, "/admin/grafana.json", Vec::new()).await;
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("each panel has queries"));
    let mut named = BTreeSet::new();
    for expression in targets.map(|target| target["expr"].as_str().expect("an expression")) {
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        named.extend(words.filter(|word| word.starts_with("hubbub_")).map(str::to_owned));
    }
    assert!(named.len() > 15, "{named:?}");
    let unknown: Vec<_> = named.difference(&known).collect();
    assert!(unknown.is_empty(), "{unknown:?} of {known:?}");
}
