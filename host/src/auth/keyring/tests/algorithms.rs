//! Every algorithm of the contract, with keys from every kind of source; and the user of a verified token.

use jsonwebtoken::Algorithm;
use serde_json::json;

use super::kit::{NOW, SECRET, Signer, TempFile, pem_path, ring, secret_ring, user};
use crate::auth::token::TokenError;

#[test]
fn every_algorithm_verifies_its_own_tokens_and_no_others() {
    let files =
        ["rsa", "ec1", "ed"].map(|name| format!("public_key_file = '{}'", pem_path(&format!("test_{name}_public")).display()));
    let [rsa, ec, ed] = files;
    let secret = |alg: &str| format!("secret = '{SECRET}'\nalg = '{alg}'");
    let signers = [
        (secret("HS256"), Signer::secret()),
        (secret("HS384"), Signer::hmac(Algorithm::HS384, SECRET)),
        (secret("HS512"), Signer::hmac(Algorithm::HS512, SECRET)),
        (rsa, Signer::rsa()),
        (ec, Signer::ec(1)),
        (ed, Signer::ed()),
    ];
    for (key, own) in &signers {
        let ring = ring(&format!("[[keys]]\n{key}"));
        for (_, signer) in &signers {
            let verified = ring.verify(&signer.token(user()), "/", NOW);
            if signer.algorithm == own.algorithm {
                assert_eq!(&*verified.unwrap().user.id, "u1", "{key}");
            } else {
                assert_eq!(verified, Err(TokenError::Algorithm), "{key}");
            }
        }
    }
}

#[test]
fn a_secret_without_an_algorithm_is_pinned_to_hs256() {
    let ring = secret_ring("");
    assert!(ring.verify(&Signer::secret().token(user()), "/", NOW).is_ok());
    let other = Signer::hmac(Algorithm::HS512, SECRET).token(user());
    assert_eq!(ring.verify(&other, "/", NOW), Err(TokenError::Algorithm));
}

#[test]
fn a_secret_from_a_file_is_used_without_its_line_end() {
    for end in ["", "\n", "\r\n"] {
        let file = TempFile::new(&format!("{SECRET}{end}"));
        let ring = ring(&format!("[[keys]]\nsecret_file = '{}'", file.0.display()));
        assert!(ring.verify(&Signer::secret().token(user()), "/", NOW).is_ok(), "{end:?}");
    }
}

#[test]
fn a_verified_token_gives_a_user_and_an_expiry() {
    let ring = ring(&format!("[[keys]]\nname = 'products'\nsecret = '{SECRET}'"));
    let claims = json!({ "sub": "u1", "name": "Ana", "role": "ADMIN", "companyId": 7, "exp": 1_800_000_060, "x": [1.0] });
    let verified = ring.verify(&Signer::secret().token(claims.clone()), "/", NOW).unwrap();
    assert_eq!(verified.user.name.as_deref(), Some("Ana"));
    assert_eq!(verified.user.tenant.as_deref(), Some("7"));
    assert_eq!(&*verified.user.claims, claims.to_string());
    assert_eq!(verified.expires_at_ms, 1_800_000_060_000);
    assert_eq!(&*verified.key, "products");
}

#[test]
fn times_are_checked_with_leeway_to_the_millisecond() {
    let ring = secret_ring("leeway = '30s'");
    let second = NOW / 1000;
    let verify =
        |claims: serde_json::Value, now: u64| ring.verify(&Signer::secret().token(claims), "/", now).map(|v| v.expires_at_ms);

    let expiring = json!({ "sub": "u", "exp": second });
    assert_eq!(verify(expiring.clone(), NOW + 29_999), Ok(NOW));
    assert_eq!(verify(expiring, NOW + 30_000), Err(TokenError::Expired));

    let beginning = json!({ "sub": "u", "nbf": second, "exp": second + 60 });
    assert_eq!(verify(beginning.clone(), NOW - 30_001), Err(TokenError::NotYetValid));
    assert!(verify(beginning, NOW - 30_000).is_ok());

    for (claims, error) in [
        (json!({ "sub": "u", "exp": 0 }), TokenError::Expired),
        (json!({ "sub": "u", "exp": -1e300 }), TokenError::Claim("expiry")),
        (json!({ "sub": "u", "exp": second + 60, "nbf": u64::MAX }), TokenError::Claim("beginning")),
    ] {
        assert_eq!(verify(claims, NOW), Err(error));
    }
    assert_eq!(verify(json!({ "sub": "u", "exp": 253_402_300_799_u64 }), NOW), Ok(253_402_300_799_000));
}

#[test]
fn a_token_without_exp_gets_a_limit_or_is_refused() {
    let token = Signer::secret().token(json!({ "sub": "u1" }));
    assert_eq!(secret_ring("").verify(&token, "/", NOW).unwrap().expires_at_ms, NOW + 24 * 3_600_000);
    let hour = secret_ring("session_without_exp = '1h'");
    assert_eq!(hour.verify(&token, "/", NOW).unwrap().expires_at_ms, NOW + 3_600_000);
    assert_eq!(secret_ring("require_exp = true").verify(&token, "/", NOW), Err(TokenError::NoExpiry));
}

#[test]
fn claim_names_are_configurable() {
    let ring = secret_ring("[claims]\nuser_id = ['uid']\ntenant = ['org', 'team']");
    let token = Signer::secret().token(json!({ "sub": "wrong", "uid": 42, "team": "t", "companyId": "wrong" }));
    let user = ring.verify(&token, "/", NOW).unwrap().user;
    assert_eq!((&*user.id, user.tenant.as_deref()), ("42", Some("t")));
    let other = Signer::secret().token(json!({ "sub": "u1" }));
    assert_eq!(ring.verify(&other, "/", NOW), Err(TokenError::Claim("user id")));
}
