//! Namespaces with a parameter: one for each course, created on its first connect. A refused connect must never leave one behind.

use futures_util::future::join_all;
use serde_json::json;
use tests::{Server, Token, fixture, token, wait};

fn student(id: &str, courses: &[&str]) -> Token {
    token(id).claim("courses", json!(courses))
}

async fn server() -> Server {
    Server::dev().only(&["chat"]).plugin("course", &fixture::course().await).start().await
}

#[tokio::test]
async fn only_enrolled_students_connect_and_receive_only_their_course() {
    let server = server().await;
    assert_eq!(server.connect_refused("/course/rust", ()).await, "Authentication error");
    assert_eq!(server.connect_refused("/course/rust", "nonsense").await, "Invalid token");
    assert_eq!(server.connect_refused("/course/rust", student("eva", &["go"])).await, "Not enrolled");
    let mut ana = server.connect("/course/rust", student("ana", &["rust"])).await;
    let mut bia = server.connect("/course/rust", student("bia", &["rust", "go"])).await;
    let mut eva = server.connect("/course/go", student("eva", &["go"])).await;
    assert_eq!(ana.ask("say", json!("hello")).await, json!({}));
    assert_eq!(bia.next("said").await, "hello");
    eva.expect_none("said").await;
}

#[tokio::test]
async fn any_event_name_reaches_its_handler() {
    let server = server().await;
    let mut ana = server.connect("/course/rust", student("ana", &["rust"])).await;
    assert_eq!(ana.ask("\"say\" a\\b 😀", json!(null)).await, "escaped");
    let spellings = [r#""\"say\" a\\b 😀""#, r#""\u0022say\u0022 a\u005cb \ud83d\ude00""#];
    for (id, name) in (901..).zip(spellings) {
        ana.send_raw(&format!("42/course/rust,{id}[{name}]")).await;
        assert_eq!(ana.acked(id).await, "escaped", "{name}");
    }
    ana.send_raw("42/course/rust,911[7]").await;
    assert_eq!(ana.acked(911).await, "number");
}

#[tokio::test]
async fn concurrent_first_connects_to_a_namespace_all_succeed() {
    let server = server().await;
    for round in 0..50 {
        let course = format!("c{round}");
        let connect = async |n| server.connect(&format!("/course/{course}"), student(&format!("u{n}"), &[&course])).await;
        let mut students = join_all((0..4).map(connect)).await;
        for (n, student) in students.iter_mut().enumerate() {
            assert_eq!(student.ask("say", json!("first")).await, json!({}), "{n}");
        }
        for n in 0..students.len() {
            assert_eq!(students[n].ask("say", json!(n)).await, json!({}));
            for student in &mut students {
                while student.next("said").await != n {}
            }
        }
    }
}

#[tokio::test]
async fn refused_connects_to_random_courses_leave_no_namespaces() {
    const STRANGERS: usize = 5000;
    const AT_ONCE: usize = 50;
    /// 5000 leaked namespaces would exceed this several times over; allocator noise does not.
    const ALLOWED: u64 = 12 << 20;
    let server = server().await;
    let connect_strangers = async |course: &dyn Fn(usize) -> String| {
        let before = server.resident_bytes();
        for from in (0..STRANGERS).step_by(AT_ONCE) {
            let refusals =
                (from..from + AT_ONCE).map(async |n| server.connect_refused(&format!("/course/{}", course(n)), ()).await);
            assert!(join_all(refusals).await.iter().all(|sentence| sentence == "Authentication error"));
        }
        server.resident_bytes() - before
    };
    // A connection without a namespace stays open for a while. That costs both cases the same.
    let at_one = connect_strangers(&|_| "rust".to_owned()).await;
    let at_random = connect_strangers(&|n| format!("stranger-{n}")).await;
    assert!(at_random <= at_one + ALLOWED, "{at_random} bytes for random courses, {at_one} for one course");
    server.connect("/course/rust", student("ana", &["rust"])).await;
}

#[tokio::test]
async fn a_namespace_that_everyone_has_left_opens_again() {
    let server = server().await;
    for n in 0..3 {
        let mut ana = server.connect("/course/rust", student("ana", &["rust"])).await;
        assert_eq!(ana.ask("say", json!(n)).await, json!({}));
        assert_eq!(ana.next("said").await, n);
        ana.leave().await;
        wait::eventually("the namespace to be empty", async || server.get("/health").await.1["connections"] == 0).await;
    }
}
