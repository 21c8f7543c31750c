//! Hidden texts, and words that are kept so that a call can be replayed.
#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

fn redactor(hide: Hide, data: &str) -> Redactor {
    // A hand-made component: a core module with one data segment.
    let keys = ["content", "phone"].map(str::to_owned);
    let mut section = vec![1, 1];
    section.extend(leb(data.len()));
    section.extend(data.as_bytes());
    let module = [b"\0asm\x01\0\0\0\x0b".to_vec(), leb(section.len()), section].concat();
    Redactor::new(hide, &keys, Vocabulary::of(&module)).unwrap()
}

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

const DATA: &str = "chatIdcontenttypeurgentpeerssubadminmsg/You may send no more messages, please wait a minute";

/// A call of a chat, before redaction.
fn call() -> Value {
    let payload = json!({ "chatId": "c17", "content": "Meet Bia-Maria at 9, 06 12 34 56 78", "type": "urgent", "n": 42 });
    let stored = json!({ "peers": { "ana@mill.test": 1, "bia": 2 }, "html": "<b>secretive</b>" });
    json!({
        "at": 1, "export": "on-event",
        "caller": { "socket": 7, "namespace": "/chat", "user": {
            "id": "ana@mill.test", "name": "Ana Öst", "role": "urgent", "tenant": null,
            "claims": json!({ "sub": "ana@mill.test", "ssn": 123_456_789, "city": "Trondheim", "type": "x", "admin": true }).to_string(),
        } },
        "event": { "name": "chat:message", "args": payload.to_string() },
        "imports": [
            { "import": "store.get", "kind": "read", "args": ["msg/c17/000042"], "answer": { "ok": { "utf8": stored.to_string() } } },
            { "import": "random.bytes", "kind": "draw", "args": [4], "answer": { "utf8": "abcd" } },
            { "import": "emitter.to_room", "kind": "effect", "args": ["/chat", "chat:c17", "chat:message",
                json!({ "chatId": "c17", "content": "Meet Bia-Maria at 9, 06 12 34 56 78", "id": "x9f8e7d6", "cut": "Meet Bia-Mar" }).to_string(), []] },
        ],
        "outcome": { "refused": { "code": "invalid", "message": "Meet: You may send no more messages, please wait a minute" } },
        "cpuNs": 5,
    })
}

fn hidden(hide: Hide) -> Value {
    let mut value = call();
    redactor(hide, DATA).call(&mut value);
    value
}

fn inside(value: &Value) -> Value {
    serde_json::from_str(value.as_str().unwrap()).unwrap()
}

#[test]
fn no_text_of_users_is_left() {
    let text = hidden(Hide::Texts).to_string().to_lowercase();
    let hidden =
        ["meet", "bia", "maria", "12 34", "ana@", "mill", "öst", "trondheim", "123456789", "secretive", "c17", "\"bia\""];
    for secret in hidden {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}

#[test]
fn words_of_the_code_and_numbers_are_kept() {
    let call = hidden(Hide::Texts);
    let payload = inside(&call["event"]["args"]);
    assert_eq!((&payload["type"], &payload["n"]), (&json!("urgent"), &json!(42)));
    assert_eq!(call["event"]["name"], "chat:message");
    assert_eq!(call["caller"]["user"]["role"], "urgent");
    assert_eq!(inside(&call["caller"]["user"]["claims"])["admin"], true);
    let (was, is) = ("Meet Bia-Maria at 9, 06 12 34 56 78", payload["content"].as_str().unwrap());
    let class = |c: char| {
        if c.is_ascii_digit() {
            '9'
        } else if c.is_uppercase() {
            'A'
        } else if c.is_alphabetic() {
            'a'
        } else {
            c
        }
    };
    assert_eq!(was.chars().map(class).collect::<String>(), is.chars().map(class).collect::<String>(), "{is}");
    assert_eq!(call["imports"][1]["answer"]["utf8"], "abcd", "random bytes are not text");
    let message = call["outcome"]["refused"]["message"].as_str().unwrap();
    assert!(message.ends_with(": You may send no more messages, please wait a minute"), "{message}");
}

#[test]
fn a_word_has_the_same_stand_in_everywhere() {
    let call = hidden(Hide::Texts);
    let payload = inside(&call["event"]["args"]);
    let chat = payload["chatId"].as_str().unwrap();
    let key = call["imports"][0]["args"][0].as_str().unwrap();
    assert_eq!(key, format!("msg/{chat}/000042"));
    let args = &call["imports"][2]["args"];
    assert_eq!(args[1], format!("chat:{chat}"));
    let sent = inside(&args[3]);
    assert_eq!((&sent["chatId"], &sent["content"]), (&payload["chatId"], &payload["content"]));
    assert_eq!(sent["id"], "x9f8e7d6", "the code has made it");
    let cut = sent["cut"].as_str().unwrap();
    assert!(payload["content"].as_str().unwrap().starts_with(cut), "a truncated text: {cut}");
    let user = call["caller"]["user"]["id"].as_str().unwrap();
    assert_eq!(inside(&call["caller"]["user"]["claims"])["sub"], user);
    let peers = inside(&call["imports"][0]["answer"]["ok"]["utf8"])["peers"].clone();
    assert_eq!(peers[user], 1, "a key that is an id: {peers}");
}

#[test]
fn an_id_made_by_the_code_is_kept_in_later_calls() {
    let redactor = redactor(Hide::Texts, DATA);
    redactor.call(&mut call());
    let mut later = json!({ "event": { "name": "read", "args": json!({ "id": "x9f8e7d6" }).to_string() }, "imports": [] });
    redactor.call(&mut later);
    assert!(later.to_string().contains("x9f8e7d6"), "{later}");
}

#[test]
fn words_in_binary_values_are_hidden() {
    let raw = BASE64(b"\xff\x05Maria\x00\x01ab");
    let mut call = json!({ "imports": [{ "import": "store.get", "args": ["k"], "answer": { "ok": { "base64": raw } } }] });
    redactor(Hide::Texts, "k").call(&mut call);
    use base64::Engine as _;
    let text = call["imports"][0]["answer"]["ok"]["base64"].as_str().unwrap();
    let bytes = base64::prelude::BASE64_STANDARD.decode(text).unwrap();
    assert!(bytes.len() == 11 && bytes.starts_with(b"\xff\x05") && bytes.ends_with(b"\x00\x01ab"), "{bytes:?}");
    assert_ne!(&bytes[2..7], b"Maria");
}

#[expect(non_snake_case, reason = "the name of the encoding")]
fn BASE64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(bytes)
}

#[test]
fn a_clear_recording_keeps_texts_and_hides_secrets() {
    assert_eq!(hidden(Hide::Secrets), call());
    let mut call = json!({
        "auth": json!({ "token": "eyJhbGciOi", "lang": "pt" }).to_string(),
        "imports": [{ "import": "store.put", "args": ["by/eyJhbGciOi", { "utf8": "Ana" }], "answer": { "ok": null } }],
    });
    redactor(Hide::Secrets, "").call(&mut call);
    let text = call.to_string();
    assert!(!text.contains("eyJhbGciOi") && text.contains("pt") && text.contains("Ana"), "{text}");
}

#[test]
fn only_secrets_of_a_configuration_are_hidden() {
    let mut config = json!({ "apiKey": "k-123", "limit": 10, "every": "30s", "hook": "https://bot:hunter2@example.org/x", "db": { "password": "pw9" } });
    let mut redactor = redactor(Hide::Texts, "");
    redactor.config(config.as_object_mut().unwrap());
    let text = config.to_string();
    for secret in ["k-123", "hunter2", "bot", "pw9"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    assert_eq!((&config["limit"], &config["every"]), (&json!(10), &json!("30s")));
    assert!(text.contains("@example.org/x"), "{text}");
    let mut call =
        json!({ "imports": [{ "import": "bus.publish", "args": ["t", null, "{\"by\":\"hunter2\"}"], "answer": null }] });
    redactor.call(&mut call);
    assert!(!call.to_string().contains("hunter2"), "{call}");
}

#[test]
fn a_difference_is_redacted_like_its_call() {
    let redactor = redactor(Hide::Texts, DATA);
    let mut part = json!({ "import": "emitter.to_room", "args": ["/chat", "chat:c17", { "content": "Meet Bia-Maria" }] });
    redactor.part_of(&call(), &mut part);
    let text = part.to_string();
    assert!(
        !text.contains("Maria") && !text.contains("c17") && text.contains("emitter.to_room") && text.contains("content"),
        "{text}"
    );
}
