//! Failed logins of operators and backends: throttled by address, counted, and logged. Must never refuse a correct token from
//! another address.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::json;
use tests::client::ConnectFailure;
use tests::server::{ADMIN_TOKEN, API_KEY, Builder};
use tests::{Auth, Client, Server, wait};

/// The default of `logins.address_per_minute`.
const ALLOWED: usize = 10;

fn server() -> Builder {
    Server::dev().only(&["chat"]).single_node()
}

/// An HTTP client with an address of its own and a new connection for each request.
fn http_from(last: u8) -> reqwest::Client {
    let address = IpAddr::from(address(last));
    reqwest::Client::builder().local_address(address).build().expect("a client")
}

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 2, last)
}

/// Logs in over HTTP and returns the status and the retry time.
async fn login(http: &reqwest::Client, url: &str, secret: &str) -> (u16, Option<u64>) {
    let request = if url.contains("/api/") { http.post(url).json(&json!({})) } else { http.get(url) };
    let answer = request.bearer_auth(secret).send().await.expect("an answer");
    let after = answer.headers().get("retry-after").map(|after| after.to_str().expect("text").parse().expect("seconds"));
    (answer.status().as_u16(), after)
}

#[tokio::test]
async fn failed_logins_throttle_their_address_only() {
    let server = server().start().await;
    // `/api/publish` answers 400 if the key is right, because the body is empty.
    for (listener, url, right, passed) in
        [("admin", server.admin_url("/admin/plugins"), ADMIN_TOKEN, 200), ("public", server.url("/api/publish"), API_KEY, 400)]
    {
        let attacker = http_from(1);
        for _ in 0..ALLOWED {
            assert_eq!(login(&attacker, &url, "a guess").await, (401, None), "{listener}");
        }
        for secret in ["a guess", right] {
            let (status, after) = login(&attacker, &url, secret).await;
            assert_eq!(status, 429, "{listener}: {secret}");
            assert!(after.is_some_and(|seconds| (1..=6).contains(&seconds)), "{after:?}");
        }
        assert_eq!(login(&http_from(2), &url, right).await.0, passed, "{listener}, from elsewhere");
        let failed = server.metrics().await.get("hubbub_failed_logins_total", &[("listener", listener)]);
        assert_eq!(failed, Some(ALLOWED as f64 + 2.0), "{listener}");
    }
    let limit = [("limit", "logins_address_per_minute"), ("outcome", "refused")];
    assert_eq!(server.metrics().await.get("hubbub_limits_passed_total", &limit), Some(4.0));
    wait::eventually("a line for each port", async || server.log().matches("logins failed").count() >= 2).await;
    assert_eq!(server.log().matches("logins failed").count(), 2, "once a minute for each port: {}", server.log());
    assert!(!server.log().contains("a guess"));
}

#[tokio::test]
async fn failed_logins_do_not_lock_out_a_known_operator() {
    let server = server().start().await;
    let (http, url) = (http_from(1), server.admin_url("/admin/plugins"));
    assert_eq!(login(&http, &url, ADMIN_TOKEN).await.0, 200);
    for _ in 0..ALLOWED {
        assert_eq!(login(&http, &url, "a guess").await.0, 401);
    }
    assert_eq!((login(&http, &url, "a guess").await.0, login(&http, &url, ADMIN_TOKEN).await.0), (429, 200));
}

#[tokio::test]
async fn failed_logins_on_admin_sockets_are_throttled_too() {
    let server = server().start().await;
    let connect = async |last, namespace, token: &str| {
        let auth = Auth::from(json!({"token": token, "user": "ana"}));
        Client::connect_from(address(last), server.admin_address(), namespace, auth).await.err()
    };
    for (last, namespace) in [(1, "/figures"), (2, "/tap")] {
        for _ in 0..ALLOWED {
            let refused = ConnectFailure::Refused("The operator's token is needed".into());
            assert_eq!(connect(last, namespace, "a guess").await, Some(refused));
        }
        let throttled = ConnectFailure::Refused("Too many failed logins from this address".into());
        assert_eq!(connect(last, namespace, ADMIN_TOKEN).await, Some(throttled), "{namespace}");
        assert_eq!(login(&http_from(last), &server.admin_url("/admin/plugins"), ADMIN_TOKEN).await.0, 429, "by HTTP as well");
        assert_eq!(connect(9, namespace, ADMIN_TOKEN).await, None, "{namespace}, from elsewhere");
    }
}

#[tokio::test]
async fn over_the_global_limit_one_failure_throttles_an_address() {
    let server = server().env("HUBBUB_LOGINS__PER_MINUTE", "3").start().await;
    let url = server.admin_url("/admin/plugins");
    for last in 1..=3 {
        assert_eq!(login(&http_from(last), &url, "a guess").await.0, 401);
    }
    assert_eq!(login(&http_from(1), &url, ADMIN_TOKEN).await.0, 429);
    assert_eq!(login(&http_from(4), &url, ADMIN_TOKEN).await.0, 200);
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_has_its_own_limit() {
    let server = server().env("HUBBUB_ADMISSION__TRUSTED_PROXIES", "127.0.2.1").start().await;
    let (proxy, url) = (http_from(1), server.admin_url("/admin/plugins"));
    let from = async |client: &str, token: &str| {
        let request = proxy.get(&url).header("x-forwarded-for", client).bearer_auth(token);
        request.send().await.expect("an answer").status().as_u16()
    };
    for _ in 0..ALLOWED {
        assert_eq!(from("9.9.9.9", "a guess").await, 401);
    }
    assert_eq!((from("9.9.9.9", ADMIN_TOKEN).await, from("8.8.8.8", ADMIN_TOKEN).await), (429, 200));
}
