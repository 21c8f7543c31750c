//! Events that take effect once.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    Caller, Refusal, Result,
    budget::Budget,
    harness::{Client, Harness, user, visitor},
    plugin, store,
};

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Gift {
    coins: i64,
    client_id: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Given {
    coins: i64,
    by: String,
}

#[derive(Default)]
struct Gifts;

#[plugin(name = "gifts", version = "1.0.0", namespaces = ["/a", "/b"])]
#[door("/a", token = "optional")]
#[door("/b", token = "optional")]
impl Gifts {
    #[on("give", once = "clientId", reply = "given")]
    fn give(caller: &Caller, Gift { coins, client_id }: Gift) -> Result<Given> {
        let _ = client_id;
        if coins == 0 {
            return Err(Refusal::forbidden("Nothing"));
        }
        let by = caller.user.as_ref().map_or_else(|| "a visitor".to_owned(), |user| user.id.clone());
        Budget::per_minute("gifts", 3).take(&by)?.or_refuse("Too many")?;
        store::add("coins", coins)?;
        Ok(Given { coins, by })
    }
}

fn coins(app: &Harness<Gifts>) -> i64 {
    app.inside(|| store::counter("coins")).unwrap_or_default()
}

fn gift(coins: i64, key: impl Into<Value>) -> Value {
    json!({ "coins": coins, "clientId": key.into() })
}

fn give(client: &Client<Gifts>, coins: i64, key: &str) -> Value {
    let ack = client.emit("give", gift(coins, key)).ack();
    client.expect("given", ack.clone());
    ack
}

#[test]
fn a_repeat_gets_the_first_reply_and_takes_no_budget() {
    let app = Harness::<Gifts>::new();
    let ana = app.connect("/a", user("ana"));
    let first = give(&ana, 5, "g1");
    for other in [5, 7, 0] {
        assert_eq!(
            give(&app.connect("/a", user("ana")), other, "g1"),
            first,
            "over another connection, and with another payload"
        );
    }
    assert_eq!(coins(&app), 5);
    give(&ana, 1, "g2");
    give(&ana, 1, "g3");
    ana.emit("give", gift(1, "g4")).expect_refusal("rate_limited", "Too many");
    assert_eq!((give(&ana, 5, "g1"), coins(&app)), (first, 7));
}

#[test]
fn another_user_tenant_namespace_or_no_user_is_no_repeat() {
    let app = Harness::<Gifts>::new();
    let places = [("/a", user("ana")), ("/b", user("ana")), ("/a", user("ben")), ("/a", user("ana").tenant("acme"))];
    for (n, (namespace, who)) in places.into_iter().enumerate() {
        give(&app.connect(namespace, who), 1, "g1");
        assert_eq!(coins(&app), n as i64 + 1);
    }
    let guest = app.connect("/a", visitor());
    give(&guest, 1, "g1");
    give(&guest, 1, "g1");
    assert_eq!(coins(&app), 6);
}

#[test]
fn a_refusal_is_not_remembered_and_a_reply_is_for_a_day() {
    let app = Harness::<Gifts>::new();
    let ana = app.connect("/a", user("ana"));
    ana.emit("give", gift(0, "g1")).expect_refusal("forbidden", "Nothing");
    give(&ana, 2, "g1");
    app.advance(Duration::from_secs(24 * 60 * 60) - Duration::from_millis(1));
    give(&ana, 2, "g1");
    assert_eq!(coins(&app), 2);
    app.advance(Duration::from_millis(1));
    give(&ana, 2, "g1");
    assert_eq!(coins(&app), 4);
}

#[test]
fn a_key_is_a_text_of_1_to_64_characters_or_absent() {
    let app = Harness::<Gifts>::new();
    let ana = app.connect("/a", user("ana"));
    for wrong in [json!(""), json!("é".repeat(65)), json!(1), json!({})] {
        ana.emit("give", gift(1, wrong)).expect_refusal("invalid", "clientId: expected a text of 1 to 64 characters");
    }
    give(&ana, 1, &"é".repeat(64));
    for without in [json!({ "coins": 1 }), gift(1, json!(null))] {
        let _ = ana.emit("give", without).ack();
    }
    assert_eq!(coins(&app), 3);
}
