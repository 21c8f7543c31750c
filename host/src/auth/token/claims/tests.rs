//! Claims as issuers write them, and invalid ones.
#![allow(clippy::unwrap_used)]

use super::*;

fn user(json: &str) -> Result<User, TokenError> {
    Claims::read(json, &ClaimNames::default())?.user(json)
}

#[test]
fn the_first_listed_claim_is_used_in_any_order() {
    let json = r#"{"companyId":7,"id":"c","userId":"b","sub":"a","tenant":null,"name":"N","email":"e","image":"i","role":"R"}"#;
    let user = user(json).unwrap();
    assert_eq!((&*user.id, user.tenant.as_deref()), ("a", Some("7")));
    assert_eq!((user.name.as_deref(), user.email.as_deref()), (Some("N"), Some("e")));
    assert_eq!((user.image.as_deref(), user.role.as_deref()), (Some("i"), Some("R")));
    assert_eq!(&*user.claims, json);
}

#[test]
fn exact_integers_are_ids_and_rounded_numbers_are_not() {
    assert_eq!(&*user(r#"{"id":18446744073709551615}"#).unwrap().id, "18446744073709551615");
    assert_eq!(&*user(r#"{"userId":-1}"#).unwrap().id, "-1");
    for json in [r#"{"sub":18446744073709551616}"#, r#"{"sub":1.0}"#, r#"{"sub":1e3}"#] {
        assert_eq!(user(json), Err(TokenError::Claim("user id")), "{json}");
    }
}

#[test]
fn a_user_needs_a_usable_id() {
    let long = format!(r#"{{"sub":"{}"}}"#, "x".repeat(257));
    for json in [
        "{}",
        r#"{"sub":""}"#,
        "{\"sub\":\"cut \u{fffd}\"}",
        r#"{"sub":true}"#,
        r#"{"sub":["u"]}"#,
        r#"{"sub":{"id":"u"}}"#,
        r#"{"sub":"a\u0000b"}"#,
        r#"{"sub":"a\nb"}"#,
        r#"{"sub":"a\u001fb"}"#,
        r#"{"sub":null}"#,
        &long,
    ] {
        assert_eq!(user(json), Err(TokenError::Claim("user id")), "{json}");
    }
    for json in [r#"{"sub":"u","companyId":"a\u001fb"}"#, r#"{"sub":"u","tenant":false}"#, r#"{"sub":"u","tenant":[]}"#] {
        assert_eq!(user(json), Err(TokenError::Claim("tenant")), "{json}");
    }
}

#[test]
fn claims_of_the_wrong_type_are_refused() {
    for (json, what) in [
        (r#"{"sub":"u","exp":"9999999999"}"#, "expiry"),
        (r#"{"sub":"u","exp":null}"#, "expiry"),
        (r#"{"sub":"u","nbf":true}"#, "beginning"),
        (r#"{"sub":"u","iss":1}"#, "issuer"),
        (r#"{"sub":"u","aud":1}"#, "audience"),
        (r#"{"sub":"u","aud":["a",1]}"#, "audience"),
        (r#"{"sub":"u","name":true}"#, "name"),
        (r#"{"sub":"u","name":1.5}"#, "name"),
        (r#"{"sub":"u","image":{"url":"x"}}"#, "image"),
        (r#"{"sub":"u","email":["e"]}"#, "email"),
        (r#"{"sub":"u","role":true}"#, "role"),
        (r#"{"sub":"u","role":["ADMIN",{"name":"x"}]}"#, "role"),
        (r#"{"sub":"u","role":["ADMIN",true]}"#, "role"),
        (r#"{"sub":"u","role":[["ADMIN"]]}"#, "role"),
    ] {
        assert_eq!(user(json), Err(TokenError::Claim(what)), "{json}");
    }
}

#[test]
fn a_null_or_empty_claim_is_skipped_for_the_next() {
    for json in [r#"{"sub":"","userId":"u"}"#, r#"{"sub":null,"userId":"u"}"#, r#"{"id":"u","userId":"","sub":null}"#] {
        assert_eq!(&*user(json).unwrap().id, "u", "{json}");
    }
    let user = user(r#"{"sub":"u","tenant":"","companyId":"c","name":"","email":null,"role":[]}"#).unwrap();
    assert_eq!((user.tenant.as_deref(), user.name, user.email, user.role), (Some("c"), None, None, None));
    assert!(user.roles.is_empty());
}

#[test]
fn a_number_is_a_name_and_a_role_may_be_a_list() {
    assert_eq!(user(r#"{"sub":42,"name":7}"#).unwrap().name.as_deref(), Some("7"));
    let roles = |json: &str| user(json).unwrap().roles.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(roles(r#"{"sub":"u","role":"ADMIN"}"#), ["ADMIN"]);
    assert_eq!(roles(r#"{"sub":"u","role":3}"#), ["3"]);
    assert_eq!(roles(r#"{"sub":"u","role":["STUDENT",null,"",7,"ADMIN"]}"#), ["STUDENT", "7", "ADMIN"]);
    assert_eq!(user(r#"{"sub":"u","role":["STUDENT","ADMIN"]}"#).unwrap().role.as_deref(), Some("STUDENT"));
    let many = |count: usize| format!(r#"{{"sub":"u","role":[{}]}}"#, vec!["1"; count].join(","));
    assert_eq!(roles(&many(64)).len(), 64);
    assert_eq!(user(&many(65)), Err(TokenError::Claim("role")));
}

#[test]
fn a_duplicate_claim_is_refused_in_any_spelling() {
    for json in [
        r#"{"sub":"a","sub":"a"}"#,
        r#"{"sub":"a","s\u0075b":"b"}"#,
        r#"{"sub":"a","x":1,"x":2}"#,
        r#"{"sub":"a","exp":9999999999,"exp":1}"#,
    ] {
        assert_eq!(user(json), Err(TokenError::DuplicateClaim), "{json}");
    }
}

#[test]
fn only_one_object_within_the_limits_is_read() {
    let nested = |levels: usize| format!(r#"{{"sub":"u","x":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    assert!(user(&nested(63)).is_ok());
    let members = |count: usize| {
        let more: String = (1..count).map(|i| format!(r#","c{i}":0"#)).collect();
        format!(r#"{{"sub":"u"{more}}}"#)
    };
    assert!(user(&members(64)).is_ok());
    for json in [
        "",
        "null",
        "[]",
        r#""u""#,
        r#"{"sub":"u""#,
        r#"{"sub":"u"}{}"#,
        r#"{"sub":"u",}"#,
        r#"{"sub":"\ud800"}"#,
        r#"{"sub":"u","x":{"y":"\ud800"}}"#,
        &nested(64),
        &nested(5000),
        &members(65),
    ] {
        assert!(matches!(user(json), Err(TokenError::Malformed(_))), "{json}");
    }
}

#[test]
fn times_are_seconds_from_1970_to_the_year_9999() {
    let exp = |json: &str| Claims::read(json, &ClaimNames::default()).map(|claims| claims.expires_ms);
    for (json, millis) in [
        (r#"{"exp":0}"#, Some(0)),
        (r#"{"exp":10}"#, Some(10_000)),
        (r#"{"exp":1.7e9}"#, Some(1_700_000_000_000)),
        (r#"{"exp":10.5}"#, Some(10_500)),
        (r#"{"exp":253402300799}"#, Some(253_402_300_799_000)),
        ("{}", None),
    ] {
        assert_eq!(exp(json), Ok(millis), "{json}");
    }
    for (claim, named) in [("exp", "expiry"), ("nbf", "beginning"), ("iat", "time of issue")] {
        for time in
            ["253402300800", "18446744073709551615", "1e300", "-10", "-0.5", "253402300800.5", "\"10\"", "null", "[10]", "true"]
        {
            let outcome = exp(&format!(r#"{{"{claim}":{time}}}"#));
            assert_eq!(outcome, Err(TokenError::Claim(named)), "{claim}: {time}");
        }
    }
}
