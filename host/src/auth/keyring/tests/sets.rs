//! Key sets that change, grow, break or disappear, from files and from a local server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::get;
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinHandle;

use super::kit::{NOW, Signer, TempFile, ring, set, user};
use crate::auth::algorithm::Algorithm;
use crate::auth::jwks::parse;
use crate::auth::keyring::{Current, Keyring, Refreshing};
use crate::auth::token::TokenError;
use crate::clock::Clock;

/// An issuer's server. The test sets its response.
struct Issuer {
    url: String,
    answer: Arc<Mutex<(StatusCode, HeaderMap, String)>>,
    requests: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<(StatusCode, HeaderMap, String)>>, Arc<AtomicU32>);

impl Issuer {
    async fn start(body: &str) -> Self {
        let answer = Arc::new(Mutex::new((StatusCode::OK, HeaderMap::new(), body.to_owned())));
        let requests = Arc::new(AtomicU32::new(0));
        let serve = |State(Shared(answer, requests)): State<Shared>| async move {
            requests.fetch_add(1, Ordering::SeqCst);
            answer.lock().clone()
        };
        let app = Router::new().route("/keys", get(serve)).with_state(Shared(Arc::clone(&answer), Arc::clone(&requests)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, answer, requests, task }
    }

    fn answers(&self, status: StatusCode, body: &str) {
        *self.answer.lock() = (status, HeaderMap::new(), body.to_owned());
    }

    fn requests(&self) -> u32 {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A keyring with one set, after its first attempt.
async fn watched(toml: &str) -> (Arc<Keyring>, Refreshing) {
    let ring = Arc::new(ring(toml));
    let first = ring.sources[0].1.next_attempt();
    let refreshing = ring.refreshing();
    first.await;
    (ring, refreshing)
}

fn by_url(issuer: &Issuer) -> String {
    format!("[[keys]]\nname = 'issuer'\njwks_url = '{}'\nrefresh = '1h'\ncooldown = '30s'", issuer.url)
}

fn verify(ring: &Keyring, token: &str) -> Result<(), TokenError> {
    ring.verify(token, "/", NOW).map(|_| ())
}

#[tokio::test]
async fn a_set_from_a_url_verifies_all_three_kinds_of_keys() {
    let issuer = Issuer::start(&set(&[Signer::rsa().jwk("r"), Signer::ec(1).jwk("e"), Signer::ed().jwk("d")])).await;
    let (ring, _refreshing) = watched(&by_url(&issuer)).await;
    for (signer, kid) in [(Signer::rsa(), "r"), (Signer::ec(1), "e"), (Signer::ed(), "d")] {
        assert_eq!(verify(&ring, &signer.token_of(kid, user())), Ok(()));
        assert_eq!(verify(&ring, &signer.token(user())), Ok(()));
    }
    assert_eq!(verify(&ring, &Signer::ec(1).token_of("r", user())), Err(TokenError::Algorithm));
    assert_eq!(verify(&ring, &Signer::ec(2).token_of("e", user())), Err(TokenError::Signature));
    assert!(ring.missing().is_empty());
}

#[tokio::test]
async fn a_replaced_keyring_passes_on_its_fetched_sets() {
    let issuer = Issuer::start(&set(&[Signer::ec(1).jwk("1")])).await;
    let current = Current::new(ring(&by_url(&issuer)));
    let first = current.get().sources[0].1.next_attempt();
    current.start();
    first.await;
    issuer.answers(StatusCode::INTERNAL_SERVER_ERROR, "");
    current.replace(ring(&by_url(&issuer)));
    let token = Signer::ec(1).token_of("1", user());
    assert_eq!(verify(&current.get(), &token), Ok(()), "the issuer is down, but the old keyring had fetched its keys");

    let other = Issuer::start("").await;
    current.replace(ring(&by_url(&other)));
    assert_eq!(verify(&current.get(), &token), Err(TokenError::KeysUnavailable), "another issuer has other keys");
}

#[tokio::test]
async fn setting_back_the_wall_clock_delays_no_refresh() {
    let issuer = Issuer::start(&set(&[Signer::ec(1).jwk("1")])).await;
    let (ring, _refreshing) = watched(&by_url(&issuer)).await;
    let (clock, asked) = (Clock::manual(NOW), issuer.requests());
    let unknown = Signer::ec(2).token_of("2", user());
    assert!(ring.authenticate(&unknown, "/", &clock).await.is_err());
    clock.set(NOW - 600_000);
    clock.advance(30_000);
    assert!(ring.authenticate(&unknown, "/", &clock).await.is_err());
    assert_eq!(issuer.requests(), asked + 2);
}

#[tokio::test]
async fn an_unknown_key_id_refreshes_once_within_the_cooldown() {
    let issuer = Issuer::start(&set(&[Signer::ec(1).jwk("1")])).await;
    let (ring, _refreshing) = watched(&by_url(&issuer)).await;
    let clock = Clock::manual(NOW);
    let (first, second) = (Signer::ec(1).token_of("1", user()), Signer::ec(2).token_of("2", user()));
    assert!(ring.authenticate(&first, "/", &clock).await.is_ok());
    assert_eq!(issuer.requests(), 1);

    // The issuer rotates. Many connections arrive with the new key at once: one request serves them all.
    issuer.answers(StatusCode::OK, &set(&[Signer::ec(1).jwk("1"), Signer::ec(2).jwk("2")]));
    let many = (0..50).map(|_| ring.authenticate(&second, "/", &clock));
    assert!(futures_util::future::join_all(many).await.iter().all(Result::is_ok));
    assert_eq!(issuer.requests(), 2);

    // An attacker invents key ids: no request is made before the cooldown has passed, to the millisecond.
    let made_up = |n: u32| Signer::ec(2).token_of(&format!("made-up-{n}"), user());
    for n in 0..10 {
        assert_eq!(ring.authenticate(&made_up(n), "/", &clock).await, Err(TokenError::UnknownKey));
    }
    clock.advance(29_999);
    assert_eq!(ring.authenticate(&made_up(10), "/", &clock).await, Err(TokenError::UnknownKey));
    assert_eq!(issuer.requests(), 2);
    clock.advance(1);
    assert_eq!(ring.authenticate(&made_up(11), "/", &clock).await, Err(TokenError::UnknownKey));
    assert_eq!(issuer.requests(), 3);

    // A forged signature with a known key id causes no request.
    clock.advance(60_000);
    assert_eq!(ring.authenticate(&Signer::ec(2).token_of("1", user()), "/", &clock).await, Err(TokenError::Signature));
    assert_eq!(issuer.requests(), 3);
}

#[tokio::test]
async fn a_key_that_the_issuer_removes_is_no_longer_accepted() {
    let issuer = Issuer::start(&set(&[Signer::ec(1).jwk("1"), Signer::ec(2).jwk("2")])).await;
    let (ring, _refreshing) = watched(&by_url(&issuer)).await;
    let first = Signer::ec(1).token_of("1", user());
    assert_eq!(verify(&ring, &first), Ok(()));
    issuer.answers(StatusCode::OK, &set(&[Signer::ec(2).jwk("2")]));
    assert!(ring.sources[0].1.refreshed(NOW).await);
    assert_eq!(verify(&ring, &first), Err(TokenError::UnknownKey));
}

#[tokio::test]
async fn the_last_good_set_is_kept_after_every_bad_response() {
    let issuer = Issuer::start(&set(&[Signer::ec(1).jwk("1")])).await;
    let (ring, _refreshing) = watched(&(by_url(&issuer) + "\nmax_bytes = 4096")).await;
    let token = Signer::ec(1).token_of("1", user());
    let many: Vec<_> = (0..33).map(|n| Signer::ec(2).jwk(&n.to_string())).collect();
    let secret = json!({ "kty": "oct", "k": "c2VjcmV0", "kid": "s" });
    let mut now = NOW;
    for (status, body) in [
        (StatusCode::INTERNAL_SERVER_ERROR, set(&[Signer::ec(2).jwk("2")])),
        (StatusCode::NOT_FOUND, String::new()),
        (StatusCode::OK, String::new()),
        (StatusCode::OK, "<html>Please log in</html>".to_owned()),
        (StatusCode::OK, "{}".to_owned()),
        (StatusCode::OK, set(&[])),
        (StatusCode::OK, set(&[secret])),
        (StatusCode::OK, format!("{}{}", set(&[Signer::ec(2).jwk("2")]), " ".repeat(4096))),
        (StatusCode::OK, set(&many)),
    ] {
        let before = issuer.requests();
        issuer.answers(status, &body);
        now += 30_000;
        assert!(ring.sources[0].1.refreshed(now).await);
        assert_eq!(issuer.requests(), before + 1);
        assert_eq!(verify(&ring, &token), Ok(()), "{status} {body}");
    }
}

#[tokio::test]
async fn an_unknown_key_id_refreshes_only_its_issuers_set() {
    let (one, two) = (Issuer::start(&set(&[Signer::ec(1).jwk("1")])).await, Issuer::start(&set(&[Signer::ec(2).jwk("2")])).await);
    let ring = Arc::new(ring(&format!("{}\niss = 'one'\n{}\niss = 'two'", by_url(&one), by_url(&two))));
    let first = [ring.sources[0].1.next_attempt(), ring.sources[1].1.next_attempt()];
    let _refreshing = ring.refreshing();
    futures_util::future::join_all(first).await;
    for (kid, issuer) in [("3", "one"), ("3", "three"), ("1", "two")] {
        let token = Signer::ec(1).token_of(kid, json!({ "sub": "u1", "iss": issuer }));
        assert_eq!(ring.authenticate(&token, "/", &Clock::manual(NOW)).await, Err(TokenError::UnknownKey));
    }
    assert_eq!((one.requests(), two.requests()), (2, 2));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Issuer::start(&set(&[Signer::ec(2).jwk("2")])).await;
    let issuer = Issuer::start(&set(&[Signer::ec(1).jwk("1")])).await;
    let (ring, _refreshing) = watched(&by_url(&issuer)).await;
    let headers = HeaderMap::from_iter([(header::LOCATION, other.url.parse().unwrap())]);
    *issuer.answer.lock() = (StatusCode::FOUND, headers, String::new());
    assert!(ring.sources[0].1.refreshed(NOW).await);
    assert_eq!((issuer.requests(), other.requests()), (2, 0));
    assert_eq!(verify(&ring, &Signer::ec(1).token_of("1", user())), Ok(()));
}

#[tokio::test]
async fn an_issuer_that_is_down_at_start_is_retried() {
    let issuer = Issuer::start("").await;
    issuer.answers(StatusCode::SERVICE_UNAVAILABLE, "");
    let config = format!("{}\niss = 'x'\n[[keys]]\nsecret = 'for everyone else, of at least 32 bytes'", by_url(&issuer));
    let (ring, _refreshing) = watched(&config).await;
    let clock = Clock::manual(NOW);
    let token = Signer::ec(1).token_of("1", json!({ "sub": "u1", "iss": "x" }));
    assert_eq!(ring.missing().iter().map(|name| &**name).collect::<Vec<_>>(), ["issuer"]);
    assert_eq!(ring.authenticate(&token, "/", &clock).await, Err(TokenError::KeysUnavailable));

    // Other tokens are not delayed.
    let other = Signer::hmac(jsonwebtoken::Algorithm::HS256, "for everyone else, of at least 32 bytes").token(user());
    assert!(ring.verify(&other, "/", NOW).is_ok());

    issuer.answers(StatusCode::OK, &set(&[Signer::ec(1).jwk("1")]));
    clock.advance(30_000);
    assert!(ring.authenticate(&token, "/", &clock).await.is_ok());
    assert!(ring.missing().is_empty());
}

#[tokio::test]
async fn keys_are_kept_when_their_issuer_goes_down() {
    let issuer = Issuer::start(&set(&[Signer::ec(1).jwk("1")])).await;
    let (ring, _refreshing) = watched(&by_url(&issuer)).await;
    drop(issuer);
    assert!(ring.sources[0].1.refreshed(NOW).await);
    assert_eq!(verify(&ring, &Signer::ec(1).token_of("1", user())), Ok(()));
}

#[tokio::test]
async fn a_silent_issuer_is_waited_for_until_the_timeout() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = silent.local_addr().unwrap();
    let (ring, _refreshing) = watched(&format!("[[keys]]\njwks_url = 'http://{url}/'\ntimeout = '50ms'")).await;
    let token = Signer::ec(1).token_of("1", user());
    assert_eq!(ring.authenticate(&token, "/", &Clock::manual(NOW)).await, Err(TokenError::KeysUnavailable));
}

#[tokio::test]
async fn a_stopped_refresh_is_waited_for_until_the_timeout() {
    let file = TempFile::new(&set(&[Signer::ec(1).jwk("1")]));
    let (ring, refreshing) = watched(&format!("[[keys]]\njwks_file = '{}'\ntimeout = '50ms'", file.0.display())).await;
    drop(refreshing);
    let token = Signer::ec(2).token_of("2", user());
    assert_eq!(ring.authenticate(&token, "/", &Clock::manual(NOW)).await, Err(TokenError::UnknownKey));
    assert_eq!(verify(&ring, &Signer::ec(1).token_of("1", user())), Ok(()));
}

#[tokio::test]
async fn a_changed_file_is_read_again_and_a_broken_one_ignored() {
    let file = TempFile::new(&set(&[Signer::ec(1).jwk("1")]));
    let config = format!("[[keys]]\njwks_file = '{}'\nrefresh = '100ms'", file.0.display());
    let (ring, _refreshing) = watched(&config).await;
    let (first, second) = (Signer::ec(1).token_of("1", user()), Signer::ec(2).token_of("2", user()));
    assert_eq!((verify(&ring, &first), verify(&ring, &second)), (Ok(()), Err(TokenError::UnknownKey)));

    file.write("{ not finished");
    ring.sources[0].1.next_attempt().await;
    ring.sources[0].1.next_attempt().await;
    assert_eq!(verify(&ring, &first), Ok(()));

    file.write(&set(&[Signer::ec(2).jwk("2")]));
    while verify(&ring, &second).is_err() {
        ring.sources[0].1.next_attempt().await;
    }
    assert_eq!(verify(&ring, &first), Err(TokenError::UnknownKey));

    std::fs::remove_file(&file.0).unwrap();
    ring.sources[0].1.next_attempt().await;
    ring.sources[0].1.next_attempt().await;
    assert_eq!(verify(&ring, &second), Ok(()));
}

#[test]
fn a_file_is_read_while_loading() {
    let file = TempFile::new(&set(&[Signer::ed().jwk("1")]));
    let ring = ring(&format!("[[keys]]\njwks_file = '{}'", file.0.display()));
    assert_eq!(verify(&ring, &Signer::ed().token_of("1", user())), Ok(()));
}

#[test]
fn only_public_signature_keys_are_taken_from_a_set() {
    let with = |name: &str, value: serde_json::Value| {
        let mut jwk = Signer::ec(1).jwk("k");
        jwk[name] = value;
        jwk
    };
    let good = Signer::rsa().jwk("good");
    for (key, why) in [
        (json!({ "kty": "oct", "k": "c2VjcmV0", "alg": "HS256" }), "shared secret"),
        (with("d", json!("AAAA")), "private"),
        (with("use", json!("enc")), "not for signatures"),
        (with("key_ops", json!(["encrypt"])), "not for signatures"),
        (with("alg", json!("ES384")), "another algorithm"),
        (with("alg", json!("HS256")), "another algorithm"),
        (with("crv", json!("secp256k1")), "incomplete"),
        (with("crv", json!("P-384")), "incomplete"),
        (with("crv", json!("Ed25519")), "incomplete"),
        (json!({ "kty": "OKP", "crv": "P-256", "x": good["n"] }), "incomplete"),
        (with("x", json!("AAAA")), "P-256"),
        (with("y", json!("!")), "base64url"),
        (with("kid", json!("")), "key id"),
        (with("kid", json!("k".repeat(129))), "key id"),
        (json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" }), "modulus"),
        (json!({ "kty": "RSA", "n": good["n"], "e": "AQ" }), "exponent"),
        (json!({ "kty": "RSA", "n": good["n"], "e": "Ag" }), "exponent"),
        (json!({ "kty": "AKP", "pub": "AAAA" }), "incomplete"),
        (json!({ "kty": 7 }), "not a JSON Web Key"),
        (json!("key"), "not a JSON Web Key"),
    ] {
        let (keys, skipped) = parse(set(&[key.clone(), good.clone()]).as_bytes(), None).unwrap();
        assert_eq!(keys.len(), 1, "{key}");
        assert_eq!(keys[0].kid.as_deref(), Some("good"));
        assert!(skipped[0].contains(why), "{key}: {skipped:?}");
    }
    for key in [
        with("use", json!("sig")),
        with("key_ops", json!(["verify"])),
        with("alg", json!(null)),
        with("x5t#S256", json!("x")),
        with("x5c", json!(7)),
    ] {
        assert_eq!(parse(set(&[key]).as_bytes(), None).unwrap().0[0].algorithm, Algorithm::ES256);
    }
    let (keys, _) = parse(set(&[good, Signer::ec(1).jwk("e")]).as_bytes(), Some(Algorithm::ES256)).unwrap();
    assert_eq!(keys.iter().map(|key| key.kid.as_deref().unwrap()).collect::<Vec<_>>(), ["e"]);
}
