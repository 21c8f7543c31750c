//! Components that no compiler makes, with invalid pointers, lengths and numbers. The host must never do more than reject them at
//! staging with a reason, or refuse the one call.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tests::abi::{After, DOOR, EVENTS, Guest, Realloc, Start, TENANCY, TOKEN, pair};
use tests::{Client, Load, Server, fixture, machine, token, wait};

const BEYOND: u32 = 0x7fff_fff0;

async fn server() -> Server {
    Server::dev().only(&[]).plugin("versioned", &fixture::versioned("1.0.0").await).start().await
}

async fn deploy(server: &Server, guest: Guest) -> (u16, Value) {
    server.admin(Method::POST, "/admin/plugins/abi/deploy", guest.component()).await
}

/// A guest with one wrong answer for each event, the description of each fault, and the event of the one correct answer.
fn faulty_guest() -> (Guest, BTreeMap<String, &'static str>, String) {
    let mut guest = Guest::new();
    let mut events = BTreeMap::new();
    let (words, broken, surrogate) = (guest.text(b"\"fine\""), guest.text(b"\"\xff\""), guest.text(b"\"\xed\xa0\x80\""));
    let reply = |text: [u8; 8]| [&[0; 8][..], &[1, 0, 0, 0], &text].concat();
    let fine = guest.answer(&reply(words));
    let refusal =
        |code: u8, text: [u8; 8], retry: u8| [&[1, 0, 0, 0, 0, 0, 0, 0, code, 0, 0, 0][..], &text, &[0; 4], &[retry]].concat();
    let other = guest.put(&[0; 64]);
    events.insert(guest.answer_at(BEYOND), "an answer beyond memory");
    events.insert(guest.answer_at(0xffff_fff8), "an answer whose address wraps around");
    events.insert(guest.answer_at((128 << 10) - 8), "an answer across the end of memory");
    events.insert(guest.answer_at(other + 1), "an answer at an odd address");
    events.insert(guest.answer(&reply(pair(BEYOND, 2))), "a reply beyond memory");
    events.insert(guest.answer(&reply(pair(1024, BEYOND))), "a reply longer than memory");
    events.insert(guest.answer(&reply(pair(1024, u32::MAX))), "a reply whose end wraps around");
    events.insert(guest.answer(&reply(broken)), "a reply that is not UTF-8");
    events.insert(guest.answer(&reply(surrogate)), "a reply with half a character");
    events.insert(guest.answer(&[2]), "neither ok nor an error");
    events.insert(guest.answer(&[0, 0, 0, 0, 0, 0, 0, 0, 7]), "neither some nor none");
    events.insert(guest.answer(&refusal(200, words, 0)), "an unknown code");
    events.insert(guest.answer(&refusal(1, pair(BEYOND, 9), 0)), "a sentence beyond memory");
    events.insert(guest.answer(&refusal(1, broken, 0)), "a sentence that is not UTF-8");
    events.insert(guest.answer(&refusal(1, words, 9)), "a time that is neither some nor none");
    events.insert(guest.answer_and(After::Loop), "a loop when the answer was read");
    events.insert(guest.answer_and(After::Trap), "a trap when the answer was read");
    events.insert(guest.answer_and(After::CallOut), "a call when the answer was read");
    (guest, events, fine)
}

/// Causes each fault once.
async fn cause_all_faults(client: &mut Client, events: &BTreeMap<String, &str>, fine: &str) {
    for (event, what) in events {
        assert_eq!(client.refused(event, Value::Null).await, ("internal".into(), "Internal error".into()), "{what}");
        assert_eq!(client.ask(fine, Value::Null).await, "fine", "after {what}");
    }
    for realloc in Realloc::ALL {
        client.ask(&Guest::arm(realloc), Value::Null).await;
        // The same instance then allocates memory for this call's arguments.
        assert_eq!(client.refused(fine, Value::Null).await.0, "internal", "{realloc:?}");
        assert_eq!(client.ask(fine, Value::Null).await, "fine", "after {realloc:?}");
    }
}

#[tokio::test]
async fn an_invalid_answer_refuses_only_its_own_call() {
    let server = server().await;
    let (guest, events, fine) = faulty_guest();
    assert_eq!(events.len(), 18);
    let (status, answer) = deploy(&server, guest).await;
    assert_eq!((status, &answer["state"]), (200, &json!("active")), "{answer}");
    let mut client = server.connect("/abi", ()).await;
    cause_all_faults(&mut client, &events, &fine).await;
}

#[tokio::test]
async fn an_unreadable_description_is_rejected_with_a_reason() {
    let server = server().await;
    let guest = Guest::new;
    let text = |bytes: &[u8]| {
        let mut guest = guest();
        let broken = guest.text(bytes);
        guest.describe_with(0, &broken)
    };
    let cases = [
        ("beyond memory", guest().with_description_offset(BEYOND & !7), "describe"),
        ("past the end", guest().with_description_offset(128 << 10), "describe"),
        ("at an odd address", guest().with_description_offset(1), "describe"),
        ("a list longer than memory", guest().describe_with(EVENTS, &pair(1024, BEYOND)), "describe"),
        ("a list whose size wraps around", guest().describe_with(EVENTS, &pair(1024, u32::MAX)), "describe"),
        ("a list at an odd address", guest().describe_with(EVENTS, &pair(1025, 1)), "describe"),
        ("a list beyond memory", guest().describe_with(EVENTS, &pair(BEYOND, 1)), "describe"),
        ("a name that is not UTF-8", text(b"ab\xff"), "describe"),
        ("another name", text(b"chat"), "chat"),
        ("an unknown tenancy", guest().describe_with(TENANCY, &[9]), "describe"),
        ("a door policy that is neither some nor none", guest().namespace_with(DOOR, &[3]), "describe"),
        ("an unknown token policy", guest().namespace_with(TOKEN, &[5]), "describe"),
        ("an answer of `init` beyond memory", guest().with_init_address(BEYOND), "init"),
        ("an answer of `init` at an odd address", guest().with_init_address(1025), "init"),
        ("a start that loops", guest().with_start(Start::Loop), "describe"),
        ("a start that traps", guest().with_start(Start::Trap), "describe"),
    ];
    for (what, guest, word) in cases {
        let (status, answer) = deploy(&server, guest).await;
        assert_eq!(status, 422, "{what}: {answer}");
        let detail = answer["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(word), "{what}: {answer}");
    }
    // A rejected component does not block a valid one.
    assert_eq!(deploy(&server, faulty_guest().0).await.0, 200);
    let (_, listed) = server.admin(Method::GET, "/admin/plugins", vec![]).await;
    assert_eq!(listed["plugins"].as_array().map(Vec::len), Some(2), "{listed}");
}

#[tokio::test]
async fn invalid_answers_disturb_no_other_plugin_and_leak_no_memory() {
    const ROUNDS: usize = 3;
    /// The memory that hundreds of instances may leave: leaked instances would take tens of megabytes.
    const MEMORY: u64 = 16 << 20;
    /// Shorter latencies vary with the scheduler alone.
    const JITTER: Duration = Duration::from_millis(5);
    machine::exclusive();
    let server = server().await;
    let (guest, events, fine) = faulty_guest();
    assert_eq!(deploy(&server, guest).await.0, 200);
    let mut attacker = server.connect("/abi", ()).await;
    let connecting = (0..10).map(async |n| server.connect("/versioned", token(&format!("u{n}"))).await);
    let mut load = Load { clients: join_all(connecting).await, event: "version", per_second: 500 };
    let served = |ack: &Value| assert_eq!(ack, "1.0.0");
    load.during(served, cause_all_faults(&mut attacker, &events, &fine)).await;
    let memory = server.resident_bytes();
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let ((), quiet) = load.during(served, tokio::time::sleep(Duration::from_secs(1))).await;
        let faults = async {
            for _ in 0..5 {
                cause_all_faults(&mut attacker, &events, &fine).await;
            }
        };
        let ((), disturbed) = load.during(served, faults).await;
        ratios.push(disturbed.p99().as_secs_f64() / quiet.p99().max(JITTER).as_secs_f64());
    }
    load.expect_no_extra_acks().await;
    assert!(ratios.iter().any(|ratio| *ratio <= 3.0), "p99 during faults divided by p99 without: {ratios:?}");
    wait::eventually("the memory to be freed", async || server.resident_bytes().saturating_sub(memory) < MEMORY).await;
}
