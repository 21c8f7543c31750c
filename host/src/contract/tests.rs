//! Contracts of a few plugins as a page, as an AsyncAPI document and as TypeScript.

use serde_json::{Value, json};

use super::*;
use crate::names::PluginName;
use crate::sandbox::exports::{Description, EmittedEvent, HandledEvent, Hooks, Namespace as Listed, Tenancy, TokenPolicy};

fn door() -> Door {
    Door {
        token: TokenPolicy::Required,
        claims: vec!["userId".into()],
        roles: vec!["ADMIN".into()],
        missing: "Please <sign> in".into(),
        invalid: "Invalid token".into(),
        forbidden: "Admins & co".into(),
        authorize: true,
    }
}

/// A plugin in `/course/{id}` that handles and emits one event, both with this payload.
fn plugin(name: &str, door: Option<Door>, event: &str, payload: &Value) -> Manifest {
    let namespace = || "/course/{id}".to_owned();
    let description = Description {
        name: name.into(),
        version: "1.2.3".into(),
        data_version: 1,
        reads_data_versions: vec![],
        tenancy: Tenancy::None,
        namespaces: vec![Listed { path: namespace(), door }],
        rooms: vec![],
        events: vec![HandledEvent {
            namespace: namespace(),
            name: event.into(),
            payload: payload.to_string(),
            reply: Some(json!({"type": "integer"}).to_string()),
            on_failure: Some("Could not".into()),
            once: Some("sentBy".into()),
        }],
        emits: vec![EmittedEvent { namespace: namespace(), name: "said".into(), payload: payload.to_string() }],
        topics: vec![],
        schedules: vec![],
        hooks: Hooks::empty(),
        takes: vec![],
        tenant_keys: vec![],
    };
    Manifest::check(description, &PluginName::parse(name).unwrap()).unwrap()
}

fn two() -> Contract {
    let text =
        json!({"title": "Said", "description": "<b>what</b>", "type": "object", "properties": {"text": {"type": "string"}}});
    let number = json!({"type": "integer"});
    Contract::of(&[plugin("zeta", None, "count", &number), plugin("alpha", Some(door()), "say", &text)])
}

#[test]
fn plugins_share_a_namespace() {
    let contract = two();
    assert_eq!(contract.plugins, ["alpha@1.2.3", "zeta@1.2.3"]);
    let [course] = &contract.namespaces[..] else { panic!("one namespace") };
    assert_eq!((&*course.path, &*course.name), ("/course/{id}", "Course"));
    assert!(course.door.is_some());
    let names: Vec<_> = course.handled.iter().map(|event| &*event.name).collect();
    assert_eq!(names, ["auth:refresh", "count", "say"]);
    let said = course.emitted.iter().find(|event| event.name == "said").unwrap();
    assert_eq!((said.payloads.len(), said.plugins.len()), (2, 2));
}

#[test]
fn a_namespace_has_a_name_of_its_own() {
    assert_eq!(
        ["/", "/chat", "/course/{id}", "/a-b/c", "/2x", "/{id}"].map(name_of),
        ["Root", "Chat", "Course", "ABC", "N2x", "Root"]
    );
    let mut taken = BTreeSet::new();
    assert_eq!(["A", "A", "A"].map(|name| unique(name, &mut taken)), ["A", "A2", "A3"]);
}

#[test]
fn typescript_has_the_types_of_both_directions() {
    let text = typescript::render(&two());
    for line in [
        "  say: (payload: Said, ack?: (reply: number | Refused) => void) => void;",
        "  \"auth:refresh\": (payload: FreshToken, ack?: (reply: Done | Refused) => void) => void;",
        "  said: (payload: Said | number) => void;",
        "  \"/course/{id}\": { clientToServer: CourseClientToServerEvents; serverToClient: CourseServerToClientEvents };",
        "/** Handled by alpha@1.2.3. If that fails: \"Could not\". Sent again with the same sentBy, it takes effect once and gets the first reply again. */",
    ] {
        assert!(text.contains(line), "{line}\nnot in\n{text}");
    }
    assert_eq!(text, typescript::render(&two()), "the same each time");
}

#[test]
fn the_asyncapi_document_lists_the_live_events() {
    let document: Value = serde_json::from_str(&asyncapi::render(&two(), "localhost:1", &Reading::default())).unwrap();
    assert_eq!(document["asyncapi"], "3.0.0");
    let course = &document["channels"]["Course"];
    assert_eq!((&course["address"], &course["x-door"]["missing"]), (&json!("/course/{id}"), &json!("Please <sign> in")));
    assert!(course["parameters"]["id"].is_object());
    let say = &document["operations"]["Course-receive-say"];
    assert_eq!((&say["action"], &say["tags"]), (&json!("receive"), &json!([{"name": "alpha@1.2.3"}])));
    let reply = say["reply"]["messages"][0]["$ref"].as_str().unwrap();
    assert_eq!(document.pointer(&reply[1..]).unwrap()["payload"], json!({"type": "integer"}));
    assert_eq!(document["operations"]["Course-send-said"]["messages"].as_array().map(Vec::len), Some(2));
    let version = |contract: &Contract| -> Value {
        let document: Value = serde_json::from_str(&asyncapi::render(contract, "localhost:1", &Reading::default())).unwrap();
        document["info"]["version"].clone()
    };
    assert_eq!(version(&two()), document["info"]["version"]);
    assert_ne!(version(&Contract::of([])), document["info"]["version"], "another contract has another version");
}

fn reading() -> Reading {
    Reading { user_id: vec!["sub".into(), "<id>".into()], role: vec!["role".into()], ..Reading::default() }
}

#[test]
fn the_page_and_the_document_list_the_tokens_claims() {
    let page = page::render(&two(), &reading());
    for text in ["<code>sub, &lt;id&gt;</code>", "Authorization: Bearer", "one allowed role is enough", "auth.token"] {
        assert!(page.contains(text), "{text} is not in {page}");
    }
    let document: Value = serde_json::from_str(&asyncapi::render(&two(), "localhost:1", &reading())).unwrap();
    let token = document["components"]["securitySchemes"]["token"]["description"].as_str().unwrap();
    assert!(token.contains("user id: the first of sub, <id>") && token.contains("Authorization: Bearer"), "{token}");
}

#[test]
fn the_page_escapes_texts() {
    let page = page::render(&two(), &reading());
    for text in [
        "/course/{id}",
        "Please &lt;sign&gt; in",
        "Admins &amp; co",
        "&lt;b&gt;what&lt;/b&gt;",
        "alpha@1.2.3",
        "Could not",
        "once for each sentBy",
    ] {
        assert!(page.contains(text), "{text}");
    }
    assert!(!page.contains("<sign>") && !page.contains("<b>") && !page.contains("<script"));
}

#[test]
fn a_namespace_without_its_owner_is_marked_closed() {
    let contract = Contract::of(&[plugin("zeta", None, "count", &json!(true))]);
    assert!(page::render(&contract, &reading()).contains("every connection is refused"));
    assert!(asyncapi::render(&contract, "localhost:1", &Reading::default()).contains("every connection is refused"));
}
