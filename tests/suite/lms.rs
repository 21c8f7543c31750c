//! The courses except for their chat: notifications, progress, announcements, enrolments and the server's dashboard. Must never
//! use another product's events.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::server::Builder;
use tests::stock::Transports;
use tests::{Client, Server, Stock, fixture, token, wait};

use crate::helpers::{is_time, keys, name, user};

/// The plugins of the courses and those that share `/` with them.
fn server() -> Builder {
    Server::dev()
}

async fn enrol(server: &Server, course: &str, who: &str) {
    server.publish("course.enrolled", json!({"courseId": course, "userId": who})).await;
}

/// Connects to a course as soon as the server has handled the enrolment.
async fn enter(server: &Server, course: &str, who: &str) -> Client {
    wait::until(&format!("{who} to be accepted in {course}"), wait::DEADLINE, async || {
        Client::connect(server.address(), &format!("/course/{course}"), user(who)).await.ok()
    })
    .await
}

async fn announce(server: &Server, course: &str, title: &str) {
    let instructor = json!({"name": "Maria", "image": "/maria.png"});
    let data = json!({"courseId": course, "instructor": instructor, "title": title, "content": "Five new lessons"});
    server.publish("announcement.created", data).await;
}

async fn notify(server: &Server, who: &str, title: &str) {
    let data = json!({"userId": who, "type": "COURSE_UPDATE", "title": title, "message": "Hooks", "link": "/courses/c1"});
    server.publish("notification.created", data).await;
}

fn watched(lesson: &str, watched: Value, total: Value) -> Value {
    json!({"lessonId": lesson, "watchedDuration": watched, "totalDuration": total})
}

/// Reports that many of a hundred seconds and returns whether the report was saved.
async fn report(client: &mut Client, lesson: &str, seconds: u64) -> Value {
    let reply = client.ask("lesson:progress", watched(lesson, json!(seconds), json!(100))).await;
    assert_eq!(reply["progress"], seconds, "{reply}");
    reply["saved"].clone()
}

fn stored_progress(server: &Server, who: &str, lesson: &str) -> Value {
    server.store().value("lessons", &format!("progress/{who}/{lesson}")).unwrap_or_default()["progress"].clone()
}

#[tokio::test]
async fn a_notification_reaches_every_device_of_its_user_and_is_stored() {
    let mut server = server().start().await;
    let mut phone = server.connect("/", user("ana")).await;
    let mut laptop = server.connect("/", user("ana")).await;
    let mut in_chat = server.connect("/chat", user("ana")).await;
    let mut bia = server.connect("/", user("bia")).await;
    let mut visitor = server.connect("/", ()).await;
    notify(&server, "ana", "A new lesson").await;
    let new = phone.next("notification:new").await;
    assert_eq!(keys(&new), ["createdAt", "id", "link", "message", "title", "type"]);
    let as_published = json!({"id": new["id"], "createdAt": new["createdAt"], "type": "COURSE_UPDATE",
        "title": "A new lesson", "message": "Hooks", "link": "/courses/c1"});
    assert_eq!(new, as_published);
    assert!(new["id"].is_string() && is_time(&new["createdAt"]), "{new}");
    assert_eq!(laptop.next("notification:new").await, new);
    for other in [&mut phone, &mut laptop, &mut in_chat, &mut bia, &mut visitor] {
        other.expect_none("notification:new").await;
    }
    server.restart().await;
    let mut again = server.connect("/", user("ana")).await;
    let list = again.ask("notifications:list", json!({})).await;
    assert_eq!((&list["notifications"][0]["id"], &list["unreadCount"]), (&new["id"], &json!(1)));
    again.expect_none("notification:new").await;
}

#[tokio::test]
async fn a_companys_notification_does_not_reach_a_course_user_with_that_id() {
    let server = server().start().await;
    let mut ana = server.connect("/", user("ana")).await;
    let member = user("ana").claim("userId", "ana").claim("companyId", "acme");
    let mut at_work = server.connect("/notifications", member).await;
    let data = json!({"companyId": "acme", "userId": "ana", "type": "LEAD", "title": "Theirs", "message": "m", "link": "/l"});
    server.publish("notification.created", data).await;
    assert_eq!(at_work.next("notification:new").await["title"], "Theirs");
    notify(&server, "ana", "Ours").await;
    assert_eq!(ana.next("notification:new").await["title"], "Ours");
    at_work.expect_none("notification:new").await;
    let list = ana.ask("notifications:list", json!({})).await;
    assert_eq!((list["notifications"].as_array().map(Vec::len), &list["unreadCount"]), (Some(1), &json!(1)));
}

#[tokio::test]
async fn the_first_progress_is_saved_at_once_and_later_ones_wait() {
    let server = server().start().await;
    enrol(&server, "c1", "ana").await;
    let mut phone = server.connect("/", user("ana")).await;
    let reply = phone.ask("lesson:progress", watched("l1", json!(450), json!(600))).await;
    assert_eq!(reply, json!({"lessonId": "l1", "progress": 75, "saved": true}));
    assert_eq!(phone.next("lesson:progress").await, reply, "the reply is an event too");
    phone.emit("lesson:progress", watched("l1", json!(455), json!(600))).await;
    assert_eq!(phone.next("lesson:progress").await, json!({"lessonId": "l1", "progress": 75, "saved": false}));

    let mut laptop = server.connect("/", user("ana")).await;
    let mut in_course = enter(&server, "c1", "ana").await;
    for device in [&mut laptop, &mut in_course] {
        assert_eq!(report(device, "l1", 80).await, false);
        assert_eq!(device.next("lesson:progress").await["saved"], false);
    }
    phone.expect_none("lesson:progress").await;
    assert_eq!(report(&mut in_course, "l2", 10).await, true, "another lesson");
    let mut bia = server.connect("/", user("bia")).await;
    assert_eq!(report(&mut bia, "l1", 20).await, true, "another user");
    assert_eq!(stored_progress(&server, "ana", "l1"), 75);
    assert_eq!(stored_progress(&server, "bia", "l1"), 20);
}

#[tokio::test]
async fn only_the_last_report_of_a_window_is_written_at_its_end() {
    const WINDOW: Duration = Duration::from_secs(2);
    let server = server().plugin_config("lessons", "save_every_seconds", "2").start().await;
    let mut ana = server.connect("/", user("ana")).await;
    assert_eq!(report(&mut ana, "l1", 1).await, true);
    let saved = Instant::now();
    for seconds in [10, 20, 30] {
        assert_eq!(report(&mut ana, "l1", seconds).await, false);
    }
    // A waiting report is written although the user has disconnected.
    ana.leave().await;
    wait::eventually("the end of the window", async || match stored_progress(&server, "ana", "l1").as_u64() {
        Some(1) => false,
        Some(30) => true,
        other => panic!("written inside the window: {other:?}"),
    })
    .await;
    // The first report was saved a moment before its reply arrived.
    assert!(saved.elapsed() > WINDOW - Duration::from_millis(300), "{:?}", saved.elapsed());
    let mut again = server.connect("/", user("ana")).await;
    assert_eq!(report(&mut again, "l1", 40).await, false, "that write starts a new window");
}

#[tokio::test]
async fn a_waiting_report_survives_a_restart() {
    let mut server = server().start().await;
    let mut ana = server.connect("/", user("ana")).await;
    assert_eq!(report(&mut ana, "l1", 10).await, true);
    assert_eq!(report(&mut ana, "l1", 60).await, false);
    server.restart().await;
    assert_eq!(stored_progress(&server, "ana", "l1"), 60);
    let mut ana = server.connect("/", user("ana")).await;
    assert_eq!(report(&mut ana, "l1", 70).await, false, "the window is as long as before the restart");
}

#[tokio::test]
async fn progress_is_a_whole_percentage_and_invalid_reports_name_the_field() {
    let server = server().start().await;
    let mut ana = server.connect("/", user("ana")).await;
    let cases = [(0.0, 600.0, 0), (599.9, 600.0, 99), (33.0, 99.0, 33), (600.0, 600.0, 100), (9000.0, 600.0, 100)];
    for (n, (seconds, total, progress)) in cases.into_iter().enumerate() {
        let reply = ana.ask("lesson:progress", watched(&format!("l{n}"), json!(seconds), json!(total))).await;
        assert_eq!(reply["progress"], progress, "{seconds} of {total}");
    }
    let bad = [
        (watched("x", json!(1), json!(0)), "totalDuration: must be more than 0"),
        (watched("x", json!(1), json!(-5)), "totalDuration: must be more than 0"),
        (watched("x", json!(-1), json!(5)), "watchedDuration: must be 0 or more"),
        (watched("x", json!(1), json!("5")), "totalDuration: must be a number"),
        (json!({"lessonId": "x", "watchedDuration": 1}), "totalDuration: missing"),
    ];
    for (payload, sentence) in bad {
        let refusal = ana.refused("lesson:progress", payload.clone()).await;
        assert_eq!(refusal, ("invalid".to_owned(), sentence.to_owned()), "{payload}");
    }
    for odd in [json!(null), json!(7), json!([]), watched("", json!(1), json!(2)), watched(&"x".repeat(5000), json!(1), json!(2))]
    {
        assert_eq!(ana.refused("lesson:progress", odd.clone()).await.0, "invalid", "{odd}");
    }
    let mut visitor = server.connect("/", ()).await;
    let payload = watched("l1", json!(1), json!(2));
    let refusal = visitor.refused("lesson:progress", payload.clone()).await;
    assert_eq!(refusal, ("unauthenticated".to_owned(), "Authentication error".to_owned()));
    visitor.emit("lesson:progress", payload).await;
    let error = json!({"code": "unauthenticated", "message": "Authentication error", "event": "lesson:progress"});
    assert_eq!(visitor.next("error").await, error);
}

#[tokio::test]
async fn an_announcement_reaches_only_its_course_in_both_namespaces() {
    let mut server = server().start().await;
    for (course, who) in [("c1", "ana"), ("c1", "bia"), ("c10", "eva")] {
        enrol(&server, course, who).await;
    }
    let mut in_course = enter(&server, "c1", "ana").await;
    let mut elsewhere = enter(&server, "c10", "eva").await;
    let mut phone = server.connect("/", user("ana")).await;
    let mut laptop = server.connect("/", user("ana")).await;
    let mut bia = server.connect("/", user("bia")).await;
    let mut eva = server.connect("/", user("eva")).await;
    let mut visitor = server.connect("/", ()).await;
    announce(&server, "c1", "Update").await;
    let news = in_course.next("announcement:new").await;
    assert_eq!(keys(&news), ["content", "courseId", "createdAt", "id", "instructor", "title"]);
    let as_published = json!({"id": news["id"], "createdAt": news["createdAt"], "courseId": "c1", "title": "Update",
        "content": "Five new lessons", "instructor": {"name": "Maria", "image": "/maria.png"}});
    assert_eq!(news, as_published);
    assert!(news["id"].is_string() && is_time(&news["createdAt"]), "{news}");
    for member in [&mut phone, &mut laptop, &mut bia] {
        assert_eq!(member.next("announcement:new").await, news);
        member.expect_none("announcement:new").await;
    }
    for other in [&mut in_course, &mut elsewhere, &mut eva, &mut visitor] {
        other.expect_none("announcement:new").await;
    }
    server.restart().await;
    let mut phone = server.connect("/", user("ana")).await;
    let mut in_course = server.connect("/course/c1", user("ana")).await;
    announce(&server, "c1", "After the restart").await;
    for client in [&mut phone, &mut in_course] {
        assert_eq!(client.next("announcement:new").await["title"], "After the restart");
    }
}

#[tokio::test]
async fn only_enrolled_users_connect_to_a_course() {
    let server = server().start().await;
    assert_eq!(server.connect_refused("/course/c1", ()).await, "Authentication error");
    assert_eq!(server.connect_refused("/course/c1", "nonsense").await, "Invalid token");
    assert_eq!(server.connect_refused("/course/c1", user("ana").expires_in(-3600)).await, "Invalid token");
    enrol(&server, "c1", "ana").await;
    enter(&server, "c1", "ana").await;
    for (course, who) in [("c1", "bia"), ("c10", "ana"), ("C1", "ana"), ("c1%00", "ana"), ("%2e", "ana")] {
        assert_eq!(server.connect_refused(&format!("/course/{course}"), user(who)).await, "Not enrolled", "{who} at {course}");
    }
    let claims = user("eva").claim("courses", json!(["c1"])).role("ADMIN");
    assert_eq!(server.connect_refused("/course/c1", claims).await, "Not enrolled", "regardless of claims and role");
    // Some backends use numeric ids.
    server.publish("course.enrolled", json!({"courseId": 7, "userId": 42})).await;
    enter(&server, "7", "42").await;
}

#[tokio::test]
async fn enrolment_changes_apply_at_once_to_connected_users() {
    let server = server().start().await;
    enrol(&server, "c1", "bia").await;
    let mut bia = enter(&server, "c1", "bia").await;
    let mut phone = server.connect("/", user("ana")).await;
    announce(&server, "c1", "Too early").await;
    assert_eq!(bia.next("announcement:new").await["title"], "Too early");
    phone.expect_none("announcement:new").await;

    enrol(&server, "c1", "ana").await;
    let mut in_course = enter(&server, "c1", "ana").await;
    announce(&server, "c1", "Welcome").await;
    for client in [&mut bia, &mut phone, &mut in_course] {
        assert_eq!(client.next("announcement:new").await["title"], "Welcome");
    }
    assert_eq!(report(&mut in_course, "l1", 5).await, true);

    server.publish("course.unenrolled", json!({"courseId": "c1", "userId": "ana"})).await;
    wait::eventually("the change to take effect", async || {
        in_course.ask("lesson:progress", watched("l1", json!(6), json!(9))).await["error"]["message"] == "Not enrolled"
    })
    .await;
    announce(&server, "c1", "Without her").await;
    assert_eq!(bia.next("announcement:new").await["title"], "Without her");
    for device in [&mut phone, &mut in_course] {
        device.expect_none("announcement:new").await;
    }
    assert_eq!(server.connect_refused("/course/c1", user("ana")).await, "Not enrolled");
    assert_eq!(report(&mut phone, "l2", 5).await, true, "progress outside of the course is unaffected");
}

#[tokio::test]
async fn only_admins_connect_to_admin_and_receive_metrics_every_second() {
    let server = server().start().await;
    assert_eq!(server.connect_refused("/admin", ()).await, "Authentication error");
    assert_eq!(server.connect_refused("/admin", "nonsense").await, "Invalid token");
    for not_admin in [user("ana"), user("ana").role("STUDENT"), user("ana").role("admin"), user("ana").role("ADMINS")] {
        assert_eq!(server.connect_refused("/admin", not_admin).await, "Admins only");
    }
    let mut ana = server.connect("/", user("ana")).await;
    let mut admin = server.connect("/admin", user("root").role("ADMIN")).await;
    let first = connected(&mut admin, 2).await;
    assert_eq!(keys(&first), ["at", "connections", "eventsPerSecond", "plugins", "rooms"]);
    assert!(is_time(&first["at"]) && first["rooms"].is_u64() && first["eventsPerSecond"].is_number(), "{first}");
    let plugins = first["plugins"].as_array().expect("a list");
    let mut names: Vec<_> = plugins.iter().map(|plugin| plugin["name"].as_str().expect("a name")).collect();
    names.sort_unstable();
    assert_eq!(names, fixture::plugins().await.keys().collect::<Vec<_>>(), "all plugins");
    for plugin in plugins {
        assert_eq!(keys(plugin), ["errors", "events", "name", "p99Ms", "version"]);
        assert!(plugin["version"].is_string() && plugin["events"].is_u64() && plugin["errors"].is_u64(), "{plugin}");
        assert!(plugin["p99Ms"].is_number(), "{plugin}");
    }
    let began = Instant::now();
    for _ in 0..3 {
        admin.next("metrics").await;
    }
    let three = began.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(6)).contains(&three), "three more took {three:?}");
    ana.expect_none("metrics").await;
}

#[tokio::test]
async fn admin_metrics_follow_activity() {
    let server = server().plugin("hostile", &fixture::hostile().await).start().await;
    let mut admin = server.connect("/admin", user("root").role("ADMIN")).await;
    let mut also_admin = server.connect("/admin", user("root").role("ADMIN")).await;
    let before = connected(&mut admin, 2).await;
    assert_eq!((plugin(&before, "lessons", "events"), plugin(&before, "hostile", "errors")), (0, 0));

    let mut ana = server.connect("/", user("ana")).await;
    let mut hostile_client = server.connect("/hostile", ()).await;
    for seconds in 1..=5 {
        report(&mut ana, "l1", seconds).await;
    }
    ana.ask("video:join", json!({"videoId": "v1"})).await;
    ana.refused("lesson:progress", json!({})).await;
    hostile_client.refused("trap", Value::Null).await;
    let mut fastest = 0.0_f64;
    let after = wait::until("the metrics to change", wait::DEADLINE, async || {
        let now = admin.next("metrics").await;
        fastest = fastest.max(now["eventsPerSecond"].as_f64().expect("a number"));
        (plugin(&now, "lessons", "events") >= 5 && plugin(&now, "hostile", "errors") >= 1).then_some(now)
    })
    .await;
    assert_eq!(after["connections"], 4);
    assert!(after["rooms"].as_u64() > before["rooms"].as_u64(), "{before} and then {after}");
    assert!(fastest > 0.0, "{after}");
    let errors = plugin(&after, "lessons", "errors");
    assert_eq!(errors, 0, "a refusal is not an error of the plugin");
    let slow = after["plugins"].as_array().expect("a list").iter().find(|one| one["name"] == "lessons");
    assert!(slow.is_some_and(|one| one["p99Ms"].as_f64() > Some(0.0)), "{after}");
    also_admin.next("metrics").await;
}

/// The next metrics with this number of connections. Earlier ones in transit may be older.
async fn connected(admin: &mut Client, connections: u64) -> Value {
    let with_connections = async || Some(admin.next("metrics").await).filter(|now| now["connections"] == connections);
    wait::until("the connections to be counted", wait::DEADLINE, with_connections).await
}

fn plugin(metrics: &Value, name: &str, metric: &str) -> u64 {
    let plugins = metrics["plugins"].as_array().expect("a list");
    let plugin = plugins.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name} in {metrics}"));
    plugin[metric].as_u64().expect("a count")
}

#[tokio::test]
async fn socket_health_counts_sockets_rooms_and_uptime() {
    // These counts are per process.
    let mut server = server().single_node().start().await;
    let (status, empty) = server.get("/socket/health").await;
    assert_eq!((status, keys(&empty)), (200, vec!["connectedSockets", "rooms", "status", "uptime"]));
    assert_eq!((&empty["status"], &empty["connectedSockets"]), (&json!("healthy"), &json!(0)));
    enrol(&server, "c1", "ana").await;
    let ana = enter(&server, "c1", "ana").await;
    let one = server.get("/socket/health").await.1;
    assert_eq!(one["connectedSockets"], 1);
    assert!(one["rooms"].as_u64() > empty["rooms"].as_u64(), "{empty} and then {one}");
    wait::eventually("an uptime of a second", async || server.get("/socket/health").await.1["uptime"].as_f64() > Some(1.0)).await;
    ana.leave().await;
    wait::eventually("all sockets to be gone", async || {
        let health = server.get("/socket/health").await.1;
        health["connectedSockets"] == 0 && health["rooms"] == empty["rooms"]
    })
    .await;
    let before = server.get("/socket/health").await.1["uptime"].as_f64();
    server.restart().await;
    assert!(server.get("/socket/health").await.1["uptime"].as_f64() < before, "the uptime of the process");
}

#[tokio::test]
async fn stock_clients_take_a_lesson_over_websocket_and_polling() {
    let server = server().start().await;
    enrol(&server, "c1", "ana").await;
    enter(&server, "c1", "ana").await;
    for stock in Stock::ALL {
        for transports in [Transports::Websocket, Transports::Polling] {
            let case = format!("{stock:?} over {transports:?}");
            let away = stock.connect(&server, "/course/c2", user("ana"), transports).await;
            assert_eq!(away.err().as_deref(), Some("Not enrolled"), "{case}");
            let away = stock.connect(&server, "/admin", user("ana"), transports).await;
            assert_eq!(away.err().as_deref(), Some("Admins only"), "{case}");
            let mut ana = stock.connect(&server, "/", user("ana"), transports).await.expect("accepted");
            let mut in_course = stock.connect(&server, "/course/c1", user("ana"), transports).await.expect("accepted");
            announce(&server, "c1", &case).await;
            let news = ana.next("announcement:new").await;
            assert_eq!((&news["title"], &in_course.next("announcement:new").await), (&json!(case), &news));
            notify(&server, "ana", &case).await;
            assert_eq!(ana.next("notification:new").await["title"], case);
            let progress = json!({"lessonId": case, "progress": 50, "saved": true});
            assert_eq!(in_course.ask("lesson:progress", watched(&case, json!(1), json!(2))).await, progress);
            assert_eq!(in_course.next("lesson:progress").await, progress);
            ana.emit("lesson:progress", watched(&case, json!(1), json!(0))).await;
            let error = json!({"code": "invalid", "message": "totalDuration: must be more than 0", "event": "lesson:progress"});
            assert_eq!(ana.next("error").await, error, "{case}");
        }
    }
    let root = user("root").name(&name("root")).role("ADMIN");
    let mut admin = Stock::Node.connect(&server, "/admin", root, Transports::Polling).await.expect("accepted");
    assert_eq!(keys(&admin.next("metrics").await), ["at", "connections", "eventsPerSecond", "plugins", "rooms"]);
    let without_a_name = token("ana");
    assert!(Stock::Python.connect(&server, "/course/c1", without_a_name, Transports::Polling).await.is_ok());
}
