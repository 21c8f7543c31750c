//! No error and no log line may show a secret, under any key and in any form.

use super::*;

/// A part of every secret in these tests.
const HIDDEN: &str = "hunter2";

/// Every key with a secret in its value.
const SECRET_KEYS: [&str; 10] = [
    "auth.keys",
    "api.keys",
    "admin.token",
    "storage.url",
    "redis.url",
    "ingest.redis_url",
    "egress.redis_url",
    "kafka.properties",
    "kafka.properties.NAME",
    "plugins.NAME.config",
];

/// Keys with a name like a secret's and no secret in their value.
const OPEN_KEYS: [&str; 7] = [
    "auth.max_token_bytes",
    "auth.min_secret_bytes",
    "signature.keys",
    "record.redact",
    "admin.tap_payloads",
    "shares.user_presence_keys",
    "shares.tenant_presence_keys",
];

#[test]
fn every_key_with_a_name_like_a_secrets_is_tested() {
    let sounds =
        |key: &&String| ["secret", "token", "password", "url", "keys", "properties"].iter().any(|word| key.contains(word));
    for key in keys::all().iter().filter(sounds) {
        assert!(SECRET_KEYS.contains(&key.as_str()) || OPEN_KEYS.contains(&key.as_str()), "is {key} a secret?");
    }
}

/// Valid and invalid forms of a secret's value.
fn written() -> Vec<String> {
    let text = format!("pa{HIDDEN}ss");
    let forms = [
        text.clone(),
        format!("\"{text}\""),
        format!("\"{text}"),
        format!("[\"{text}\""),
        format!("[\"{text}\"]"),
        format!("[[\"{text}\"]]"),
        format!("{{\"a\": \"{text}\"}}"),
        format!("{{ a = \"{text}\" }}"),
        format!("{{\"secret\": [\"{text}\"]}}"),
        format!("[{{\"secret\": [\"{text}\"]}}]"),
        format!("[{{\"secret\": \"{text}\", \"alg\": \"{text}\"}}]"),
        format!("[{{\"secret\": {{\"{text}\": 1}}}}]"),
        format!("{{\"sasl.password\": [\"{text}\"]}}"),
        format!("postgres://u:{text}@@h/d"),
        format!("redis://u:{text}#@h"),
    ];
    forms.into()
}

fn assert_hidden(loaded: Result<Config, ConfigError>, how: &str) {
    let shown = match loaded {
        Ok(config) => format!("{config:?}"),
        Err(error) => format!("{error} {error:?}"),
    };
    assert!(!shown.contains(HIDDEN), "{how}: {shown}");
}

#[test]
fn no_secret_of_the_environment_is_shown() {
    for key in SECRET_KEYS {
        let variable = keys::variable(&key.replace("NAME", "chat"));
        for value in written() {
            for mode in [Mode::Dev, Mode::Serve] {
                let loaded = load(mode, None, &environment(&[(&variable, &value)]));
                assert_hidden(loaded, &format!("{variable}={value}"));
            }
            let below = format!("{variable}__X");
            assert_hidden(load(Mode::Dev, None, &environment(&[(&below, &value)])), &below);
        }
    }
    for variable in ["JWT_SECRET", "REDIS_URL", "DATABASE_URL"] {
        for value in written() {
            assert_hidden(load(Mode::Serve, None, &environment(&[(variable, &value)])), variable);
        }
    }
}

#[test]
fn no_secret_of_the_file_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hubbub.toml");
    for key in SECRET_KEYS {
        let key = key.replace("NAME", "chat");
        for value in written() {
            let lines = [format!("{key} = {value}"), format!("{key} = {value} {value}"), format!("{key} = '{value}'")];
            for line in lines {
                std::fs::write(&file, format!("# a comment\n{line}\n")).unwrap();
                assert_hidden(load(Mode::Dev, Some(&file), &BTreeMap::new()), &line);
            }
        }
    }
}

#[test]
fn an_error_of_the_file_names_its_key_or_position() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hubbub.toml");
    let refusal = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let error = load(Mode::Dev, Some(&file), &BTreeMap::new()).unwrap_err().to_string();
        error.strip_prefix(&format!("{}: ", file.display())).unwrap().to_owned()
    };
    assert!(
        refusal("[admin]\ntoken = \"hunter2\n").starts_with("line 2, column "),
        "{}",
        refusal("[admin]\ntoken = \"hunter2\n")
    );
    assert_eq!(refusal("[admin]\ntoken = 12345"), "admin.token: must be a text, in quotes");
    assert_eq!(refusal("[api]\nkeys = \"one\""), "api.keys: must be a list");
    assert_eq!(refusal("[gateway]\nmax_payload = \"1\""), "gateway.max_payload: must be a whole number, 0 or more");
    assert_eq!(
        refusal("[gateway]\nmax_paylaod = 1"),
        "gateway.max_paylaod: there is no such setting; did you mean gateway.max_payload?"
    );
    assert_eq!(refusal("[[auth.keys]]\nsecret = \"x\"\nalg = \"hunter2\"").split(": ").next(), Some("auth.keys.0.alg"));
    assert_eq!(refusal("[gateway]\nping_interval = 5"), "gateway.ping_interval: must be a text, in quotes");
}

#[test]
fn serve_refuses_short_and_public_secrets() {
    let long = "0123456789abcdef";
    let serve = |variable: &str, secret: &str| {
        let loaded = load(Mode::Serve, None, &environment(&[("JWT_SECRET", "a secret of enough length"), (variable, secret)]));
        loaded.map(drop).map_err(|error| error.to_string())
    };
    for (variable, key) in [("HUBBUB_API__KEYS", "api.keys.0"), ("HUBBUB_ADMIN__TOKEN", "admin.token")] {
        assert_eq!(serve(variable, long), Ok(()));
        for short in [&long[..15], " 0123456789abcde    ", "Zq"] {
            let error = serve(variable, &format!("\"{short}\"")).unwrap_err();
            assert!(error.starts_with(key) && error.contains("16 bytes") && !error.contains(short.trim()), "{error}");
            assert!(load(Mode::Dev, None, &environment(&[(variable, short)])).is_ok(), "dev accepts any");
        }
        for known in ["dev-api-key", "dev-admin-token"] {
            let error = serve(variable, known).unwrap_err();
            assert!(error.starts_with(key) && error.contains("hubbub dev"), "{error}");
        }
    }
    assert!(serve("HUBBUB_API__KEYS", &format!("{long}, short")).unwrap_err().starts_with("api.keys.1 "));
}

#[test]
fn an_empty_secret_is_refused() {
    for variable in ["HUBBUB_API__KEYS", "HUBBUB_ADMIN__TOKEN"] {
        let error = refusal(&[(variable, "\"\"")]);
        assert!(error.contains("is empty"), "{error}");
    }
}
