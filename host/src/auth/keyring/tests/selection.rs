//! The choice of a token's key: by issuer, key id, namespace, audience, and during a rotation.

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::kit::{NOW, Signer, load, ring};
use crate::auth::token::TokenError;

const OLD: &str = "the old secret, of at least 32 bytes";
const NEW: &str = "the new secret, of at least 32 bytes";

fn signer(secret: &str) -> Signer {
    Signer::hmac(Algorithm::HS256, secret)
}

fn claims(more: Value) -> Value {
    let mut claims = json!({ "sub": "u1" });
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    claims
}

#[test]
fn two_keys_overlap_during_a_rotation() {
    let ring = ring(&format!("[[keys]]\nname = 'old'\nsecret = '{OLD}'\n[[keys]]\nname = 'new'\nsecret = '{NEW}'"));
    for (secret, name) in [(OLD, "old"), (NEW, "new")] {
        let verified = ring.verify(&signer(secret).token(claims(json!({}))), "/", NOW).unwrap();
        assert_eq!(&*verified.key, name);
    }
    let stranger = signer("another secret, of at least 32 bytes").token(claims(json!({})));
    assert_eq!(ring.verify(&stranger, "/", NOW), Err(TokenError::Signature));
}

#[test]
fn a_key_id_chooses_its_key_or_one_without_id() {
    let ring = ring(&format!("[[keys]]\nkid = '1'\nsecret = '{OLD}'\n[[keys]]\nsecret = '{NEW}'"));
    let verify = |token: String| ring.verify(&token, "/", NOW).map(|verified| verified.key.to_string());
    assert_eq!(verify(signer(OLD).token_of("1", claims(json!({})))).unwrap(), "auth.keys[0]");
    assert_eq!(verify(signer(NEW).token_of("1", claims(json!({})))).unwrap(), "auth.keys[1]");
    assert_eq!(verify(signer(NEW).token_of("2", claims(json!({})))).unwrap(), "auth.keys[1]");
    assert_eq!(verify(signer(OLD).token(claims(json!({})))).unwrap(), "auth.keys[0]");
    assert_eq!(verify(signer(OLD).token_of("2", claims(json!({})))), Err(TokenError::UnknownKey));
}

#[test]
fn an_issuer_is_served_only_by_its_own_keys() {
    let ring = ring(&format!("[[keys]]\niss = 'https://a'\nsecret = '{OLD}'\n[[keys]]\nsecret = '{NEW}'"));
    let verify =
        |secret: &str, more: Value| ring.verify(&signer(secret).token(claims(more)), "/", NOW).map(|v| v.key.to_string());
    assert_eq!(verify(OLD, json!({ "iss": "https://a" })).unwrap(), "auth.keys[0]");
    assert_eq!(verify(NEW, json!({ "iss": "https://a" })), Err(TokenError::Signature));
    assert_eq!(verify(OLD, json!({ "iss": "https://b" })), Err(TokenError::Signature));
    assert_eq!(verify(OLD, json!({})), Err(TokenError::Signature));
    assert_eq!(verify(NEW, json!({ "iss": "https://b" })).unwrap(), "auth.keys[1]");
    assert_eq!(verify(NEW, json!({})).unwrap(), "auth.keys[1]");
}

#[test]
fn a_key_opens_its_namespaces_and_no_others() {
    let ring = ring(&format!(
        "[[keys]]\nsecret = '{OLD}'\nnamespaces = ['/hub', '/course/{{id}}']\n[[keys]]\nsecret = '{NEW}'\nnamespaces = ['/chat']"
    ));
    let verify =
        |secret: &str, namespace: &str| ring.verify(&signer(secret).token(claims(json!({}))), namespace, NOW).map(|_| ());
    for namespace in ["/hub", "/course/42", "/course/a-b"] {
        assert_eq!(verify(OLD, namespace), Ok(()), "{namespace}");
    }
    assert_eq!(verify(NEW, "/chat"), Ok(()));
    assert_eq!(verify(OLD, "/chat"), Err(TokenError::Signature));
    for namespace in ["/", "/hub/", "/hub/x", "/Hub", "/course", "/course/", "/course/1/2", "hub"] {
        assert_eq!(verify(OLD, namespace), Err(TokenError::Namespace), "{namespace}");
    }
}

#[test]
fn an_audience_is_checked_if_the_key_names_one() {
    let ring = ring(&format!("[[keys]]\nsecret = '{OLD}'\naud = ['hubbub', 'rt']\n[[keys]]\nsecret = '{NEW}'"));
    let verify = |secret: &str, more: Value| ring.verify(&signer(secret).token(claims(more)), "/", NOW).map(|_| ());
    assert_eq!(verify(OLD, json!({ "aud": "rt" })), Ok(()));
    assert_eq!(verify(OLD, json!({ "aud": ["other", "hubbub"] })), Ok(()));
    for aud in [json!({}), json!({ "aud": "other" }), json!({ "aud": [] }), json!({ "aud": "hub" })] {
        assert_eq!(verify(OLD, aud), Err(TokenError::Signature));
    }
    assert_eq!(verify(NEW, json!({ "aud": "other" })), Ok(()));
}

#[test]
fn one_key_may_open_different_namespaces_for_different_issuers() {
    let ring = ring(&format!(
        "[[keys]]\niss = 'a'\nsecret = '{OLD}'\nnamespaces = ['/chat']\n[[keys]]\niss = 'b'\nsecret = '{OLD}'\nnamespaces = ['/hub']"
    ));
    let verify =
        |iss: &str, namespace: &str| ring.verify(&signer(OLD).token(claims(json!({ "iss": iss }))), namespace, NOW).map(|_| ());
    assert_eq!((verify("a", "/chat"), verify("b", "/hub")), (Ok(()), Ok(())));
    assert_eq!(verify("a", "/hub"), Err(TokenError::Namespace));
    assert_eq!(verify("c", "/hub"), Err(TokenError::UnknownKey));
}

#[test]
fn loading_fails_with_more_keys_than_would_be_tried() {
    let keys =
        |count: usize, more: &str| (0..count).map(|i| format!("[[keys]]\nsecret = '{OLD}{i}'\n{more}\n")).collect::<String>();
    let ring = ring(&keys(8, ""));
    assert!(ring.verify(&signer(&format!("{OLD}7")).token(claims(json!({}))), "/", NOW).is_ok());
    assert!(load(&keys(9, "")).is_err());
    assert!(load(&(keys(8, "namespaces = ['/a']") + &keys(8, "namespaces = ['/b']"))).is_ok());
    assert!(load(&(keys(8, "namespaces = ['/a/{id}']") + &keys(1, "namespaces = ['/a/b']"))).is_err());
}

#[test]
fn the_tenant_is_the_keys_else_the_tokens_else_the_default() {
    let ring =
        ring(&format!("default_tenant = 'house'\n[[keys]]\ntenant = 'acme'\nsecret = '{OLD}'\n[[keys]]\nsecret = '{NEW}'"));
    let tenant = |secret: &str, more: Value| {
        let verified = ring.verify(&signer(secret).token(claims(more)), "/", NOW)?;
        Ok(verified.user.tenant.map(|tenant| tenant.to_string()))
    };
    let named = |tenant: &str| Ok(Some(tenant.to_owned()));
    assert_eq!(tenant(OLD, json!({})), named("acme"));
    assert_eq!(tenant(OLD, json!({ "tenant": "acme" })), named("acme"));
    assert_eq!(tenant(OLD, json!({ "companyId": "other" })), Err(TokenError::Tenant));
    assert_eq!(tenant(NEW, json!({ "tenant": "other" })), named("other"));
    assert_eq!(tenant(NEW, json!({})), named("house"));
}
