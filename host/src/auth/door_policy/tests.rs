//! Every door policy of the event catalogue, with every kind of client that may connect.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::*;
use crate::auth::config::{Config, DEV_SECRET};
use crate::auth::keyring::Keyring;
use crate::auth::sign::{Claims, sign};
use crate::duration::millis;

const NOW: u64 = 1_800_000_000_000;
const HOUR: Duration = Duration::from_secs(3600);

fn door(token: TokenPolicy, claims: &[&str], roles: &[&str], sentences: [&str; 3]) -> Door {
    let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let [missing, invalid, forbidden] = sentences.map(str::to_owned);
    Door { token, claims: list(claims), roles: list(roles), missing, invalid, forbidden }
}

fn token(claims: &[&str]) -> String {
    let claims = claims.iter().fold(Claims::of("u1"), |all, claim| all.pair(claim).unwrap());
    sign(DEV_SECRET.as_bytes(), claims, HOUR, NOW).unwrap()
}

/// The outcome for the client: `visitor`, the user's id, or the sentence of its `connect_error`.
fn connect(door: &Door, auth: Option<&str>, authorization: Option<&str>) -> String {
    let ring = Keyring::load(&Config::default(), true).unwrap();
    let checked = match Presented::find(auth, authorization) {
        Presented::None => None,
        Presented::Token(token) => Some(ring.verify(&token, "/", NOW)),
        Presented::Malformed => Some(Err(TokenError::Malformed("not a text"))),
    };
    match door.admit(checked, ring.claim_names()) {
        Ok(Admitted::Visitor) => "visitor".to_owned(),
        Ok(Admitted::User(verified)) => verified.user.id.to_string(),
        Err(refused) => refused.sentence.to_owned(),
    }
}

fn with(token: &str) -> Option<String> {
    Some(serde_json::json!({ "token": token }).to_string())
}

#[test]
fn every_door_of_the_catalogue_answers_as_its_product_expects() {
    use TokenPolicy::{Optional, Required};
    let lms = ["Authentication error", "Invalid token", "Admins only"];
    let desk = ["Token invalido"; 3];
    let crm = ["Authentication required", "Invalid or expired token", "Invalid or expired token"];
    let crm_claims = ["userId", "companyId"];

    let none = None;
    let plain = with(&token(&[]));
    let admin = with(&token(&["role=ADMIN"]));
    let attendant = with(&token(&["role=ATTENDANT"]));
    let member = with(&token(&["userId=7", "companyId=c1"]));
    let tenant = with(&token(&["tenant=c1"]));
    let no_tenant = with(&token(&["userId=7"]));
    let empty_tenant = with(&token(&["userId=7", "companyId=\"\""]));
    let forged = with(&format!("{}x", token(&[])));
    let empty = with("");

    let table = [
        (
            "lms /chat",
            door(Required, &[], &[], lms),
            [(&none, "Authentication error"), (&empty, "Authentication error"), (&forged, "Invalid token"), (&plain, "u1")]
                .to_vec(),
        ),
        (
            "lms, conversations and video /",
            door(Optional, &[], &[], lms),
            [(&none, "visitor"), (&empty, "visitor"), (&forged, "Invalid token"), (&plain, "u1")].to_vec(),
        ),
        (
            "lms /admin",
            door(Required, &[], &["ADMIN"], lms),
            [
                (&none, "Authentication error"),
                (&forged, "Invalid token"),
                (&plain, "Admins only"),
                (&attendant, "Admins only"),
                (&admin, "u1"),
            ]
            .to_vec(),
        ),
        (
            "support-desk /hub",
            door(Required, &[], &["ATTENDANT", "ADMIN"], desk),
            [
                (&none, "Token invalido"),
                (&forged, "Token invalido"),
                (&plain, "Token invalido"),
                (&attendant, "u1"),
                (&admin, "u1"),
            ]
            .to_vec(),
        ),
        (
            "support-desk /portal",
            door(Required, &[], &[], desk),
            [(&none, "Token invalido"), (&forged, "Token invalido"), (&plain, "u1")].to_vec(),
        ),
        (
            "crm /conversations",
            door(Required, &crm_claims, &[], crm),
            [
                (&none, "Authentication required"),
                (&empty, "Authentication required"),
                (&forged, "Invalid or expired token"),
                (&plain, "Invalid or expired token"),
                (&no_tenant, "Invalid or expired token"),
                (&empty_tenant, "Invalid or expired token"),
                (&member, "u1"),
                (&tenant, "u1"),
            ]
            .to_vec(),
        ),
        (
            "a door with roles refuses visitors",
            door(Optional, &[], &["ADMIN"], lms),
            [(&none, "Authentication error"), (&plain, "Admins only"), (&admin, "u1")].to_vec(),
        ),
        (
            "a door with claims requires them only of tokens",
            door(Optional, &crm_claims, &[], crm),
            [(&none, "visitor"), (&plain, "Invalid or expired token"), (&member, "u1")].to_vec(),
        ),
    ];
    for (name, door, clients) in &table {
        for (auth, wanted) in clients {
            assert_eq!(&connect(door, auth.as_deref(), None), wanted, "{name}: {auth:?}");
        }
    }
}

#[test]
fn the_token_is_read_from_auth_or_else_from_the_header() {
    let door = door(TokenPolicy::Optional, &[], &[], ["missing", "invalid", "forbidden"]);
    let good = token(&[]);
    let header = format!("Bearer {good}");
    let other_case = format!("bearer  {good} ");
    for (auth, authorization, wanted) in [
        (None, Some(header.as_str()), "u1"),
        (None, Some(&other_case), "u1"),
        (Some(r#"{"token":""}"#), Some(&header), "u1"),
        (Some(r#"{"token":null}"#), Some(&header), "u1"),
        (Some(r#"{"other":1}"#), Some(&header), "u1"),
        (Some(r#"{"token":"bad"}"#), Some(&header), "invalid"),
        (Some(r#"{"token":7}"#), Some(&header), "invalid"),
        (Some(r#"{"token":["x"]}"#), None, "invalid"),
        (Some(r#"{"token":"a","token":"b"}"#), None, "invalid"),
        (Some("[]"), None, "invalid"),
        (Some(r#"["t"]"#), Some(&header), "invalid"),
        (Some("7"), None, "invalid"),
        (Some("{}"), None, "visitor"),
        (None, Some("Bearer "), "visitor"),
        (None, Some("Bearer"), "visitor"),
        (None, Some("Basic dTpw"), "visitor"),
        (None, Some(""), "visitor"),
        (None, Some("Bearer bad"), "invalid"),
        (None, None, "visitor"),
    ] {
        assert_eq!(connect(&door, auth, authorization), wanted, "{auth:?} {authorization:?}");
    }
}

#[test]
fn a_token_is_found_without_copying_it() {
    let auth = r#"{"token":"abc"}"#;
    assert!(matches!(Presented::find(Some(auth), None), Presented::Token(Cow::Borrowed("abc"))));
}

#[test]
fn authorize_receives_auth_without_the_token() {
    assert_eq!(without_token(Some(r#"{"token":"t","page":{"a":[1.0, 2]},"n":1e2}"#)), r#"{"n":1e2,"page":{"a":[1.0, 2]}}"#);
    for nothing in [None, Some("{}"), Some(r#"{"token":"t"}"#), Some("7"), Some("")] {
        assert_eq!(without_token(nothing), "{}");
    }
}

#[test]
fn empty_claims_are_missing_and_zero_is_not() {
    let door = door(TokenPolicy::Required, &["x"], &[], ["missing", "invalid", "forbidden"]);
    for value in ["null", "\"\"", "[]", "{ }", "[ ]"] {
        assert_eq!(connect(&door, with(&token(&[&format!("x={value}")])).as_deref(), None), "invalid", "{value}");
    }
    for value in ["0", "false", "\" \"", "[0]", "a"] {
        assert_eq!(connect(&door, with(&token(&[&format!("x={value}")])).as_deref(), None), "u1", "{value}");
    }
}

#[test]
fn a_refusal_has_its_cause_for_the_log() {
    let door = door(TokenPolicy::Required, &["x"], &["ADMIN"], ["missing", "invalid", "forbidden"]);
    let ring = Keyring::load(&Config::default(), true).unwrap();
    let reason = |claims: &[&str], at: u64| {
        door.admit(Some(ring.verify(&token(claims), "/", at)), ring.claim_names()).unwrap_err().cause.reason()
    };
    assert_eq!(reason(&[], NOW), "missing_claim");
    assert_eq!(reason(&["x=1"], NOW), "role");
    assert_eq!(reason(&[], NOW + millis(HOUR) + 30_000), "expired");
    assert_eq!(door.admit(None, ring.claim_names()).unwrap_err().cause.reason(), "no_token");
}
