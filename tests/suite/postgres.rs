//! The server on PostgreSQL: the same guarantees as with the embedded database, and those for a remote database. Must never stop
//! a database that other tests share.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};
use reqwest::Method;
use serde_json::{Value, json};
use tests::server::run;
use tests::{CertificateAuthority, Client, Postgres, Server, TcpProxy, wait};

use crate::crash::everything;
use crate::helpers::{self, member, open_chat, say, user};
use crate::{conversations, lms_chat};

/// How often the database is killed. `HUBBUB_TEST_KILLS` overrides it.
const KILLS: usize = 20;

async fn shared() -> String {
    Postgres::shared().await.empty().await
}

#[tokio::test]
async fn a_restart_keeps_chats_and_history_on_postgres() {
    lms_chat::chats_and_history_survive_a_restart(Server::dev().database(&shared().await)).await;
}

#[tokio::test]
async fn members_and_unread_counts_survive_a_restart_on_postgres() {
    conversations::members_and_unread_counts_survive_a_restart(Server::dev().database(&shared().await)).await;
}

#[tokio::test]
async fn a_start_without_its_database_fails_without_showing_a_secret() {
    let server = Postgres::shared().await;
    let wrong = server.url_with("a wrong password", "");
    for (url, why) in
        [(wrong.as_str(), "does not let this server in"), ("postgres://u:pw-of-u@127.0.0.1:1/d", "cannot be reached")]
    {
        let printed = Server::dev().database(url).start_failure().await;
        assert!(printed.contains(why), "expected {why}: {printed}");
        assert!(!printed.contains("wrong%20password") && !printed.contains("pw-of-u"), "a secret is in {printed}");
    }
}

#[tokio::test]
async fn a_database_certificate_of_a_known_authority_is_accepted() {
    let authority = CertificateAuthority::new();
    let database = Postgres::start_with_tls(&authority).await;
    let url = format!("{}&sslmode=require", database.empty().await);
    let known = authority.certificate().display().to_string();
    // The authority is known by the server's own setting or by the process.
    for (n, name) in ["HUBBUB_STORAGE__TLS_CA", "SSL_CERT_FILE"].into_iter().enumerate() {
        let server = Server::dev().only(&["chat"]).without_message_limit().database(&url).env(name, &known).start().await;
        open_chat(&server, "c1", &["ana"]).await;
        let mut ana = member(&server, "ana", "c1").await;
        assert_eq!(everything(&mut ana).await.len(), n, "the previous server has stored its message");
        say(&mut ana, "c1", name).await;
        let plain =
            "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'hubbub' AND ssl";
        assert_ne!(database.sql(&url, plain).await, "0", "its connections are encrypted");
    }
}

#[tokio::test]
async fn an_untrusted_certificate_or_missing_tls_is_named() {
    let authority = CertificateAuthority::new();
    let database = Postgres::start_with_tls(&authority).await;
    let plain = database.empty().await;
    let tls = format!("{plain}&sslmode=require");
    let other_name = tls.replace("127.0.0.1", "localhost");
    let known = authority.certificate().display().to_string();
    let no_certificate = authority.key().display().to_string();
    for (url, authority, why) in [
        (&tls, None, "certificate: UnknownIssuer (storage.tls_ca sets the trusted authorities)"),
        (&tls, Some(no_certificate.as_str()), "authority.key holds no certificate"),
        (&tls, Some("nowhere.pem"), "storage.tls_ca: nowhere.pem: "),
        (&other_name, Some(known.as_str()), "certificate not valid for name \"localhost\""),
        (&plain, Some(known.as_str()), "without sslmode=require in the database's url nothing is encrypted"),
        (&format!("{plain}&sslmode=disable"), None, "does not let this server in: no pg_hba.conf entry for host"),
    ] {
        let mut builder = Server::dev().only(&["chat"]).database(url).env("HUBBUB_STORAGE__OUTAGE_WAIT", "1s");
        if let Some(file) = authority {
            builder = builder.env("HUBBUB_STORAGE__TLS_CA", file);
        }
        let printed = builder.start_failure().await;
        assert!(printed.contains(why), "expected {why}: {printed}");
        assert!(!printed.contains("a%20password") && !printed.contains(Postgres::PASSWORD), "a secret is in {printed}");
    }
}

#[tokio::test]
async fn a_server_is_not_ready_while_its_database_is_down() {
    let mut database = Postgres::start().await;
    let server = Server::dev().without_message_limit().database(&database.empty().await).start().await;
    open_chat(&server, "c1", &["ana"]).await;
    let mut ana = member(&server, "ana", "c1").await;
    let killed = database.kill9();
    wait::eventually("the server not to be ready", async || {
        server.readiness().await
            == (503, json!({"status": "unavailable", "storage": false, "pluginsDown": [], "keysMissing": []}))
    })
    .await;
    let refused = ana.refused("chat:message", json!({"chatId": "c1", "content": "lost"})).await;
    assert_eq!(refused.0, "unavailable");
    database.start_again(killed).await;
    wait::eventually("the server to be ready again", async || server.readiness().await.0 == 200).await;
    say(&mut ana, "c1", "kept").await;
    assert!(server.metrics().await.get("hubbub_storage_outages_total", &[]).is_some_and(|outages| outages >= 1.0));
}

#[tokio::test]
async fn a_hanging_database_does_not_count_as_a_plugin_fault() {
    let url = shared().await;
    let builder = Server::dev()
        .without_message_limit()
        .database(&url)
        .env("HUBBUB_LIMITS__CALL_TIME", "300ms")
        .env("HUBBUB_BREAKER__FAILURES", "3");
    let server = builder.start().await;
    open_chat(&server, "c1", &["ana"]).await;
    let mut ana = member(&server, "ana", "c1").await;
    let hang = "BEGIN; LOCK TABLE hubbub_entries IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(4); COMMIT";
    let over = AtomicBool::new(false);
    let hanging = async {
        Postgres::shared().await.sql(&url, hang).await;
        over.store(true, Ordering::Relaxed);
    };
    let joining = async {
        let mut refused = 0;
        while !over.load(Ordering::Relaxed) {
            // This event only reads.
            let ack = ana.ask("chat:join", json!({"chatId": "c1"})).await;
            refused += usize::from(ack["error"]["code"] == "unavailable");
            assert!(ack["error"].is_null() || ack["error"]["code"] == "unavailable", "{ack}");
        }
        refused
    };
    let (refused, ()) = join(joining, hanging).await;
    assert!(refused >= 3, "{refused} refused: fewer than would open the breaker");
    say(&mut ana, "c1", "at once: no breaker is open").await;
    assert!(server.metrics().await.get("hubbub_plugin_faults_total", &[]).is_none_or(|faults| faults == 0.0));
}

#[tokio::test]
async fn waiting_for_a_slow_database_is_not_charged_as_cpu() {
    let database = Postgres::shared().await;
    let proxy = TcpProxy::slow_to(database.address(), Duration::from_millis(2)).await;
    let url = shared().await.replace(&database.address().to_string(), &proxy.address().to_string());
    let server = Server::dev().only(&["chat", "conversations"]).database(&url).start().await;
    let users: Vec<_> = (0..12).map(|n| format!("u{n}")).collect();
    server.publish("conversation.created", json!({"id": "c1", "members": users})).await;
    let mut members = join_all(users.iter().map(|id| conversations::enter(&server, id))).await;
    // Each id is a separate read that waits longer than a tick. There are ten times as many as the call may use milliseconds of
    // CPU.
    let delivered = json!({"conversation_id": "c1", "message_ids": (0..200).map(|n| format!("m{n}")).collect::<Vec<_>>()});
    let acks = join_all(members.iter_mut().map(|member| member.ask("delivered", delivered.clone()))).await;
    assert_eq!(acks, vec![json!({}); users.len()]);
    assert!(server.metrics().await.get("hubbub_plugin_faults_total", &[]).is_none_or(|faults| faults == 0.0));
}

#[tokio::test]
async fn every_acked_message_survives_repeated_database_kills() {
    const SENDERS: usize = 8;
    let kills = std::env::var("HUBBUB_TEST_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number"));
    let mut database = Postgres::start().await;
    let server = Server::dev().without_message_limit().database(&database.empty().await).start().await;
    let names: Vec<_> = (0..SENDERS).map(|n| format!("u{n}")).collect();
    open_chat(&server, "c1", &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut senders = Vec::new();
    for name in &names {
        senders.push(member(&server, name, "c1").await);
    }
    let (count, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let sending = join_all(senders.iter_mut().enumerate().map(|(n, client)| send_until(&over, &count, n, client)));
    let killing = async {
        for round in 0..kills {
            // Each kill happens at another moment of the work.
            let enough = count.load(Ordering::Relaxed) + 1 + round * 7 % 31;
            wait::until("more acks", Duration::from_secs(60), async || (count.load(Ordering::Relaxed) >= enough).then_some(()))
                .await;
            let killed = database.kill9();
            database.start_again(killed).await;
        }
        over.store(true, Ordering::Relaxed);
    };
    let (printed, ()) = join(sending, killing).await;
    let acked: Vec<String> = printed.into_iter().flatten().collect();
    wait::eventually("the database to be available", async || server.readiness().await.0 == 200).await;

    let mut reader = server.connect("/chat", user("u0")).await;
    helpers::join(&mut reader, "c1").await;
    let stored: Vec<_> = everything(&mut reader).await.iter().map(|message| message["content"].to_string()).collect();
    let once: HashSet<_> = stored.iter().collect();
    let missing: Vec<_> = acked.iter().filter(|content| !once.contains(&json!(content).to_string())).collect();
    assert!(missing.is_empty(), "of {} acked, not stored: {missing:?}", acked.len());
    assert_eq!(once.len(), stored.len(), "a message is stored twice");
    assert!(acked.len() > kills, "{} acks over {kills} kills", acked.len());
}

/// Sends one message after the other until `over` is set and returns the acked ones.
async fn send_until(over: &AtomicBool, count: &AtomicUsize, sender: usize, client: &mut Client) -> Vec<String> {
    let mut acked = Vec::new();
    let mut n = 0;
    while !over.load(Ordering::Relaxed) {
        n += 1;
        let content = format!("{n} of {sender}");
        let ack = client.ask("chat:message", json!({"chatId": "c1", "content": content})).await;
        match &ack["error"]["code"] {
            Value::Null => {
                count.fetch_add(1, Ordering::Relaxed);
                acked.push(content);
            }
            code => assert_eq!(code, "unavailable", "{ack}"),
        }
    }
    acked
}

#[tokio::test]
async fn migrate_copies_everything_once_and_keeps_the_old_database() {
    let mut old = Server::dev().without_message_limit().start().await;
    open_chat(&old, "c1", &["ana", "bia"]).await;
    let mut ana = member(&old, "ana", "c1").await;
    for n in 0..300 {
        say(&mut ana, "c1", &n.to_string()).await;
    }
    let keyed = json!({"chatId": "c1", "content": "keyed", "clientId": "m1"});
    assert_eq!(ana.ask("chat:message", keyed.clone()).await, json!({}));
    let before = everything(&mut ana).await;
    let (data, url) = (old.data().display().to_string(), shared().await);
    let migrate = |url: &str| {
        let output = run(&["migrate", "--data", &data], &[("DATABASE_URL", url)]);
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (moved, printed) = migrate(&url);
    assert!(!moved && printed.contains("in use"), "{printed}");
    old.terminate().await;
    let bytes = std::fs::read(old.data().join("storage.sqlite")).expect("a file");
    let (moved, printed) = migrate(&url);
    assert!(moved && printed.contains("keys of plugins") && printed.contains("blobs"), "{printed}");
    assert_eq!(std::fs::read(old.data().join("storage.sqlite")).expect("a file"), bytes, "the old database was changed");
    let (again, printed) = migrate(&url);
    assert!(!again && printed.contains("is not empty"), "{printed}");
    assert!(!printed.contains(Postgres::PASSWORD), "{printed}");

    let new = Server::dev().without_message_limit().database(&url).start().await;
    let mut bia = new.connect("/chat", user("bia")).await;
    assert_eq!(bia.ask("chat:join", json!({"chatId": "c1"})).await["error"], Value::Null);
    let mut ana = new.connect("/chat", user("ana")).await;
    assert_eq!(ana.ask("chat:message", keyed).await, json!({}), "a repeat, of a socket that has not joined");
    assert_eq!(everything(&mut bia).await, before);
    say(&mut bia, "c1", "after the move").await;
    assert_eq!(everything(&mut bia).await[0]["content"], "after the move", "message numbers continue");
    let (status, plugins) = new.admin(Method::GET, "/admin/plugins", Vec::new()).await;
    assert_eq!(status, 200, "{plugins}");
}
