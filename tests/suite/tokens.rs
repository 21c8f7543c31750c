//! Invalid tokens. A client must never learn which fault its token was refused for.

use serde_json::json;
use tests::{Client, Server, token};

#[tokio::test]
async fn a_token_with_any_fault_is_refused_as_invalid() {
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
        ("an end in the year 10000", ana().claim("exp", 253_402_300_800_u64).sign()),
        ("an end that is negative", ana().claim("exp", -1).sign()),
        ("an end that is negative and a fraction", ana().claim("exp", -0.5).sign()),
        ("a time of issue that is huge", ana().claim("iat", 1e300).sign()),
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
        assert_eq!(server.connect_refused("/chat", token.as_str()).await, "Invalid token", "{fault}");
        assert_eq!(server.connect_refused("/", token.as_str()).await, "Invalid token", "{fault}, where visitors are accepted");
    }
    assert!(claims.len() > 8);
    server.connect("/chat", good.as_str()).await;
}

#[tokio::test]
async fn the_user_is_taken_from_the_first_claim_that_names_one() {
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

#[tokio::test]
async fn claims_are_accepted_in_the_forms_that_issuers_use() {
    let server = Server::dev().start().await;
    let ana = || token("ana");
    let good = [
        ("an id that is a number", ana().claim("sub", 42)),
        ("exp with a fraction", ana().claim("exp", 4_000_000_000.5)),
        ("a name that is a number", ana().claim("name", 7)),
        ("names that are null", ana().claim("name", json!(null)).claim("email", json!(null)).claim("image", json!(null))),
        ("an empty id before another", ana().claim("sub", "").claim("userId", "u")),
        ("a null id before another", ana().claim("sub", json!(null)).claim("userId", "u")),
        ("a list of roles", ana().claim("role", json!(["STUDENT", "ADMIN"]))),
        ("an empty list of roles", ana().claim("role", json!([]))),
        ("an id with signs", token("auth0|0123456789abcdef")),
        ("claims of the issuer's own", ana().claim("https://app.example/roles", json!(["x"])).claim("roles", json!([{}]))),
    ];
    for (what, token) in good {
        let connected = Client::connect(server.address(), "/chat", &token).await;
        assert!(connected.is_ok(), "{what}: {:?}", connected.err());
    }
    let bad = [
        ("exp that is a text", ana().claim("exp", "4000000000")),
        ("exp that is null", ana().claim("exp", json!(null))),
        ("a name that is a list", ana().claim("name", json!(["Ana"]))),
        ("roles that are objects", ana().claim("role", json!([{"name": "ADMIN"}]))),
        ("a role that is true", ana().claim("role", true)),
        ("an id with a fraction", ana().claim("sub", 4.5)),
        ("an id that is a list", ana().claim("sub", json!(["ana"]))),
        ("an id of 300 bytes", token(&"x".repeat(300))),
    ];
    for (what, token) in bad {
        assert_eq!(server.connect_refused("/chat", &token).await, "Invalid token", "{what}");
    }
}

#[tokio::test]
async fn one_matching_role_of_a_list_is_enough() {
    let server = Server::dev().start().await;
    for roles in [json!("ATTENDANT"), json!(["CUSTOMER", "ATTENDANT"]), json!(["ADMIN"])] {
        let connected = Client::connect(server.address(), "/hub", token("ana").claim("role", roles.clone())).await;
        assert!(connected.is_ok(), "{roles}: {:?}", connected.err());
    }
    for roles in [json!("CUSTOMER"), json!(["CUSTOMER", "attendant"]), json!([]), json!(["ATTENDANT,ADMIN"]), json!(null)] {
        let refused = server.connect_refused("/hub", token("ana").claim("role", roles.clone())).await;
        assert_eq!(refused, "Token invalido", "{roles}");
    }
}

#[tokio::test]
async fn a_token_may_include_its_scheme() {
    let server = Server::dev().start().await;
    for scheme in ["Bearer ", "bearer ", "BEARER  "] {
        let auth = json!({"token": format!("{scheme}{}", token("ana").sign())});
        let connected = Client::connect(server.address(), "/chat", auth).await;
        assert!(connected.is_ok(), "{scheme}: {:?}", connected.err());
    }
    assert_eq!(server.connect_refused("/chat", "Bearer ").await, "Authentication error", "no token at all");
    for bad in ["Bearer nonsense", "Basic abc", "Bearer undefined"] {
        assert_eq!(server.connect_refused("/chat", bad).await, "Invalid token", "{bad}");
    }
    let joined = format!("Bearer{}", token("ana").sign());
    assert_eq!(server.connect_refused("/chat", joined.as_str()).await, "Invalid token", "without a space");
}

#[tokio::test]
async fn the_docs_list_the_claims_that_are_read() {
    let server = Server::dev().env("HUBBUB_AUTH__CLAIMS__ROLE", "[\"role\", \"groups\"]").start().await;
    let answer = server.http().get(server.url("/docs")).send().await.expect("an answer").text().await.expect("a page");
    for text in ["auth.token", "Authorization: Bearer", "sub, userId, id", "tenant, companyId", "role, groups"] {
        assert!(answer.contains(text), "{text}");
    }
    let groups = token("ana").claim("groups", json!(["x", "ATTENDANT"]));
    let connected = Client::connect(server.address(), "/hub", &groups).await;
    assert!(connected.is_ok(), "{:?}", connected.err());
    let first = groups.claim("role", json!(["CUSTOMER"]));
    assert_eq!(server.connect_refused("/hub", &first).await, "Token invalido", "the first claim that exists counts");
}
