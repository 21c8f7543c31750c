//! Every mistake that the attribute finds, with its error.

use std::str::FromStr;

use proc_macro2::TokenStream;

use crate::model;

/// Reads a plugin and expects an error with this sentence.
#[track_caller]
fn wrong(attribute: &str, item: &str, says: &str) {
    let tokens = |text| TokenStream::from_str(text).expect("the test's own code is Rust");
    let Err(error) = model::read(tokens(attribute), tokens(item)) else { panic!("no error in {item}") };
    assert_eq!(error.to_string(), says);
}

const DOOR: &str = r#"#[door("/", token = "optional")]"#;

#[test]
fn a_mistake_in_the_plugins_attribute_is_explained() {
    let item = "impl Ping {}";
    wrong(r#"name = "Ping""#, item, "expected lower case letters, digits and `-`, beginning with a letter, at most 64");
    wrong(r#"name = ping"#, item, "expected a text in quotes");
    wrong(r#"name = "ping", data_version = "1""#, item, "expected a number");
    wrong(r#"name = "ping", tenancy = "some""#, item, "expected \"none\" or \"required\" or \"optional\"");
    let known =
        "unknown key `nam`; known here: part, name, version, data_version, reads_data_versions, tenancy, namespace, namespaces";
    wrong(r#"name = "ping", nam = 1"#, item, known);
    wrong(r#"name = "ping""#, "struct Ping;", "`#[plugin]` belongs on the plugin's `impl` block");
    let plain = "`#[plugin]` belongs on a plain `impl` block, not on one of a trait";
    wrong(r#"name = "ping""#, "impl Drop for Ping {}", plain);
}

#[test]
fn a_mistake_in_a_namespaces_attribute_is_explained() {
    let on = |above: &str, says: &str| wrong(r#"name = "ping""#, &format!("{above} impl Ping {{}}"), says);
    on("#[door]", "expected the namespace in quotes");
    on(r#"#[door("/")]"#, "expected `token = \"required\"` or `token = \"optional\"`");
    on(r#"#[door("/", token = "maybe")]"#, "expected \"required\" or \"optional\"");
    on(r#"#[door("/", token = "required", roles = "ADMIN")]"#, "expected `roles = […]`");
    on(
        r#"#[door("/", token = "required", rols = [])]"#,
        "unknown key `rols`; known here: token, claims, roles, invalid, forbidden, missing",
    );
    on(&format!("{DOOR} #[namespace(\"/\")]"), "this namespace is there already");
    let nowhere = "the plugin takes part in no namespace \"/x\": add `#[door(\"/x\", …)]` or `#[namespace(\"/x\")]`";
    on(r#"#[room("/x", "hall")]"#, nowhere);
    on("#[takes(\"chat\")]", "expected `prefix = \"…\"`");
    on(r#"#[takes("Chat", prefix = "a/")]"#, "expected lower case letters, digits and `-`, beginning with a letter, at most 64");
}

#[test]
fn a_signature_that_does_not_fit_its_call_is_an_error() {
    let on = |method: &str, says: &str| wrong(r#"name = "ping""#, &format!("{DOOR} impl Ping {{ {method} }}"), says);
    on("#[on] fn f() -> Result<()> {}", "expected the event's name in quotes");
    on(
        r#"#[on("a", replyy)] fn f() -> Result<()> {}"#,
        "unknown key `replyy`; known here: reply, namespace, namespaces, invalid, on_failure, once",
    );
    on(r#"#[on("a")] fn f() -> u32 {}"#, "expected `Result<()>` or `Result<Reply>`");
    on(r#"#[on("a")] fn f() {}"#, "expected `Result<()>` or `Result<Reply>`");
    on(r#"#[on("a", reply)] fn f() -> Result<()> {}"#, "`reply` wants a handler that returns `Result<Reply>`");
    let field = "expected the name of the payload's field, 1 to 64 bytes";
    on(r#"#[on("a", once = "")] fn f(a: A) -> Result<()> {}"#, field);
    on(r#"#[on("a", once)] fn f(a: A) -> Result<()> {}"#, "expected `once = …`");
    let payload = "`once` wants a handler with a payload, which has the field";
    on(r#"#[on("a", once = "id")] fn f(who: &User) -> Result<()> {}"#, payload);
    on(r#"#[on("a")] async fn f() -> Result<()> {}"#, "a handler is not async: every import answers at once");
    let state = "expected `&self`: a plugin keeps no state, it may be replaced at any time";
    on(r#"#[on("a")] fn f(&mut self) -> Result<()> {}"#, state);
    on(r#"#[on_message("a.b")] fn f(who: &Caller) -> Result<()> {}"#, "this call has no caller: it comes from no client");
    on(r#"#[on_message("a.b")] fn f(a: A, b: B) -> Result<()> {}"#, "one payload at most here");
    on(r#"#[on_connect("/")] fn f(who: &Caller, a: A) -> Result<()> {}"#, "this call has no payload");
    on(r#"#[on_connect("/")] fn f(who: &Caller) -> Result<u32> {}"#, "expected `Result<()>`");
    on(r#"#[schedule("s", every_ms = 10, scope = "once")] fn f() -> Result<()> {}"#, "a schedule runs every 100 ms at most");
    on("fn init() -> Self {}", "expected `fn init(config: Config) -> Result<Self, String>`");
}

#[test]
fn a_handler_for_an_unknown_namespace_or_a_handled_call_is_an_error() {
    let nowhere = "the plugin takes part in no namespace: add `#[door(…)]` or `#[namespace(…)]` above the block";
    wrong(r#"name = "ping""#, r#"impl Ping { #[on("a")] fn f() -> Result<()> {} }"#, nowhere);
    let on = |method: &str, says: &str| {
        wrong(r#"name = "ping""#, &format!("{DOOR} #[namespace(\"/b\")] impl Ping {{ {method} }}"), says);
    };
    on(r#"#[on("a")] fn f() -> Result<()> {}"#, "which namespace? Write `namespace = \"…\"`");
    let unknown = "the plugin takes part in no namespace \"/x\": add `#[door(\"/x\", …)]` or `#[namespace(\"/x\")]`";
    on(r#"#[on("a", namespace = "/x")] fn f() -> Result<()> {}"#, unknown);
    let twice = r#"#[on("a", namespace = "/b")] fn f() -> Result<()> {} #[on("a", namespace = "/b")] fn g() -> Result<()> {}"#;
    on(twice, "this is handled already");
    let owner = "only the owner of a namespace authorizes: it has no `#[door]` here";
    on(r#"#[authorize("/b")] fn f(who: &Caller) -> Result<()> {}"#, owner);
}

#[test]
fn a_part_states_its_namespaces_and_nothing_of_the_whole_plugin() {
    let on = |attribute: &str, item: &str, says: &str| wrong(attribute, item, says);
    let known = "unknown key `name`; known here: part, namespace, namespaces";
    on(r#"part, name = "ping""#, "impl Ping {}", known);
    let both = "expected `namespace` or `namespaces`, not both";
    on(r#"part, namespace = "/", namespaces = ["/b"]"#, "impl Ping {}", both);
    let which = "which namespace? Write `#[plugin(part, namespace = \"…\")]` above the block";
    on("part", r#"impl Ping { #[on("a")] fn f() -> Result<()> {} }"#, which);
    on("part", &format!("{DOOR} impl Ping {{}}"), "`#[door]` belongs on the plugin's own block, which has a name");
    on("part", "#[parts(a)] impl Ping {}", "`#[parts]` belongs on the plugin's own block, which has a name");
    on("part", "impl Ping { fn init(c: C) -> Self {} }", "`init` belongs on the plugin's own block, which has a name");
    let twice = r#"impl Ping { #[on("a")] fn f() -> Result<()> {} #[on("a", namespace = "/b")] fn g() -> Result<()> {} }"#;
    on(r#"part, namespaces = ["/", "/b"]"#, twice, "this is handled already");
}
