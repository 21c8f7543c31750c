//! Namespaces with a parameter: one for each course, created on its first connect. A refused connect must never leave one behind.

use futures_util::future::join_all;
use serde_json::json;
use tests::{Server, Token, fixture, token, wait};

fn student(id: &str, courses: &[&str]) -> Token {
    token(id).claim("courses", json!(courses))
}

async fn server() -> Server {
    Server::dev()
        .only(&["chat"])
        .plugin("course", &fixture::course().await)
        .env("HUBBUB_GATEWAY__NAMESPACE_IDLE", "1s")
        .start()
        .await
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
async fn concurrent_first_connects_to_a_namespace_all_succeed() {
    let server = server().await;
    for round in 0..50 {
        let course = format!("c{round}");
        let connect = async |n| server.connect(&format!("/course/{course}"), student(&format!("u{n}"), &[&course])).await;
        let mut students = join_all((0..4).map(connect)).await;
        for (n, student) in students.iter_mut().enumerate() {
            // If two namespaces are created at the same moment, one is kept. Clients of the other one are disconnected and
            // reconnect.
            let id = student.emit_for_ack(&json!(["say", "first"])).await;
            if student.acked_or_ended(id).await.is_none() {
                *student = connect(n).await;
            }
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
async fn a_course_removed_when_idle_opens_again() {
    let server = server().await;
    let first = server.connect("/course/rust", student("ana", &["rust"])).await;
    first.leave().await;
    // After twice the idle time by the server's own clock, the empty namespace has been removed.
    let uptime = async || server.get("/socket/health").await.1["uptime"].as_f64().expect("a number of seconds");
    let left = uptime().await;
    wait::eventually("the idle time to pass", async || uptime().await > left + 2.0).await;
    let mut again = server.connect("/course/rust", student("ana", &["rust"])).await;
    assert_eq!(again.ask("say", json!(1)).await, json!({}));
    assert_eq!(again.next("said").await, 1);
}
