//! The configuration from a file and from the environment. No test may start a server.
#![allow(clippy::unwrap_used)]

mod secrets;

use super::*;
use crate::telemetry::LogFormat;

fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The configuration of `hubbub dev` with this environment.
fn with(pairs: &[(&str, &str)]) -> Config {
    load(Mode::Dev, None, &environment(pairs)).unwrap()
}

/// Why this environment is refused.
fn refusal(pairs: &[(&str, &str)]) -> String {
    load(Mode::Dev, None, &environment(pairs)).unwrap_err().to_string()
}

fn secrets(list: &[Secret]) -> Vec<&str> {
    list.iter().map(Secret::expose).collect()
}

fn plugin(config: &Config) -> &serde_json::Map<String, serde_json::Value> {
    &config.plugins[&PluginName::parse("chat").unwrap()].config
}

#[test]
fn the_environment_sets_every_key() {
    let config = with(&[
        ("HUBBUB_PLUGINS__CHAT__CONFIG__MESSAGES_PER_MINUTE", "0"),
        ("HUBBUB_PRESENCE__GRACE", "2s"),
        ("HUBBUB_SERVER__LISTEN", "127.0.0.1:1"),
        ("HUBBUB_CORS__ORIGINS", r#"["https://a.example"]"#),
        ("HUBBUB_BIN", "ignored"),
    ]);
    assert_eq!(plugin(&config)["messages_per_minute"], 0);
    assert_eq!(config.presence.grace, Duration::from_secs(2));
    assert_eq!(config.server.listen.port, 1);
    assert_eq!(config.cors.origins, ["https://a.example"]);
}

#[test]
fn lists_are_parsed_in_the_forms_of_compose_files_and_charts() {
    let (a, b) = ("https://a.example", "https://b.example");
    let written = [
        (r#"["https://a.example"]"#, vec![a]),
        ("https://a.example", vec![a]),
        (" https://a.example ", vec![a]),
        (r#""https://a.example""#, vec![a]),
        ("'https://a.example'", vec![a]),
        ("['https://a.example']", vec![a]),
        ("https://a.example,https://b.example", vec![a, b]),
        ("https://a.example, https://b.example,", vec![a, b]),
        (r#""https://a.example", "https://b.example""#, vec![a, b]),
        ("[\n  \"https://a.example\",\n  'https://b.example',\n]", vec![a, b]),
        ("*", vec!["*"]),
        ("[]", vec![]),
    ];
    for (text, origins) in written {
        let config =
            load(Mode::Serve, None, &environment(&[("JWT_SECRET", "a secret of a test"), ("HUBBUB_CORS__ORIGINS", text)]));
        assert_eq!(config.unwrap().cors.origins, origins, "{text}");
    }
    for text in ["[https://a.example]", "[\"https://a.example\"", "[ 'https://a.example'"] {
        assert!(refusal(&[("HUBBUB_CORS__ORIGINS", text)]).contains("must be a list"), "{text}");
    }
}

#[test]
fn a_secret_of_digits_stays_a_text() {
    for text in ["12345", "007", "0x1f", "1_000", "1e9", "true", "12345678901234567890123"] {
        let config = with(&[("HUBBUB_API__KEYS", text), ("HUBBUB_ADMIN__TOKEN", text), ("JWT_SECRET", text)]);
        assert_eq!(secrets(&config.api.keys), [text]);
        assert_eq!(config.admin.token.as_ref().map(Secret::expose), Some(text));
        assert_eq!(config.auth.keys[0].secret.as_ref().map(Secret::expose), Some(text));
    }
    assert_eq!(secrets(&with(&[("HUBBUB_API__KEYS", "one, 2")]).api.keys), ["one", "2"]);
    assert_eq!(secrets(&with(&[("HUBBUB_API__KEYS", r#"[12345, "two"]"#)]).api.keys), ["12345", "two"]);
    let error = refusal(&[("HUBBUB_AUTH__KEYS", r#"[{"secret": ["0123"]}]"#)]);
    assert!(error.starts_with("HUBBUB_AUTH__KEYS (auth.keys.0.secret): must be"), "{error}");
    for text in [r#"[{"secret": "0123", "kid": null}]"#, r#"[{ secret = "0123" }]"#, r#"{"secret": "0123"}"#] {
        let keys = with(&[("HUBBUB_AUTH__KEYS", text)]).auth.keys;
        assert_eq!(keys[0].secret.as_ref().map(Secret::expose), Some("0123"), "{text}");
        assert_eq!((keys.len(), keys[0].kid.as_deref()), (1, None));
    }
}

#[test]
fn flags_numbers_and_durations_are_parsed_in_their_usual_forms() {
    for (text, flag) in [("true", true), ("True", true), ("1", true), ("FALSE", false), ("0", false), ("\"true\"", true)] {
        assert_eq!(with(&[("HUBBUB_BRIDGE__ENABLED", text)]).bridge.enabled, flag, "{text}");
    }
    for text in ["yes", "on", "2", "[true]"] {
        assert!(refusal(&[("HUBBUB_BRIDGE__ENABLED", text)]).ends_with("bridge.enabled): must be true or false"), "{text}");
    }
    for text in ["200000", " 200000 ", "200_000", "\"200000\""] {
        assert_eq!(with(&[("HUBBUB_GATEWAY__MAX_PAYLOAD", text)]).gateway.max_payload, 200_000, "{text}");
    }
    for text in ["1mb", "1e6", "1.5", "many"] {
        assert!(refusal(&[("HUBBUB_GATEWAY__MAX_PAYLOAD", text)]).contains("must be a whole number"), "{text}");
    }
    assert!(refusal(&[("HUBBUB_GATEWAY__MAX_PAYLOAD", "-1")]).contains("must be a whole number, 0 or more"));
    assert_eq!(with(&[("HUBBUB_GATEWAY__PING_INTERVAL", "25s ")]).gateway.ping_interval.as_secs(), 25);
    let error = refusal(&[("HUBBUB_GATEWAY__PING_INTERVAL", "25")]);
    assert!(error.starts_with("HUBBUB_GATEWAY__PING_INTERVAL (gateway.ping_interval): `25` is not a duration"), "{error}");
    assert_eq!(with(&[("HUBBUB_QUOTA__CPU", "0.25")]).quota.cpu, 0.25);
    assert!(refusal(&[("HUBBUB_QUOTA__CPU", "NaN")]).contains("must be a number"));
    assert_eq!(with(&[("HUBBUB_LOG__FORMAT", "JSON")]).log.format, Some(LogFormat::Json));
    assert!(refusal(&[("HUBBUB_LOG__FORMAT", "xml")]).contains("must be one of `text`, `json`"));
}

#[test]
fn tables_are_json_or_toml_and_single_keys_may_be_added() {
    for text in [r#"{"a.b": "there"}"#, r#"{ "a.b" = "there" }"#] {
        assert_eq!(with(&[("HUBBUB_EGRESS__KAFKA", text)]).egress.kafka["a.b"], "there");
    }
    assert!(refusal(&[("HUBBUB_EGRESS__KAFKA", "a.b")]).contains("must be a table"));
    let both = with(&[("HUBBUB_PLUGINS__CHAT__CONFIG", r#"{"a": 1}"#), ("HUBBUB_PLUGINS__CHAT__CONFIG__B", "2")]);
    assert_eq!(serde_json::to_string(plugin(&both)).unwrap(), r#"{"a":1,"b":2}"#);
    let networks = with(&[("HUBBUB_ADMISSION__TRUSTED_PROXIES", "10.0.0.0/8, ::1")]);
    assert_eq!(networks.admission.trusted_proxies.len(), 2);
    let streams = with(&[("HUBBUB_INGEST__STREAMS__STREAMS", "orders, events")]).ingest.streams.streams;
    assert_eq!(streams.all().into_iter().collect::<Vec<_>>(), ["events", "orders"]);
    let streams = with(&[("HUBBUB_INGEST__STREAMS__STREAMS", r#"{"orders": "order.made"}"#)]).ingest.streams.streams;
    assert_eq!(streams.all().into_iter().collect::<Vec<_>>(), ["order.made", "orders"]);
}

#[test]
fn a_plugins_settings_are_parsed_as_json_if_possible() {
    let settings = [
        ("20", serde_json::json!(20)),
        ("-1", serde_json::json!(-1)),
        ("0.5", serde_json::json!(0.5)),
        ("\"20\"", serde_json::json!("20")),
        ("true", serde_json::json!(true)),
        ("True", serde_json::json!("True")),
        ("a text", serde_json::json!("a text")),
        ("'a text'", serde_json::json!("a text")),
        ("2024-11-16", serde_json::json!("2024-11-16")),
        ("007", serde_json::json!("007")),
        ("12345678901234567890123", serde_json::json!("12345678901234567890123")),
        (r#"["a", 1, {"b": [null]}]"#, serde_json::json!(["a", 1, {"b": [null]}])),
        ("{ a = ['b'], c = 1 }", serde_json::json!({"a": ["b"], "c": 1})),
        ("[not a list", serde_json::json!("[not a list")),
        ("[not a list]", serde_json::json!("[not a list]")),
    ];
    for (text, value) in settings {
        assert_eq!(plugin(&with(&[("HUBBUB_PLUGINS__CHAT__CONFIG__SETTING", text)]))["setting"], value, "{text}");
    }
    let dashed = with(&[("HUBBUB_PLUGINS__LIVE_POLLS__CONFIG__SECONDS", "5")]);
    assert!(dashed.plugins.contains_key(&PluginName::parse("live-polls").unwrap()), "a variable's name has no `-`");
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let names =
        ["HUBBUB_CORS__ORIGINS", "HUBBUB_API__KEYS", "HUBBUB_GATEWAY__MAX_PAYLOAD", "HUBBUB_SERVER__PLUGINS", "REDIS_URL"];
    for value in ["", " "] {
        let config = with(&names.map(|name| (name, value)));
        assert_eq!(config.gateway.max_payload, 100_000);
        assert_eq!(secrets(&config.api.keys), ["dev-api-key"]);
        assert!(config.server.plugins.is_none() && config.redis.url.is_none());
    }
}

#[test]
fn an_unknown_key_of_a_variable_is_refused_with_the_nearest_key() {
    let expected = [
        ("HUBBUB_GATEWAY__PINGINTERVAL", "did you mean HUBBUB_GATEWAY__PING_INTERVAL?"),
        ("HUBBUB_GATEWAY__MAX_PAYLAOD", "did you mean HUBBUB_GATEWAY__MAX_PAYLOAD?"),
        ("HUBBUB_GATWAY__MAX_PAYLOAD", "did you mean HUBBUB_GATEWAY?"),
        ("HUBBUB_SERVER__TOKEN", "did you mean HUBBUB_ADMIN__TOKEN?"),
        ("HUBBUB_PLUGINS__CHAT__CONFIGS__A", "did you mean HUBBUB_PLUGINS__CHAT__CONFIG?"),
        ("HUBBUB_JWT__SECRET", "there is no such setting"),
        ("HUBBUB_GATEWAY__", "a part of the name is empty"),
        ("HUBBUB___MAX_PAYLOAD", "a part of the name is empty"),
        ("HUBBUB_GATEWAY__MAX_PAYLOAD__X", "must be a whole number, 0 or more"),
    ];
    for (name, error) in expected {
        let refusal = refusal(&[(name, "1")]);
        assert!(refusal.starts_with(name) && refusal.ends_with(error), "{name}: {refusal}");
    }
    let twice = refusal(&[("HUBBUB_GATEWAY__MAX_PAYLOAD", "1"), ("HUBBUB_gateway__max_payload", "2")]);
    assert_eq!(twice, "HUBBUB_gateway__max_payload: HUBBUB_GATEWAY__MAX_PAYLOAD sets the same key");
}

#[test]
fn a_variable_near_a_key_is_noted_and_never_refused() {
    let notes = |name: &str| with(&[(name, "x")]).notes;
    for (name, key) in [
        ("HUBBUB_GATEWAY_PING_INTERVAL", "HUBBUB_GATEWAY__PING_INTERVAL"),
        ("HUBBUB_API_KEY", "HUBBUB_API__KEYS"),
        ("HUBBUB_SERVER_LISTEN", "HUBBUB_SERVER__LISTEN"),
        ("HUBBUB_JWT_SECRET", "JWT_SECRET"),
        ("HUBBUB_REDIS_URL", "REDIS_URL"),
    ] {
        assert_eq!(notes(name), [format!("{name} configures nothing; did you mean {key}?")]);
    }
    let injected = [
        "HUBBUB_SERVICE_HOST",
        "HUBBUB_SERVICE_PORT",
        "HUBBUB_SERVICE_PORT_HTTP",
        "HUBBUB_PORT",
        "HUBBUB_PORT_4100_TCP",
        "HUBBUB_PORT_4100_TCP_ADDR",
        "HUBBUB_PORT_4100_TCP_PROTO",
        "HUBBUB_ADMIN_SERVICE_HOST",
        "HUBBUB_ADMIN_PORT_4101_TCP_PORT",
        // Of a service named `hubbub--blue`.
        "HUBBUB__BLUE_SERVICE_HOST",
        "HUBBUB__BLUE_PORT_4100_TCP_ADDR",
        "HUBBUB__BLUE_PORT",
    ];
    for name in injected.into_iter().chain(["HUBBUB_FOO", "HUBBUB_BIN", "HUBBUB_TEST_NODES", "HUBBUB_WASM_TOOLCHAIN"]) {
        assert!(notes(name).is_empty(), "{name}: {:?}", notes(name));
    }
    let of_a_plugin = with(&[("HUBBUB_PLUGINS__CHAT__CONFIG__SMTP_SERVICE_HOST", "mail")]);
    assert_eq!(plugin(&of_a_plugin)["smtp_service_host"], "mail", "a plugin's own setting may have any name");
}

#[test]
fn the_operators_token_variable_is_noted_if_the_server_has_no_token() {
    let commands = ("HUBBUB_ADMIN_TOKEN", "x");
    assert!(with(&[commands]).notes[0].contains("HUBBUB_ADMIN__TOKEN"));
    assert!(with(&[commands, ("HUBBUB_ADMIN__TOKEN", "y")]).notes.is_empty());
}

#[test]
fn every_key_is_found_in_the_types() {
    let keys = keys::all();
    for key in ["gateway.max_payload", "server.listen", "auth.claims.user_id", "plugins.NAME.quota.cpu", "plugins.NAME.config"] {
        assert!(keys.iter().any(|known| known == key), "{key} is missing in {keys:?}");
    }
    assert!(!keys.iter().any(|key| key == "notes"));
}

#[test]
fn the_standard_collector_variable_is_used_unless_ours_is_set() {
    let standard = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318");
    let found = |pairs: &[(&str, &str)]| with(pairs).traces.endpoint;
    assert_eq!(found(&[]), None);
    assert_eq!(found(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), None);
    assert_eq!(found(&[standard]).as_deref(), Some("http://a:4318"));
    assert_eq!(found(&[standard, ("HUBBUB_TRACES__ENDPOINT", "http://b:4318")]).as_deref(), Some("http://b:4318"));
}

#[test]
fn the_variables_of_database_and_kafka_take_precedence() {
    let variables = [("DATABASE_URL", "postgres://u:secret@a/d"), ("HUBBUB_STORAGE__URL", "postgres://u:secret@b/d")];
    assert_eq!(with(&variables).storage.url, Some(storage::Url::from("postgres://u:secret@a/d".to_owned())));
    assert_eq!(with(&variables[1..]).storage.url, Some(storage::Url::from("postgres://u:secret@b/d".to_owned())));
    assert_eq!(with(&[("KAFKA_BROKERS", "a:1"), ("HUBBUB_KAFKA__BROKERS", "b:1")]).kafka.brokers, "a:1");
}

#[test]
fn serve_requires_a_key_other_than_the_public_one() {
    let none = load(Mode::Serve, None, &environment(&[])).unwrap_err();
    assert!(matches!(none, ConfigError::NoKey));
    let dev = load(Mode::Serve, None, &environment(&[("JWT_SECRET", DEV_SECRET)])).unwrap_err();
    assert!(matches!(dev, ConfigError::DevSecret));
}

#[test]
fn the_old_name_of_a_section_works_with_a_note() {
    let config = with(&[("HUBBUB_DOOR__CONNECTIONS", "7")]);
    assert_eq!(config.admission.connections, 7);
    assert!(config.notes.iter().any(|note| note.starts_with("HUBBUB_DOOR__CONNECTIONS: `door` was renamed to `admission`")));
    let file: Table = "[door]\nuser_sockets = 3\n[redis]\nbeat = \"2s\"".parse().unwrap();
    let config = assemble(Mode::Dev, file, &BTreeMap::from([("HUBBUB_REDIS__LEDGER".into(), "9".into())])).unwrap();
    assert_eq!((config.admission.user_sockets, config.redis.room_counts), (3, 9));
    assert_eq!(config.redis.heartbeat, Duration::from_secs(2));
    assert_eq!(config.notes.len(), 3, "{:?}", config.notes);
}

#[test]
fn a_removed_key_is_ignored_with_a_note() {
    let file: Table = "[gateway]\nmax_namespaces = 5".parse().unwrap();
    let variables = BTreeMap::from([("HUBBUB_GATEWAY__NAMESPACE_IDLE".into(), "1s".into())]);
    let notes = assemble(Mode::Dev, file, &variables).unwrap().notes;
    assert!(notes.iter().any(|note| note.starts_with("gateway.max_namespaces: `gateway.max_namespaces` has no effect")));
    assert!(notes.iter().any(|note| note.starts_with("HUBBUB_GATEWAY__NAMESPACE_IDLE: `gateway.namespace_idle` has no effect")));
}

#[test]
fn a_section_under_both_names_is_refused() {
    let both = refusal(&[("HUBBUB_DOOR__CONNECTIONS", "7"), ("HUBBUB_ADMISSION__USER_CPU", "1")]);
    assert!(both.contains("HUBBUB_DOOR__CONNECTIONS and HUBBUB_ADMISSION__USER_CPU are both set"), "{both}");
    let file: Table = "[door]\nconnections = 3\n[admission]\nconnect_queue = 1".parse().unwrap();
    let both = assemble(Mode::Dev, file, &BTreeMap::new()).unwrap_err().to_string();
    assert!(both.starts_with("door and admission are both set"), "{both}");
}
