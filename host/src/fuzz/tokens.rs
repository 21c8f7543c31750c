//! Tokens, claims and key sets: a token is accepted only with a valid signature, and an accepted one has usable claims.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Map, Value};

use crate::auth::config::Config;
use crate::auth::jwks::set;
use crate::auth::keyring::Keyring;
use crate::auth::token::Verified;
use crate::names;

const SECRET: &str = "a secret of the fuzzer, 32 bytes and more";

/// A fixed moment, in milliseconds.
const NOW: u64 = 1_800_000_000_000;

static RING: LazyLock<Keyring> = LazyLock::new(|| {
    let mut config = Config::default();
    config.add_secret("fuzzer", SECRET);
    Keyring::load(&config, false).expect("one strong secret")
});

/// A token; a header and a payload on two lines, which are signed here; or a key set.
pub fn tokens(bytes: &[u8]) {
    keys(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(verified) = RING.verify(text, "/", NOW) {
        let (signed, signature) = text.rsplit_once('.').expect("a token has three parts");
        assert_eq!(signature, sign(signed), "a token with a forged signature was accepted");
        usable(&verified);
    }
    let (header, payload) = text.split_once('\n').unwrap_or((r#"{"alg":"HS256"}"#, text));
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = sign(&signed);
    match RING.verify(&format!("{signed}.{signature}"), "/", NOW) {
        Err(error) => assert!(!error.reason().is_empty() && !error.to_string().is_empty()),
        Ok(verified) => {
            let header: Map<String, Value> = serde_json::from_str(header).expect("a header is an object");
            assert_eq!(header.get("alg").and_then(Value::as_str), Some("HS256"), "the key pins the algorithm");
            usable(&verified);
            let other = if signature.starts_with('A') { "B" } else { "A" };
            let forged = format!("{signed}.{other}{}", &signature[1..]);
            assert!(RING.verify(&forged, "/", NOW).is_err(), "the signature is not checked");
        }
    }
}

fn sign(signed: &str) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).expect("HMAC signs anything")
}

/// An accepted token has a valid user id, claims that are an object, and an end in the future.
fn usable(verified: &Verified) {
    let user = &verified.user;
    names::check("user", &user.id).expect("an id is a name");
    if let Some(tenant) = &user.tenant {
        names::check("tenant", tenant).expect("a tenant is a name");
    }
    serde_json::from_str::<Map<String, Value>>(&user.claims).expect("claims are an object");
    assert!(user.role.is_none() || user.role.as_ref() == user.roles.first(), "the role is none of the roles");
    let leeway = 30_000;
    assert!(verified.expires_at_ms.saturating_add(leeway) > NOW, "it has expired");
}

fn keys(bytes: &[u8]) {
    match set::parse(bytes, None) {
        Err(why) => assert!(!why.to_string().is_empty()),
        Ok((keys, skipped)) => {
            let whole: Value = serde_json::from_slice(bytes).expect("a set is JSON");
            // serde takes an array of a struct's fields as well.
            let listed = whole.get("keys").or(whole.get(0)).and_then(Value::as_array).map_or(0, Vec::len);
            assert_eq!(keys.len() + skipped.len(), listed, "a key was lost");
            assert!(keys.iter().all(|key| !key.algorithm.is_symmetric()), "a shared secret in a public set");
            assert!(keys.iter().all(|key| key.kid.as_ref().is_none_or(|kid| !kid.is_empty() && kid.len() <= 128)));
        }
    }
}
