//! Signals: those that stop the server drain it, SIGHUP reloads keys and the log filter, and no other one ends it.

use serde_json::json;
use tests::client::End;
use tests::server::{Builder, Scratch};
use tests::token::DEV_SECRET;
use tests::{Server, fixture, token, wait};

use crate::helpers::{member, open_chat, say};

const OLD: &str = "the first test secret, of 40 characters.";
const NEW: &str = "another test secret, of forty characters.";

/// `serve` with the chat plugin and a configuration with this key and filter.
async fn serve(scratch: &Scratch, secret: &str, filter: &str) -> Builder {
    let file = scratch.path().join("hubbub.toml");
    configure(scratch, secret, filter);
    Server::serve(&file).plugin("chat", &fixture::plugins().await["chat"]).single_node()
}

fn configure(scratch: &Scratch, secret: &str, filter: &str) {
    let text = format!("[[auth.keys]]\nsecret = {secret:?}\n[log]\nfilter = {filter:?}\n");
    std::fs::write(scratch.path().join("hubbub.toml"), text).expect("a scratch file");
}

#[tokio::test]
async fn every_signal_that_stops_the_server_drains_it() {
    let scratch = Scratch::new();
    for name in ["TERM", "INT", "QUIT", "PWR"] {
        let dev = Server::dev().only(&["chat"]).single_node();
        for (server, secret) in [(dev, DEV_SECRET), (serve(&scratch, OLD, "info").await, OLD)] {
            let mut server = server.env("HUBBUB_SHUTDOWN__SPREAD", "0ms").start().await;
            let mut client = server.connect("/chat", token("ana").secret(secret)).await;
            server.signal(name);
            assert_eq!(client.ended().await, End::Closed, "SIG{name}: without a disconnect packet, so that clients reconnect");
            assert_eq!(server.ended().await, Some(0), "SIG{name}");
            server.logged("draining").await;
        }
    }
}

#[tokio::test]
async fn other_signals_change_nothing() {
    let server = Server::dev().only(&["chat"]).without_message_limit().single_node().start().await;
    open_chat(&server, "c1", &["ana"]).await;
    let mut ana = member(&server, "ana", "c1").await;
    for name in ["USR1", "USR2", "XFSZ"] {
        server.signal(name);
        server.logged(&format!("SIG{name} is ignored")).await;
        say(&mut ana, "c1", name).await;
    }
    server.signal("PIPE");
    say(&mut ana, "c1", "PIPE").await;
    server.signal("HUP");
    server.logged("reloaded the keys").await;
    say(&mut ana, "c1", "HUP").await;
}

#[tokio::test]
async fn sighup_reloads_keys_and_log_filter() {
    let scratch = Scratch::new();
    let server = serve(&scratch, OLD, "warn").await.start().await;
    let mut old = server.connect("/chat", token("ana").secret(OLD)).await;
    assert_eq!(server.connect_refused("/chat", token("ana").secret(NEW)).await, "Invalid token");
    assert!(!server.log().contains("\"INFO\""), "{}", server.log());

    configure(&scratch, NEW, "info");
    server.signal("HUP");
    server.logged("reloaded the keys").await;
    server.connect("/chat", token("ana").secret(NEW)).await;
    assert_eq!(server.connect_refused("/chat", token("ana").secret(OLD)).await, "Invalid token");
    assert_eq!(old.refused("nothing:answers:to:this", json!(null)).await.0, "not_found", "an open socket is unaffected");
}

#[tokio::test]
async fn an_invalid_configuration_changes_nothing_at_sighup() {
    let scratch = Scratch::new();
    let server = serve(&scratch, OLD, "info").await.start().await;
    for (n, (secret, filter, why)) in
        [(OLD, "hubbub=loud", "log.filter"), ("short", "info", "auth"), ("dev-secret", "info", "dev-secret")]
            .into_iter()
            .enumerate()
    {
        configure(&scratch, secret, filter);
        server.signal("HUP");
        wait::eventually("the reason to be logged", async || {
            server.log().matches("not reloaded, nothing has changed").count() == n + 1
        })
        .await;
        let log = server.log();
        let line = log.lines().rfind(|line| line.contains("not reloaded, nothing has changed")).expect("a line");
        assert!(line.contains(why) && !line.contains(OLD), "expected {why}: {line}");
        server.connect("/chat", token("ana").secret(OLD)).await;
    }
}
