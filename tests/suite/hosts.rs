//! Attackers' web pages against a server on the same machine, by `Origin` and by DNS rebinding. The server must never refuse its
//! own pages or a client without a browser.

use reqwest::Method;
use reqwest::header::{HOST, HeaderName, ORIGIN};
use serde_json::{Value, json};
use tests::client::ConnectFailure;
use tests::raw::{Raw, ask};
use tests::server::{ADMIN_TOKEN, API_KEY, Builder};
use tests::{Auth, Client, Server, fixture, token};

/// The origin of an attacker's page. With DNS rebinding its name resolves to this machine.
const FOREIGN: &str = "http://evil.example";
const SECRET: &str = "a test secret, of just forty characters.";

fn with(auth: impl Into<Auth>, header: HeaderName, value: &str) -> Auth {
    auth.into().header(header, value)
}

/// Sends a request with the admin token or API key and one more header: status, content type and body.
async fn request(
    server: &Server,
    method: Method,
    url: &str,
    (header, value): (HeaderName, &str),
    body: Value,
) -> (u16, String, String) {
    let key = if url.contains("/admin") { ADMIN_TOKEN } else { API_KEY };
    let request = server.http().request(method, url).bearer_auth(key).header(header, value).json(&body);
    let answer = request.send().await.expect("an answer");
    let kind = answer.headers().get("content-type").map(|kind| kind.to_str().expect("text").to_owned()).unwrap_or_default();
    (answer.status().as_u16(), kind, answer.text().await.expect("text"))
}

#[tokio::test]
async fn a_foreign_page_cannot_use_the_admin_port() {
    let server = Server::dev().only(&["chat"]).single_node().start().await;
    let rebinding = format!("evil.example:{}", server.admin_address().port());
    for (header, value, status) in [(ORIGIN, FOREIGN, 403), (ORIGIN, "null", 403), (HOST, rebinding.as_str(), 421)] {
        for (namespace, auth) in
            [("/figures", json!({"token": ADMIN_TOKEN})), ("/tap", json!({"token": ADMIN_TOKEN, "user": "ana"}))]
        {
            let auth = with(auth, header.clone(), value);
            let refused = Client::open(server.admin_address(), &auth).await.err();
            assert_eq!(refused, Some(ConnectFailure::Http(status)), "{namespace} by websocket, {header}: {value}");
        }
        let calls = [
            (Method::GET, "/socket.io/?EIO=4&transport=polling"),
            (Method::POST, "/socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAA"),
            (Method::POST, "/admin/plugins/chat/deploy"),
            (Method::POST, "/admin/plugins/chat/disable"),
            (Method::POST, "/admin/plugins/chat/record?for=1s"),
            (Method::POST, "/admin/dead/drop"),
            (Method::POST, "/admin/drain"),
            (Method::GET, "/admin/plugins"),
            (Method::GET, "/metrics"),
            (Method::GET, "/"),
        ];
        for (method, path) in calls {
            let url = server.admin_url(path);
            let (code, kind, body) = request(&server, method.clone(), &url, (header.clone(), value), json!({})).await;
            assert_eq!((code, kind.as_str()), (status, "application/problem+json"), "{method} {path}, {header}: {value}: {body}");
        }
    }
    // After DNS rebinding the browser treats the page and this server as one origin.
    let own = with(ADMIN_TOKEN, HOST, &rebinding).header(ORIGIN, &format!("http://{rebinding}"));
    assert_eq!(Client::open(server.admin_address(), &own).await.err(), Some(ConnectFailure::Http(421)));

    let (_, plugins) = server.admin(Method::GET, "/admin/plugins", Vec::new()).await;
    assert_eq!(plugins["plugins"][0]["state"], "active", "{plugins}");
    assert_eq!(server.readiness().await.1["status"], "ready");
    let metrics = server.metrics().await;
    let refused = |reason| metrics.get("hubbub_requests_refused_total", &[("listener", "admin"), ("reason", reason)]);
    assert_eq!((refused("host"), refused("origin")), (Some(13.0), Some(24.0)));
    for line in ["their Host is not a name of this port", "they are from pages of another origin"] {
        server.logged(line).await;
        assert_eq!(server.log().matches(line).count(), 1, "{line}: once a minute");
    }
}

#[tokio::test]
async fn a_foreign_page_cannot_use_the_public_port() {
    let server = Server::dev().only(&["chat"]).single_node().start().await;
    let rebinding = format!("evil.example:{}", server.address().port());
    for (header, value, status) in [(ORIGIN, FOREIGN, 403), (HOST, rebinding.as_str(), 421)] {
        let refused = Client::open(server.address(), &with((), header.clone(), value)).await.err();
        assert_eq!(refused, Some(ConnectFailure::Http(status)), "by websocket, {header}: {value}");
        for (method, path, body) in [
            (Method::GET, "/socket.io/?EIO=4&transport=polling", json!({})),
            (Method::POST, "/api/publish", json!({"topic": "chat.upserted", "data": {}})),
            (Method::POST, "/api/emit", json!({"namespace": "/chat", "room": "chat:c1", "event": "e"})),
            (Method::POST, "/demo/enter", json!({"name": "Eva"})),
        ] {
            let (code, _, body) = request(&server, method, &server.url(path), (header.clone(), value), body).await;
            assert_eq!(code, status, "{path}, {header}: {value}: {body}");
        }
    }
    for path in ["/health", "/docs", "/asyncapi.json", "/"] {
        let health = request(&server, Method::GET, &server.url(path), (ORIGIN, FOREIGN), json!({})).await;
        assert_eq!(health.0, 200, "{path} is public, and no page of another origin can read it");
        let health = request(&server, Method::GET, &server.url(path), (HOST, &rebinding), json!({})).await;
        assert_eq!(health.0, 421, "{path}");
    }
}

#[tokio::test]
async fn own_pages_configured_origins_and_non_browser_clients_are_accepted() {
    let server = Server::dev().only(&["chat"]).single_node().start().await;
    let (public, admin) = (server.address(), server.admin_address());
    for (name, at) in [("127.0.0.1", admin), ("localhost", admin), ("board.localhost", admin)] {
        let host = format!("{name}:{}", at.port());
        let auth = with(ADMIN_TOKEN, HOST, &host).header(ORIGIN, &format!("http://{host}"));
        assert!(Client::connect(at, "/figures", auth).await.is_ok(), "the dashboard at {host}");
    }
    // A page of a development server: dev's `[cors]` allows it on the public port only.
    let page = "http://localhost:3000";
    assert!(Client::connect(public, "/", with((), ORIGIN, page)).await.is_ok());
    assert_eq!(Client::open(admin, &with(ADMIN_TOKEN, ORIGIN, page)).await.err(), Some(ConnectFailure::Http(403)));
    let call = json!({"topic": "chat.upserted", "data": {"chatId": "c1", "participants": []}});
    assert_eq!(request(&server, Method::POST, &server.url("/api/publish"), (ORIGIN, page), call).await.0, 202);
    for at in [public, admin] {
        let path = if at == public { "/health" } else { "/ready" };
        for head in [
            "HTTP/1.0\r\n\r\n",
            "HTTP/1.1\r\nconnection: close\r\nhost:\r\n\r\n",
            "HTTP/1.1\r\nconnection: close\r\nhost: 10.1.2.3\r\n\r\n",
        ] {
            let output = ask(at, &format!("GET {path} {head}")).await;
            assert!(output.contains(" 200 OK"), "{head:?}: {output}");
        }
        let output =
            ask(at, &format!("GET http://evil.example{path} HTTP/1.1\r\nconnection: close\r\nhost: localhost\r\n\r\n")).await;
        assert!(output.contains(" 421 "), "a target with another name: {output}");
    }
}

async fn serve() -> Builder {
    let chat = fixture::plugins().await["chat"].display().to_string();
    let serve = Server::serve_from_environment().env("HUBBUB_PLUGINS__CHAT__FILE", &chat).env("JWT_SECRET", SECRET);
    serve.env("HUBBUB_ADMIN__TOKEN", "an admin token of tests")
}

#[tokio::test]
async fn serve_checks_the_host_header_on_both_ports() {
    let all = serve().await.start().await;
    let names = serve().await.env("HUBBUB_GATEWAY__HOSTS", "app.example, *.rooms.example");
    let some = names.env("HUBBUB_ADMIN__HOSTS", "admin.example").start().await;
    let status = async |url: String, host: &str| request(&all, Method::GET, &url, (HOST, host), json!({})).await.0;
    for (server, host, public, admin) in [
        (&all, "app.example", 200, 421),
        (&all, "localhost", 200, 200),
        (&some, "APP.example:8080", 200, 421),
        (&some, "a.rooms.example", 200, 421),
        (&some, "other.example", 421, 421),
        (&some, "admin.example", 421, 200),
        (&some, "127.0.0.1", 200, 200),
    ] {
        let got = (status(server.url("/health"), host).await, status(server.admin_url("/ready"), host).await);
        assert_eq!(got, (public, admin), "{host}");
    }
    // A page of the server's own origin needs no entry in `[cors]` if its host name is configured.
    let own = |host: &str| with(token("ana").secret(SECRET), HOST, host).header(ORIGIN, &format!("https://{host}"));
    assert!(Client::connect(some.address(), "/chat", own("app.example")).await.is_ok());
    assert_eq!(Client::open(all.address(), &own("app.example")).await.err(), Some(ConnectFailure::Http(403)));
    let output = serve().await.env("HUBBUB_ADMIN__HOSTS", "https://admin.example").start_failure().await;
    assert!(output.contains("admin.hosts: `https://admin.example` is no host"), "{output}");
}

#[tokio::test]
async fn an_upgrade_request_has_its_host_checked() {
    let server = Server::dev().only(&["chat"]).single_node().start().await;
    let polling = tests::polling::Polling::open(&server).await;
    let target = format!("/socket.io/?EIO=4&transport=websocket&sid={}", polling.sid());
    let mut raw = Raw::open(server.address()).await;
    raw.write(&format!(
        "GET {target} HTTP/1.1\r\nhost: evil.example\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ))
    .await;
    assert!(raw.read().await.starts_with("HTTP/1.1 421 "));
}
