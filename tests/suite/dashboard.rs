//! The operator's page in a real browser. Must never call the page's scripts: tests type, click and read.

use std::path::{Path, PathBuf};

use serde_json::json;
use tests::client::ConnectFailure;
use tests::fixture;
use tests::returning::Returning;
use tests::server::{ADMIN_TOKEN, Scratch};
use tests::{Browser, Server, wait};

use crate::helpers::{member, open_chat, say, user};

/// Opens the page in a tab and signs in as the operator.
pub(crate) async fn sign_in(browser: &mut Browser, tab: &str, server: &Server) {
    browser.open(tab, &server.admin_url("/")).await;
    browser.type_into(tab, "token", ADMIN_TOKEN).await;
    browser.click(tab, "enter").await;
    browser.sees(tab, "state", "Live").await;
}

#[tokio::test]
async fn the_page_updates_metrics_and_disables_and_enables_a_plugin() {
    let server = Server::dev().without_message_limit().start().await;
    let mut browser = Browser::start();
    sign_in(&mut browser, "one", &server).await;
    browser.sees("one", "plugin-chat", "active").await;
    browser.sees("one", "connections", "0").await;

    open_chat(&server, "c1", &["ana"]).await;
    let mut ana = member(&server, "ana", "c1").await;
    browser.sees("one", "connections", "1").await;
    wait::eventually("events per second to be shown", async || {
        say(&mut ana, "c1", "hello").await;
        browser.count("one", "events-per-second", "0").await == 0
    })
    .await;

    browser.click("one", "disable-chat").await;
    browser.click("one", "sure").await;
    browser.sees("one", "plugin-chat", "disabled").await;
    assert_eq!(ana.refused("chat:message", serde_json::json!({"chatId": "c1", "content": "?"})).await.0, "unavailable");
    browser.click("one", "enable-chat").await;
    browser.sees("one", "plugin-chat", "active").await;
    say(&mut ana, "c1", "again").await;
}

#[tokio::test]
async fn the_page_shows_recovered_refused_and_absent_clients() {
    let server = Server::dev().without_message_limit().single_node().start().await;
    open_chat(&server, "c1", &["ana"]).await;
    let mut browser = Browser::start();
    sign_in(&mut browser, "one", &server).await;
    browser.sees("one", "recovery", "0 away · 0.0 MiB of events").await;
    let mut ana = Returning::new("/chat", user("ana"));
    ana.connect(server.address()).await.expect("accepted");
    ana.cut();
    browser.sees("one", "recovery", "1 away").await;
    ana.connect(server.address()).await.expect("accepted");
    assert_eq!(ana.recovered, 1);
    browser.sees("one", "recovered", "1").await;
    browser.sees("one", "recovery", "0 away").await;
    assert_eq!(browser.count("one", "recovery", "refused").await, 0, "nobody was refused");

    let auth = json!({"token": user("ana").sign(), "pid": "AAAAAAAAAAAAAAAAAAAAAA"});
    let _unknown = tests::Client::connect(server.address(), "/chat", auth).await.expect("accepted as a new socket");
    browser.sees("one", "recovery", "refused: unknown 1").await;
}

#[tokio::test]
async fn the_page_shows_a_quarantine_with_its_reason_and_ends_it() {
    let fragile = fixture::fragile("1.0.0").await;
    let builder = Server::dev().single_node().only(&[]).plugin("fragile", &fragile).env("HUBBUB_BREAKER__FAILURES", "1");
    let server = builder.env("HUBBUB_BREAKER__QUARANTINE", "1").start().await;
    let mut browser = Browser::start();
    sign_in(&mut browser, "one", &server).await;
    browser.sees("one", "plugin-fragile", "active").await;
    server.publish("fragile.do", serde_json::json!({"do": "trap"})).await;
    browser.sees("one", "quarantined-fragile", "quarantined: messages").await;
    browser.sees("one", "quarantined-fragile", "on-message fragile.do: it trapped").await;
    browser.sees("one", "plugin-fragile", "active").await;
    browser.click("one", "enable-fragile").await;
    wait::eventually("the quarantine to end", async || browser.count("one", "plugins", "quarantined").await == 0).await;
}

#[tokio::test]
async fn the_page_shows_nothing_with_a_wrong_token() {
    let server = Server::dev().start().await;
    let mut browser = Browser::start();
    browser.open("one", &server.admin_url("/")).await;
    browser.type_into("one", "token", "a guess").await;
    browser.click("one", "enter").await;
    browser.sees("one", "refused", "The operator's token is needed").await;
    assert_eq!(browser.count("one", "plugins", "chat").await, 0);
    assert_eq!(browser.count("one", "connections", "0").await, 0);
}

#[tokio::test]
async fn the_page_starts_a_canary_promotes_it_and_rolls_back() {
    let scratch = Scratch::new();
    let (next, broken) = (another_chat(&scratch).await, scratch.path().join("broken.wasm"));
    std::fs::write(&broken, "no component").expect("a scratch file");
    let server = Server::dev().start().await;
    let mut browser = Browser::start();
    sign_in(&mut browser, "one", &server).await;

    deploy(&mut browser, &broken, "").await;
    browser.sees("one", "deploy-problem", "The component was not staged").await;
    browser.click("one", "cancel").await;
    deploy(&mut browser, &next, "25").await;
    browser.sees("one", "canary-chat", "canary 25 %").await;
    browser.sees("one", "canary-chat", "too early to say").await;

    browser.click("one", "promote-chat").await;
    browser.click("one", "sure").await;
    browser.click("one", "history-chat").await;
    browser.sees("one", "past-chat", "retired").await;
    for (act, shown) in [("rollback-chat", "rolled back"), ("rollback-chat", "")] {
        browser.click("one", act).await;
        browser.click("one", "sure").await;
        browser.sees("one", "past-chat", shown).await;
    }
    browser.sees("one", "problem", "Nothing to go back to").await;
}

#[tokio::test]
async fn the_page_taps_a_user_and_a_room() {
    let server = Server::dev().without_message_limit().start().await;
    open_chat(&server, "c1", &["ana", "bia"]).await;
    let (mut ana, mut bia) = (member(&server, "ana", "c1").await, member(&server, "bia", "c1").await);
    let mut browser = Browser::start();
    sign_in(&mut browser, "one", &server).await;
    browser.resize("one", 1360, 1100).await;
    browser.type_into("one", "tap-user", "bia").await;
    browser.click("one", "tap-go").await;
    browser.sees("one", "tap-state", "Listening").await;
    say(&mut ana, "c1", "for bia to hear").await;
    browser.sees("one", "tapped", "for bia to hear").await;
    assert_eq!(browser.count("one", "tapped", "chat:message").await, 1, "only the delivery to bia is shown, not ana's own event");
    bia.refused("no:such:event", serde_json::Value::Null).await;
    browser.sees("one", "tapped", "not_found").await;
    let scratch = Scratch::new();
    let picture = std::env::var_os("HUBBUB_TAP_SCREENSHOT").map_or_else(|| scratch.path().join("tap.png"), PathBuf::from);
    browser.screenshot("one", &picture).await;
    assert!(std::fs::read(&picture).expect("the screenshot is there").starts_with(b"\x89PNG"));

    browser.click("one", "tap-go").await;
    browser.sees("one", "tap-state", "Stopped").await;
    wait::eventually("the tap to end", async || server.metrics().await.get("hubbub_admin_taps", &[]) == Some(0.0)).await;
    for (field, text) in [("tap-user", ""), ("tap-namespace", "/chat"), ("tap-room", "chat:c1")] {
        browser.type_into("one", field, text).await;
    }
    browser.click("one", "tap-go").await;
    browser.sees("one", "tap-state", "Listening").await;
    say(&mut ana, "c1", "into the room").await;
    browser.sees("one", "tapped", "into the room").await;
    browser.sees("one", "tapped", "room chat:c1 (2)").await;
}

#[tokio::test]
async fn a_tap_needs_the_token_and_hides_payloads_when_configured() {
    let server = Server::dev()
        .without_message_limit()
        .env("HUBBUB_ADMIN__TAP_PAYLOADS", "none")
        .env("HUBBUB_ADMIN__TAPS", "1")
        .start()
        .await;
    open_chat(&server, "c1", &["ana"]).await;
    let mut ana = member(&server, "ana", "c1").await;
    let listen = async |auth: serde_json::Value| tests::Client::connect(server.admin_address(), "/tap", auth).await;
    for auth in [serde_json::json!({"token": "a guess", "user": "ana"}), serde_json::json!({"token": ADMIN_TOKEN})] {
        assert!(listen(auth).await.is_err());
    }
    let mut tap = listen(serde_json::json!({"token": ADMIN_TOKEN, "user": "ana"})).await.expect("the token is right");
    let refused = listen(serde_json::json!({"token": ADMIN_TOKEN, "user": "ana"})).await.err();
    assert_eq!(refused, Some(ConnectFailure::Refused("Too many are listening".into())));
    say(&mut ana, "c1", "a secret").await;
    let incoming = loop {
        let tapped = tap.next("tapped").await;
        assert!(!tapped.to_string().contains("a secret"), "{tapped}");
        let mut records = tapped["records"].as_array().cloned().unwrap_or_default().into_iter();
        if let Some(incoming) = records.find(|record| record["way"] == "in") {
            break incoming;
        }
    };
    assert_eq!((&incoming["event"], &incoming["outcome"]), (&"chat:message".into(), &"ok".into()));
    assert!(incoming["cpuMicros"].is_u64() && incoming["bytes"].as_u64() > Some(20), "{incoming}");
}

#[tokio::test]
async fn the_page_shows_how_a_shadow_differs() {
    let scratch = Scratch::new();
    let server = Server::dev().without_message_limit().start().await;
    open_chat(&server, "c1", &["ana"]).await;
    let mut browser = Browser::start();
    sign_in(&mut browser, "one", &server).await;
    browser.click("one", "deploy-chat").await;
    browser.choose("one", "file", &another_chat(&scratch).await).await;
    browser.type_into("one", "percent", "100").await;
    browser.select("one", "how", "shadow").await;
    browser.click("one", "deploy").await;
    browser.sees("one", "shadow-chat", "shadow 100 %").await;
    let mut ana = member(&server, "ana", "c1").await;
    say(&mut ana, "c1", "the same in both").await;
    browser.sees("one", "shadow-chat", "0 of 3 calls differ").await;
    browser.click("one", "end-shadow-chat").await;
    browser.click("one", "sure").await;
    browser.click("one", "history-chat").await;
    browser.sees("one", "past-chat", "rolled back").await;
}

async fn deploy(browser: &mut Browser, file: &Path, percent: &str) {
    browser.click("one", "deploy-chat").await;
    browser.choose("one", "file", file).await;
    browser.type_into("one", "percent", percent).await;
    browser.click("one", "deploy").await;
}

/// The chat plugin with another digest: it has one more custom section without a meaning.
async fn another_chat(scratch: &Scratch) -> PathBuf {
    let mut component = std::fs::read(&fixture::plugins().await["chat"]).expect("the chat was built");
    component.extend([0, 5, 4, b'm', b'a', b'r', b'k']);
    let file = scratch.path().join("chat.wasm");
    std::fs::write(&file, component).expect("a scratch file");
    file
}

#[tokio::test]
async fn the_page_can_be_captured_as_a_screenshot() {
    let server = Server::dev().without_message_limit().start().await;
    open_chat(&server, "c1", &["ana", "bia"]).await;
    let (mut ana, mut bia) = (member(&server, "ana", "c1").await, member(&server, "bia", "c1").await);
    let mut browser = Browser::start();
    sign_in(&mut browser, "one", &server).await;
    browser.resize("one", 1360, 860).await;
    // The README's screenshot shows 50 seconds of metrics; for the test two are enough.
    let screenshot_path = std::env::var_os("HUBBUB_DASHBOARD_SCREENSHOT").map(PathBuf::from);
    let tapped = if screenshot_path.is_some() { 50 } else { 2 };
    let mut watcher = tests::Client::connect(server.admin_address(), "/figures", ADMIN_TOKEN).await.expect("the token is right");
    for second in 0..tapped {
        watcher.next("figures").await;
        for n in 0..20 + second % 7 * 9 {
            say(&mut ana, "c1", &n.to_string()).await;
            bia.next("chat:message").await;
        }
    }
    browser.sees("one", "plugin-chat", "active").await;
    let scratch = Scratch::new();
    let picture = screenshot_path.unwrap_or_else(|| scratch.path().join("dashboard.png"));
    browser.screenshot("one", &picture).await;
    let bytes = std::fs::read(&picture).expect("the screenshot is there");
    assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 5_000, "a picture of {} bytes", bytes.len());
}

#[tokio::test]
async fn the_page_fits_every_window_width() {
    let server = Server::dev().without_message_limit().start().await;
    open_chat(&server, "c1", &["ana"]).await;
    let mut ana = member(&server, "ana", "c1").await;
    let mut browser = Browser::start();
    sign_in(&mut browser, "one", &server).await;
    browser.sees("one", "plugin-chat", "active").await;
    browser.click("one", "history-chat").await;
    browser.type_into("one", "tap-user", "ana").await;
    browser.click("one", "tap-go").await;
    browser.sees("one", "tap-state", "Listening").await;
    say(&mut ana, "c1", &"a message of many words ".repeat(20)).await;
    browser.sees("one", "tapped", "chat:message").await;
    let screenshot_path = std::env::var_os("HUBBUB_WIDTHS_SCREENSHOTS").map(PathBuf::from);
    for width in [390, 768, 1023, 1024, 1200, 1280, 1300, 1365, 1366, 1440, 1920] {
        browser.resize("one", width, 900).await;
        // The plots are resized a moment after the window.
        let mut left = Vec::new();
        let fits = wait::eventually("everything to fit", async || {
            left = browser.overflowing("one").await;
            left.is_empty()
        });
        if tokio::time::timeout(FIT, fits).await.is_err() {
            panic!("at {width} pixels: {left:?}");
        }
        if let Some(folder) = &screenshot_path {
            browser.screenshot("one", &folder.join(format!("{width}.png"))).await;
        }
    }
}

/// How long the plots may take to be resized.
const FIT: std::time::Duration = std::time::Duration::from_secs(10);
