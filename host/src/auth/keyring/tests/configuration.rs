//! Every mistake in `[auth]` fails loading, with an error that names it.

use super::kit::{NOW, SECRET, Signer, TempFile, load, pem_path, user};
use crate::auth::config::{Config, DEV_SECRET};
use crate::auth::key_loader::LoadError;
use crate::auth::keyring::Keyring;

/// The error's text.
fn mistake(toml: &str) -> String {
    load(toml).err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn a_mistake_in_a_key_is_reported_with_its_name() {
    let pem = |name: &str| format!("public_key_file = '{}'", pem_path(name).display());
    let short = TempFile::new("short\n");
    let table = [
        ("".to_owned(), "exactly one of"),
        (format!("secret = '{SECRET}'\nsecret_file = 'x'"), "and has 2"),
        ("secret = 'seven b'".to_owned(), "has a secret of 7 bytes"),
        ("secret = ''".to_owned(), "has a secret of 0 bytes"),
        (format!("secret_file = '{}'", short.0.display()), "has a secret of 5 bytes"),
        (format!("secret = '{DEV_SECRET}'"), "which everyone knows"),
        (format!("secret = '{SECRET}'\nalg = 'RS256'"), "pinned to RS256"),
        ("secret = '-----BEGIN PUBLIC KEY----- and so on, and so on'".to_owned(), "PEM text as its secret"),
        (format!("secret = '{SECRET}'\nrefresh = '1m'"), "has `refresh`, which is for a JWKS only"),
        (format!("secret = '{SECRET}'\nkid = ''"), "key id"),
        (format!("secret = '{SECRET}'\nkid = '{}'", "k".repeat(129)), "key id"),
        (format!("secret = '{SECRET}'\ntenant = ''"), "has a tenant"),
        (format!("secret = '{SECRET}'\ntenant = '{}'", "t".repeat(257)), "has a tenant"),
        (format!("secret = '{SECRET}'\nnamespaces = ['hub']"), "opens `hub`"),
        (format!("secret = '{SECRET}'\nnamespaces = ['/a{{id}}']"), "opens `/a{id}`"),
        (format!("secret = '{SECRET}'\nnamespaces = ['/a/{{id}}/b']"), "opens `/a/{id}/b`"),
        (format!("secret = '{SECRET}'\nnamespaces = ['/a/{{}}']"), "opens `/a/{}`"),
        ("secret_file = '/nowhere/secret'".to_owned(), "cannot be read from /nowhere/secret"),
        ("public_key_file = '/nowhere/key.pem'".to_owned(), "cannot be read from /nowhere/key.pem"),
        (pem("test_rsa_private"), "is a private key"),
        (pem("test_ec1_private"), "is a private key"),
        (pem("test_rsa1024_public"), "2048 to 8192 bits"),
        (pem("test_p384_public"), "not a point of P-256"),
        (pem("test_ec1_public") + "\nalg = 'RS256'", "pinned to RS256"),
        (pem("test_rsa_public") + "\nalg = 'HS256'", "pinned to HS256"),
        (format!("public_key_file = '{}'", short.0.display()), "not PEM"),
        ("jwks_url = 'http://keys.example.com/'".to_owned(), "not https"),
        ("jwks_url = 'http://127.0.0.1.example.com/'".to_owned(), "not https"),
        ("jwks_url = 'keys'".to_owned(), "not https"),
        ("jwks_url = 'file:///etc/keys'".to_owned(), "not https"),
        ("jwks_url = 'https://keys.example.com/'\nkid = '1'".to_owned(), "has `kid`"),
        ("jwks_url = 'https://keys.example.com/'\nalg = 'HS256'".to_owned(), "pinned to HS256"),
        ("jwks_url = 'https://keys.example.com/'\nrefresh = '99ms'".to_owned(), "under 100ms"),
        ("jwks_file = '/nowhere/set.json'".to_owned(), "has a set that cannot be used"),
        (format!("jwks_file = '{}'", short.0.display()), "no JSON Web Key Set"),
    ];
    for (key, wanted) in table {
        let text = mistake(&format!("[[keys]]\nsecret = '{SECRET}'\nname = 'fine'\n[[keys]]\nname = 'wrong one'\n{key}"));
        assert!(text.starts_with("the key wrong one ") && text.contains(wanted), "{key}: {text}");
        assert!(!text.contains(SECRET), "{text}");
    }
}

#[test]
fn a_mistake_in_the_settings_is_reported() {
    for (toml, wanted) in [
        ("".to_owned(), "set JWT_SECRET"),
        (format!("max_token_bytes = 0\n[[keys]]\nsecret = '{SECRET}'"), "max_token_bytes"),
        (format!("claims.user_id = []\n[[keys]]\nsecret = '{SECRET}'"), "claims.user_id"),
        (format!("default_tenant = ''\n[[keys]]\nsecret = '{SECRET}'"), "default_tenant is empty"),
        (format!("[[keys]]\nsecret = '{SECRET}'\n").repeat(65), "more than 64"),
    ] {
        assert!(mistake(&toml).contains(wanted), "{wanted}: {}", mistake(&toml));
    }
    for toml in [
        "leeway = '30'",
        "leeway = 30",
        "leway = '30s'",
        "[[keys]]\nsecrets = 'x'",
        "[[keys]]\nalg = 'none'",
        "[[keys]]\nalg = 'RS512'",
    ] {
        assert!(toml::from_str::<Config>(toml).is_err(), "{toml}");
    }
}

#[test]
fn debug_output_hides_secrets() {
    let config: Config = toml::from_str(&format!("[[keys]]\nsecret = '{SECRET}'")).unwrap();
    assert!(!format!("{config:?}").contains(SECRET));
}

#[test]
fn dev_uses_its_own_secret_or_any_configured_one() {
    let dev = |config: &Config| Keyring::load(config, true);
    let signed = |secret: &str| Signer::hmac(jsonwebtoken::Algorithm::HS256, secret).token(user());
    assert!(dev(&Config::default()).unwrap().verify(&signed(DEV_SECRET), "/", NOW).is_ok());
    let mut config = Config::default();
    config.add_secret("JWT_SECRET", "short");
    let ring = dev(&config).unwrap();
    assert!(ring.verify(&signed("short"), "/", NOW).is_ok());
    assert!(ring.verify(&signed(DEV_SECRET), "/", NOW).is_err());
    assert!(matches!(Keyring::load(&config, false), Err(LoadError::Key { name, .. }) if name == "JWT_SECRET"));
    let mut empty = Config::default();
    empty.add_secret("JWT_SECRET", "");
    assert!(dev(&empty).is_err());
}

#[test]
fn a_secret_of_eight_bytes_is_the_shortest_unless_configured() {
    assert!(load("[[keys]]\nsecret = '8-bytes!'").is_ok());
    assert!(mistake("[[keys]]\nsecret = '7-bytes'").contains("auth.min_secret_bytes is 8"));
    assert!(mistake(&format!("[[keys]]\nsecret = '{}'", " ".repeat(40))).contains("0 bytes"), "only spaces");
    assert!(mistake("min_secret_bytes = 16\n[[keys]]\nsecret = 'fifteen-bytes-x'").contains("auth.min_secret_bytes is 16"));
    assert!(load(&format!("[[keys]]\nsecret = '{DEV_SECRET}'")).is_err());
}
