//! The operator's page beside ten thousand connections: it shows every figure, and it answers. Must never know more of the page
//! than it shows, but how long its own thread was away.

use std::cell::Cell;
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use reqwest::Method;
use serde_json::json;
use tests::server::ADMIN_TOKEN;
use tests::stalled::{Stalled, room_for, without_heartbeats};
use tests::{Browser, Client, Server, gate};

use crate::dashboard::entered;
use crate::scene::user;

/// As many as file descriptors allow, up to this.
const CROWD: usize = 10_000;

/// Over which they are spread, evenly.
const ROOMS: usize = 100;

/// Users who talk in the rooms, one after the other, and how often one does.
const TALKERS: usize = 20;
const PACE: Duration = Duration::from_millis(50);

/// Figures that one look at the page takes, one a second.
const FIGURES: usize = 4;

/// Below these a thing counts as quick, however much quicker it was before: what the server answers by itself, an answer in the
/// page, one that the next figure shows, and a task of the page's own thread.
const REQUEST: Duration = Duration::from_millis(100);
const ANSWER: Duration = Duration::from_secs(1);
const SHOWN: Duration = Duration::from_millis(1500);
const TASK: Duration = Duration::from_millis(100);

/// The same for what a second of figures costs the server.
const CPU: Duration = Duration::from_millis(20);

#[tokio::test]
async fn the_page_shows_every_figure_and_answers_as_soon_beside_ten_thousand_connections() {
    gate::alone();
    let count = room_for(CROWD);
    let server = without_heartbeats(Server::dev().one_process().only(&["chat"]).chatty()).start().await;
    let mut browser = Browser::start();
    entered(&mut browser, "one", &server).await;
    browser.resize("one", 1360, 1100).await;
    let mut talkers = join_all((0..TALKERS).map(|n| talker(&server, n))).await;
    let quiet_cpu = cpu_of_a_figure(&server).await;
    let quiet = talking(&mut talkers, &[], look(&mut browser, &server, 0)).await;

    let mut crowd = Vec::new();
    for room in 0..ROOMS {
        crowd.push(Stalled::join(server.address(), "/", "chat:join", &json!({"videoId": video(room)}), count / ROOMS).await);
    }
    let count = crowd.iter().map(Stalled::count).sum();
    let crowd_cpu = cpu_of_a_figure(&server).await;
    let mut slower = talking(&mut talkers, &crowd, look(&mut browser, &server, count)).await.slower_than(&quiet);
    if !slower.is_empty() {
        // Other work on the machine makes it worse, never better.
        slower = talking(&mut talkers, &crowd, look(&mut browser, &server, count)).await.slower_than(&quiet);
    }
    assert!(slower.is_empty(), "beside {count} connections: {slower:?}");
    assert!(
        crowd_cpu <= 2 * quiet_cpu.max(CPU),
        "a figure beside {count} connections costs {crowd_cpu:?}, {quiet_cpu:?} without"
    );
    assert_eq!(server.metrics().await.get("hubbub_admin_figures_dropped_total", &[]), Some(0.0), "figures were dropped");
}

fn video(room: usize) -> String {
    format!("v{room}")
}

async fn talker(server: &Server, n: usize) -> Client {
    let mut client = server.connect("/", user(&format!("u{n}"))).await;
    assert_eq!(client.ask("chat:join", json!({"videoId": video(n)})).await, json!({}));
    client
}

/// What the server spends on one second while nobody says anything and one page is open.
async fn cpu_of_a_figure(server: &Server) -> Duration {
    let mut told = figures(server).await;
    told.next("figures").await;
    let before = server.cpu_time();
    for _ in 0..FIGURES {
        told.next("figures").await;
    }
    (server.cpu_time() - before) / FIGURES as u32
}

/// Who is told what the page is told.
async fn figures(server: &Server) -> Client {
    Client::connect(server.admin_address(), "/figures", ADMIN_TOKEN).await.expect("the token is right")
}

/// Talks in the rooms, and lets all who are in them read, until `until` has ended.
async fn talking<T>(talkers: &mut [Client], crowd: &[Stalled], until: impl Future<Output = T>) -> T {
    let over = Cell::new(false);
    let talk = async {
        let (mut turns, mut heard) = (tokio::time::interval(PACE), 0);
        for turn in 0.. {
            turns.tick().await;
            let room = turn % talkers.len();
            let said = json!({"videoId": video(room), "message": turn.to_string()});
            let ack = talkers[room].ask("chat:message", said).await;
            // The operator disables the plugin for a moment.
            assert!(ack == json!({}) || ack["error"]["code"] == "unavailable", "{ack}");
            heard += crowd.iter().map(Stalled::read_away).sum::<usize>();
            if over.get() {
                break;
            }
        }
        assert!(heard > 0 || crowd.is_empty(), "nobody was talked to");
    };
    let until = async {
        let done = until.await;
        over.set(true);
        done
    };
    join(until, talk).await.0
}

/// What an operator has before her.
#[derive(Debug)]
struct Look {
    /// A plugin is disabled, or enabled, until the table says so.
    switched: Duration,
    /// From the wish to listen in on a user to the first event of hers that is shown.
    tapped: Duration,
    /// The longest of the page's own thread.
    task: Duration,
    /// The slowest of what the page, and any other, asks for.
    request: Duration,
}

impl Look {
    /// What takes over twice as long as before, and longer than nobody feels: what, how long, and how long it took.
    fn slower_than(&self, before: &Self) -> Vec<(&'static str, Duration, Duration)> {
        let all = [
            ("switching a plugin", self.switched, before.switched, SHOWN),
            ("a tap's first event", self.tapped, before.tapped, ANSWER),
            ("a task of the page", self.task, before.task, TASK),
            ("a request", self.request, before.request, REQUEST),
        ];
        let slower = all.into_iter().filter(|(_, now, before, floor)| *now > 2 * (*before).max(*floor));
        slower.map(|(what, now, before, _)| (what, now, before)).collect()
    }
}

async fn look(browser: &mut Browser, server: &Server, crowd: usize) -> Look {
    let connections = crowd + TALKERS;
    let mut shown = connections.to_string();
    if shown.len() > 3 {
        shown.insert(shown.len() - 3, ',');
    }
    browser.sees("one", "connections", &shown).await;

    browser.watch("one", "inside").await;
    let (mut told, mut clocks, mut request) = (figures(server).await, Vec::new(), Duration::ZERO);
    for _ in 0..FIGURES {
        let figures = told.next("figures").await;
        assert_eq!(figures["connections"], connections);
        // 2026-11-21T22:36:24.123Z
        clocks.push(figures["at"].as_str().expect("a time")[14..19].to_owned());
        for path in ["/admin/figures", "/admin/plugins"] {
            let asked = Instant::now();
            assert_eq!(server.admin(Method::GET, path, Vec::new()).await.0, 200);
            request = request.max(asked.elapsed());
        }
    }
    let watched = browser.watched("one").await;
    // The last may still be on its way.
    for clock in &clocks[..FIGURES - 1] {
        assert!(watched.texts.iter().any(|text| text.contains(clock)), "{clock} is not among {:?}", watched.texts);
    }

    let switching = Instant::now();
    for (click, state) in [("disable-chat", "disabled"), ("enable-chat", "active")] {
        browser.click("one", click).await;
        if state == "disabled" {
            browser.click("one", "sure").await;
        }
        browser.sees("one", "plugin-chat", state).await;
    }
    let switched = switching.elapsed() / 2;
    let tapping = Instant::now();
    browser.type_into("one", "tap-user", "u1").await;
    browser.click("one", "tap-go").await;
    browser.sees("one", "tapped", "chat:message").await;
    let tapped = tapping.elapsed();
    browser.click("one", "tap-go").await;
    browser.sees("one", "tap-state", "Stopped").await;
    Look { switched, tapped, task: watched.longest_task, request }
}
