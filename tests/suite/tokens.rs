//! Tokens that must not open a door. Must never be told which of its faults a token was refused for.

use serde_json::json;
use tests::{Server, token};

#[tokio::test]
async fn a_token_with_any_fault_is_an_invalid_token() {
    let server = Server::dev().start().await;
    let ana = || token("ana");
    let good = ana().sign();
    let (head, signature) = good.rsplit_once('.').expect("three parts");
    let (header, claims) = head.split_once('.').expect("three parts");
    let other_claims = token("bia").sign();
    let stolen = other_claims.split('.').nth(1).expect("three parts");
    let faults = [
        ("expired", ana().expires_in(-120).sign()),
        ("not valid yet", ana().claim("nbf", 4_000_000_000_u64).sign()),
        ("another's key", ana().secret("not the secret").sign()),
        ("an empty key", ana().secret("").sign()),
        ("no signature", ana().unsigned()),
        ("alg none with a signature", ana().header("alg", "none").sign()),
        ("another family's alg", ana().header("alg", "RS256").sign()),
        ("another hash", ana().header("alg", "HS512").sign()),
        ("an alg of lower case", ana().header("alg", "hs256").sign()),
        ("a header that is critical", ana().header("crit", json!(["exp"])).sign()),
        ("no user", ana().without("sub").sign()),
        ("a user that is empty", token("").sign()),
        ("a user with control characters", token("a\u{0}b").sign()),
        ("another's claims", format!("{header}.{stolen}.{signature}")),
        ("a signature cut short", format!("{head}.{}", &signature[..20])),
        ("two parts", head.to_owned()),
        ("four parts", format!("{good}.x")),
        ("white space", format!(" {good}")),
        ("nothing but dots", "..".to_owned()),
        ("no base64", format!("{header}.@@@.{signature}")),
        ("90 KB", ana().claim("padding", "x".repeat(67_000)).sign()),
    ];
    for (fault, token) in faults {
        assert_eq!(server.turned_away("/chat", token.as_str()).await, "Invalid token", "{fault}");
        assert_eq!(server.turned_away("/", token.as_str()).await, "Invalid token", "{fault}, as a visitor might");
    }
    assert!(claims.len() > 8);
    server.connect("/chat", good.as_str()).await;
}

#[tokio::test]
async fn a_user_is_the_first_claim_that_names_one() {
    let server = Server::dev().start().await;
    let who = async |token: tests::Token| {
        let mut client = server.connect("/", token).await;
        client.ask("chat:join", json!({"videoId": "v1"})).await;
        client.ask("chat:message", json!({"videoId": "v1", "message": "hi"})).await;
        client.next("chat:message").await["userId"].clone()
    };
    assert_eq!(who(token("ana").claim("userId", "x").claim("id", "y")).await, "ana");
    assert_eq!(who(token("").without("sub").claim("userId", "bia").claim("id", "y")).await, "bia");
    assert_eq!(who(token("").without("sub").claim("id", 42)).await, "42", "a number is an id too");
}
