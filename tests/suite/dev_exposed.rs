//! `hubbub dev` on addresses that other machines reach. Must never serve there with a known secret.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use reqwest::header::{HOST, ORIGIN};
use serde_json::{Value, json};
use tests::client::ConnectFailure;
use tests::server::{ADMIN_TOKEN, API_KEY, signal};
use tests::{Auth, Client, token, wait};

use crate::ports::Started;

const EXPOSED: [&str; 6] = ["--no-watch", "--expose", "--listen", ":0", "--admin", ":0"];

/// The secrets that a server has printed, by their purpose.
fn printed(log: &str) -> BTreeMap<String, String> {
    let made = log.lines().filter_map(|line| line.strip_prefix("hubbub: made for this run: "));
    made.map(|line| line.rsplit_once(": ").expect("a name and a secret")).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The status of a request with a key.
async fn status(method: reqwest::Method, url: String, key: &str) -> u16 {
    let body = json!({"topic": "chat.upserted", "data": {"chatId": "c1", "participants": []}});
    let request = reqwest::Client::new().request(method, url).bearer_auth(key).json(&body);
    request.send().await.expect("an answer").status().as_u16()
}

async fn publish(port: u16, key: &str) -> u16 {
    status(reqwest::Method::POST, format!("http://127.0.0.1:{port}/api/publish"), key).await
}

async fn operate(port: u16, token: &str) -> u16 {
    status(reqwest::Method::GET, format!("http://127.0.0.1:{port}/admin/plugins"), token).await
}

#[tokio::test]
async fn a_public_address_without_expose_is_refused_before_binding() {
    // Binding a port in use fails with another error, so the refusal must come first.
    let other = TcpListener::bind("0.0.0.0:0").expect("a free port");
    let port = other.local_addr().expect("it is bound").port();
    let everywhere =
        [format!("0.0.0.0:{port}"), format!(":{port}"), format!("[::]:{port}"), "192.0.2.1:4100".into(), "my-host:4100".into()];
    for listen in &everywhere {
        for (flag, key, fine) in [("--listen", "server.listen", "--admin"), ("--admin", "server.admin", "--listen")] {
            let output = Started::with("dev", &["--no-watch", flag, listen, fine, "127.0.0.1:0"], &[]).await.failure().await;
            let shown = listen.trim_start_matches("*");
            let sentence = format!("hubbub: {key} ({flag}): other machines reach {shown}, and everyone knows the secrets");
            assert!(output.contains(&sentence) && output.contains("--expose"), "{flag} {listen}: {output}");
        }
    }
    let output = Started::with("dev", &["--no-watch"], &[("HUBBUB_SERVER__LISTEN", ":4100")]).await.failure().await;
    assert!(output.contains("--expose"), "configured by a variable: {output}");
}

#[tokio::test]
async fn an_exposed_server_has_random_secrets_and_prints_them_once() {
    let mut server = Started::with("dev", &EXPOSED, &[]).await;
    let (public, admin) = server.ports().await;
    wait::eventually("the line that it serves", async || server.log().contains("hubbub: serving")).await;
    let secrets = printed(&server.log());
    let names = ["API key", "admin token (HUBBUB_ADMIN_TOKEN)", "secret of tokens (JWT_SECRET)"];
    assert_eq!(secrets.keys().map(String::as_str).collect::<Vec<_>>(), names, "{}", server.log());
    let [key, operator, secret] = names.map(|name| secrets[name].clone());
    assert!([&key, &operator, &secret].iter().all(|secret| secret.len() == 64) && key != operator && operator != secret);

    assert_eq!((publish(public, API_KEY).await, publish(public, &key).await), (401, 202));
    assert_eq!((operate(admin, ADMIN_TOKEN).await, operate(admin, &operator).await), (401, 200));
    let refused = ConnectFailure::Refused("Invalid token".into());
    assert_eq!(Client::connect(local(public), "/chat", token("ana")).await.err(), Some(refused.clone()), "the dev secret");
    assert!(Client::connect(local(public), "/chat", token("ana").secret(&secret)).await.is_ok());
    assert!(Client::connect(local(admin), "/figures", operator.as_str()).await.is_ok());
    assert!(Client::connect(local(admin), "/figures", ADMIN_TOKEN).await.is_err());

    signal(server.pid(), "HUP");
    wait::eventually("the reload", async || server.log().contains("reloaded the keys")).await;
    assert_eq!(Client::connect(local(public), "/chat", token("ana")).await.err(), Some(refused), "after a reload");
    assert!(Client::connect(local(public), "/chat", token("ana").secret(&secret)).await.is_ok(), "after a reload");
    for secret in [key, operator, secret] {
        assert_eq!(server.log().matches(&secret).count(), 1, "printed once");
    }
}

#[tokio::test]
async fn the_demo_of_an_exposed_server_answers_only_under_its_own_names() {
    let mut server = Started::with("dev", &EXPOSED, &[]).await;
    let (public, _) = server.ports().await;
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("Linux has it").trim().to_owned();
    let enter = async |host: String| {
        let request = reqwest::Client::new().post(format!("http://127.0.0.1:{public}/demo/enter")).json(&json!({"name": "Ana"}));
        let request = request.header(HOST, &host).header(ORIGIN, format!("http://{host}"));
        request.send().await.expect("an answer")
    };
    for host in [format!("{name}:{public}"), format!("{name}.local:{public}"), format!("192.0.2.7:{public}")] {
        let answer = enter(host.clone()).await;
        assert_eq!(answer.status(), 200, "{host}");
        let entered: Value = answer.json().await.expect("JSON");
        let auth = Auth::from(json!({"token": entered["token"]})).header(HOST, &host).header(ORIGIN, &format!("http://{host}"));
        assert!(Client::connect(local(public), "/chat", auth).await.is_ok(), "{host}");
    }
    assert_eq!(enter(format!("evil.example:{public}")).await.status(), 421);
}

#[tokio::test]
async fn only_missing_secrets_are_generated_and_known_ones_refused() {
    let configured = [("HUBBUB_ADMIN__TOKEN", "a token of this test"), ("JWT_SECRET", crate::ports::SECRET)];
    let mut server = Started::with("dev", &EXPOSED, &configured).await;
    let (_, admin) = server.ports().await;
    wait::eventually("the line that it serves", async || server.log().contains("hubbub: serving")).await;
    assert_eq!(printed(&server.log()).into_keys().collect::<Vec<_>>(), ["API key"], "{}", server.log());
    assert_eq!(operate(admin, "a token of this test").await, 200);
    for (variable, known) in [("JWT_SECRET", "dev-secret"), ("HUBBUB_ADMIN__TOKEN", ADMIN_TOKEN), ("HUBBUB_API__KEYS", API_KEY)] {
        let output = Started::with("dev", &EXPOSED, &[(variable, known)]).await.failure().await;
        assert!(output.contains(&format!("the secret `{known}` is public and only for loopback")), "{variable}: {output}");
    }
}

#[tokio::test]
async fn on_loopback_dev_uses_its_known_secrets_and_prints_none() {
    let mut server = Started::with("dev", &["--no-watch", "--listen", "localhost:0", "--admin", "127.0.0.1:0"], &[]).await;
    let (public, admin) = server.ports().await;
    wait::eventually("the line that it serves", async || server.log().contains("hubbub: serving")).await;
    assert_eq!((publish(public, API_KEY).await, operate(admin, ADMIN_TOKEN).await), (202, 200));
    assert!(Client::connect(local(public), "/chat", token("ana")).await.is_ok());
    assert!(printed(&server.log()).is_empty(), "{}", server.log());
}
