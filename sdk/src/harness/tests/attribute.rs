//! The code of `#[plugin]`: dispatch, payloads of every shape, replies, the description.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    Caller, DisconnectReason, Event, Plugin, Refusal, Result,
    glue::handler::{Hooks, ScheduleScope, Tenancy, TokenPolicy},
    harness::{Harness, user},
    log,
    payload::{Id, IdOr},
    plugin,
    rooms::Room,
};

const ALL: Room = Room::new("/course/{id}", "all");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    greeting: String,
    #[serde(default)]
    times: u8,
}

struct Courses {
    config: Config,
}

#[derive(Deserialize)]
struct Enrolment {
    code: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Lesson {
    lesson_id: Id,
}

impl From<Id> for Lesson {
    fn from(lesson_id: Id) -> Self {
        Self { lesson_id }
    }
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Opened {
    lesson_id: Id,
    course: String,
}

#[derive(Deserialize, JsonSchema)]
struct Borrowed<'a> {
    text: &'a str,
}

#[plugin(name = "courses", version = "2.1.0", data_version = 3, reads_data_versions = [1, 2])]
#[door("/course/{id}", token = "required", forbidden = "Not enrolled")]
#[namespace("/")]
#[takes("school", prefix = "course/")]
#[rooms(ALL)]
impl Courses {
    fn init(config: Config) -> Result<Self, String> {
        if config.times > 3 { Err("times: at most 3".into()) } else { Ok(Self { config }) }
    }

    #[authorize("/course/{id}")]
    fn enrolled(caller: &Caller, enrolment: Enrolment) -> Result<()> {
        if enrolment.code == caller.param() { Ok(()) } else { Err(Refusal::forbidden("Not enrolled")) }
    }

    #[on_connect("/course/{id}")]
    fn enter() -> Result<()> {
        ALL.join()
    }

    #[on_disconnect("/course/{id}")]
    fn left(caller: &Caller, reason: DisconnectReason) {
        log::info(&format!("{} {reason:?}", caller.param()));
    }

    #[on("greet", namespace = "/course/{id}")]
    fn greet(&self, caller: &Caller) -> Result<String> {
        Ok(format!("{}, {}", self.config.greeting, caller.user()?.display_name()))
    }

    #[on("greet", namespace = "/")]
    fn greet_visitor(caller: &Caller) -> Result<String> {
        Ok(caller.user()?.id.clone())
    }

    #[on("open", namespace = "/course/{id}", reply = "opened")]
    fn open(caller: &Caller, lesson: IdOr<Lesson>) -> Result<Opened> {
        let IdOr(Lesson { lesson_id }) = lesson;
        Ok(Opened { lesson_id, course: caller.param().to_owned() })
    }

    #[on("echo", namespace = "/course/{id}")]
    fn echo(event: &Event, a: u8, b: Option<String>, c: Vec<f64>) -> Result<(String, u8, Option<String>, Vec<f64>)> {
        Ok((event.name.clone(), a, b, c))
    }

    #[on("measure", namespace = "/course/{id}", invalid = "Nothing to measure")]
    fn measure(said: Borrowed<'_>) -> Result<usize> {
        Ok(said.text.len())
    }

    #[schedule("sweep", every_ms = 500, scope = "each_node")]
    fn sweep() -> Result<()> {
        Ok(())
    }
}

fn app() -> Harness<Courses> {
    Harness::new().config(json!({ "greeting": "Olá" }))
}

#[test]
fn authorize_reads_the_namespaces_parameter() {
    let connect = |auth: Value| app().try_connect_with("/course/42", user("ana"), auth).map(|client| client.rooms());
    assert_eq!(connect(json!({ "code": "42" })), Ok(vec!["all".to_owned()]));
    assert_eq!(connect(json!({ "code": "43" })), Err("Not enrolled".into()));
    assert_eq!(connect(json!({})), Err("code: missing".into()));
}

#[test]
fn objects_ids_tuples_and_no_payload_are_read() {
    let app = app();
    let connected = app.try_connect_with("/course/42", user("ana").name("Ana"), json!({ "code": "42" }));
    let ana = connected.expect("she is enrolled");
    ana.emit_bare("greet").expect_ack(json!("Olá, Ana"));
    for lesson in [json!("l1"), json!({ "lessonId": "l1" })] {
        ana.emit("open", lesson).expect_reply_as("opened", json!({ "lessonId": "l1", "course": "42" }));
    }
    ana.emit("open", json!({})).expect_refusal("invalid", "lessonId: missing");
    ana.emit("open", json!("")).expect_refusal("invalid", "payload: must be an id of 1 to 128 bytes");
    ana.emit("open", json!(7)).expect_refusal("invalid", "payload: must be an id or an object");
    ana.emit_args("echo", vec![json!(1), json!(null), json!([0.5])]).expect_ack(json!(["echo", 1, null, [0.5]]));
    ana.emit_args("echo", vec![json!(1), json!("b")]).expect_refusal("invalid", "payload: missing");
    ana.emit_args("echo", vec![json!(300)]).expect_refusal("invalid", "payload: must be a whole number, 0 or more");
    ana.emit("measure", json!({ "text": "four" })).expect_ack(json!(4));
    ana.emit("measure", json!({ "text": 4 })).expect_refusal("invalid", "Nothing to measure");
    ana.emit_bare("nothing").expect_refusal("not_found", "Unknown event");
}

#[test]
fn a_visitor_is_refused_with_the_sentence_missing() {
    let app = app();
    let guest = app.connect("/", crate::harness::visitor());
    guest.emit_bare("greet").expect_refusal("unauthenticated", "Authentication required");
}

#[test]
fn on_disconnect_gets_the_namespace_and_the_reason() {
    let app = app();
    let ana = app.try_connect_with("/course/42", user("ana"), json!({ "code": "42" })).expect("she is enrolled");
    ana.disconnect_because(DisconnectReason::Transport);
    assert!(app.logs().iter().any(|line| line.message == "42 DisconnectReason::Transport"), "{:?}", app.logs());
}

#[test]
fn a_wrong_configuration_names_its_key() {
    let init = |config: Value| Harness::<Courses>::new().config(config).init();
    assert_eq!(init(json!({ "greeting": "Hi", "times": 3 })), Ok(()));
    assert_eq!(init(json!({ "greeting": "Hi", "times": 4 })), Err("times: at most 3".into()));
    assert_eq!(init(json!({})), Err("configuration key greeting: missing".into()));
    assert_eq!(init(json!({ "greeting": "Hi", "loud": true })), Err("unknown configuration key loud".into()));
}

#[test]
fn the_description_matches_the_attributes() {
    let description = Courses::describe();
    assert_eq!((description.name.as_str(), description.version.as_str()), ("courses", "2.1.0"));
    assert_eq!((description.data_version, description.reads_data_versions), (3, vec![1, 2]));
    assert_eq!(description.tenancy, Tenancy::None);
    let door = description.namespaces[0].door.as_ref().expect("the first is owned");
    assert!(door.token == TokenPolicy::Required && door.authorize);
    assert_eq!([&door.missing, &door.invalid, &door.forbidden], ["Authentication required", "Invalid token", "Not enrolled"]);
    assert!(description.namespaces[1].door.is_none());
    assert_eq!(description.hooks, Hooks::CONNECT | Hooks::DISCONNECT);
    let takes: Vec<_> = description.takes.iter().map(|taken| (taken.from.as_str(), taken.prefix.as_str())).collect();
    assert_eq!(takes, [("school", "course/")]);
    assert_eq!((description.schedules[0].every_ms, description.schedules[0].scope), (500, ScheduleScope::EachNode));

    let open = description.events.iter().find(|event| event.name == "open").expect("it is handled");
    let schema: Value = serde_json::from_str(&open.payload).expect("a schema is JSON");
    assert_eq!(schema["anyOf"][0], json!({ "type": "string", "minLength": 1, "maxLength": 128 }));
    let reply: Value = serde_json::from_str(open.reply.as_deref().expect("it replies")).expect("a schema is JSON");
    assert_eq!(reply["required"], json!(["lessonId", "course"]));
    assert!(description.emits.iter().any(|event| event.name == "opened" && event.namespace == "/course/{id}"));
    let greet = description.events.iter().find(|event| event.name == "greet").expect("it is handled");
    assert_eq!(greet.payload, "true");
}
