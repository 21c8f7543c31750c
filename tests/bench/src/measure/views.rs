//! Ten thousand views per second from a backend, each counted in storage, with at most two updates per second for a video's room.
//! It must never publish faster than the server accepts: a view counts once it is stored.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};

use super::{Bench, Latency, Meter, Metric, Sample, Unit, targets};
use crate::child::post;
use crate::client::{Packet, STEP_LIMIT, Swarm};
use crate::clock::{MILLI, Pace, SECOND, now};
use crate::hubbub::API_KEY;

const PER_SECOND: u64 = 10_000;
/// Views in one request, all of one video, as a partition of a log would deliver them.
const BATCH: u64 = 100;
const VIDEOS: usize = 20;
/// The maximum number of updates for a room per second.
const UPDATE_LIMIT: f64 = 2.0;

pub(super) static METRICS: [Metric; 5] = [
    Metric { id: "views_rate", title: "views accepted", unit: Unit::PerSecond },
    Metric { id: "views_cpu", title: "CPU a view, counted", unit: Unit::Micros },
    Metric { id: "views_lag", title: "lag after the last was accepted", unit: Unit::Micros },
    Metric { id: "views_told", title: "updates of a room", unit: Unit::PerSecond },
    Metric { id: "views_flood", title: "updates over the room's limit", unit: Unit::Faults },
];

pub(super) fn run(bench: &Bench<'_>) -> Result<Vec<Sample>> {
    let mut swarm = bench.swarm()?;
    swarm.open(bench.child.addr, targets("/", VIDEOS)?, None)?;
    swarm.ask_all(|index, out| out.extend_from_slice(format!(r#"["video:join",{{"videoId":"views-{index}"}}]"#).as_bytes()))?;
    swarm.settle(300 * MILLI)?;
    flow(bench, &mut swarm, bench.scale.warm, "warm")?;
    // A last update may still come.
    swarm.settle(600 * MILLI)?;
    let meter = Meter::start(bench.child)?;
    let Flow { accepted, seconds, updates, lag } = flow(bench, &mut swarm, bench.scale.steady, "end")?;
    let each = updates as f64 / VIDEOS as f64 / seconds;
    // One more update per room is the last of a burst, sent after the views have ended.
    let flood = (updates as f64 - VIDEOS as f64 * (UPDATE_LIMIT * seconds + UPDATE_LIMIT + 1.0)).max(0.0).round();
    let values = [accepted as f64 / seconds, meter.micros_each(accepted)?, lag.micros(1.0), each, flood];
    Ok(METRICS.iter().zip(values).collect())
}

/// The views of one window, all counted by the server.
struct Flow {
    accepted: u64,
    seconds: f64,
    /// Updates received by all rooms together.
    updates: u64,
    lag: Latency,
}

/// Publishes for `ns` and waits until every video is up to date; its last comment has the id `last`.
fn flow(bench: &Bench<'_>, swarm: &mut Swarm, ns: u64, last: &str) -> Result<Flow> {
    let (accepted, began) = (AtomicU64::new(0), now());
    let end = began + ns;
    let (mut updates, mut behind, mut lag) = (0u64, VIDEOS, Latency::new()?);
    let mut last_accepted = 0;
    std::thread::scope(|scope| -> Result<()> {
        let publisher = scope.spawn(|| publish(bench, end, &accepted));
        while behind > 0 {
            ensure!(now() < end + STEP_LIMIT, "{behind} videos are still behind");
            if publisher.is_finished() && last_accepted == 0 {
                last_accepted = now();
                ask_for_ends(bench, last)?;
            }
            swarm.turn(now() + 20 * MILLI, |_, packet| {
                match packet {
                    Packet::Event(event) if event.starts_with(br#"["video:view""#) => updates += 1,
                    // The comment was published after the video's last view.
                    Packet::Event(event) if event.starts_with(br#"["video:comment""#) => {
                        behind -= 1;
                        lag.record(now() - last_accepted);
                    }
                    _ => {}
                }
                Ok(())
            })?;
        }
        publisher.join().map_err(|_| anyhow::anyhow!("the publisher panicked"))?
    })?;
    let seconds = (last_accepted - began) as f64 / SECOND as f64;
    Ok(Flow { accepted: accepted.into_inner(), seconds, updates, lag })
}

/// Publishes at the fixed rate until `end`.
fn publish(bench: &Bench<'_>, end: u64, accepted: &AtomicU64) -> Result<()> {
    let mut pace = Pace::per_second((PER_SECOND / BATCH) as f64, now());
    let mut video = 0;
    while now() < end {
        if !pace.due(now()) {
            std::thread::yield_now();
            continue;
        }
        let one = message("video.view", video % VIDEOS, "");
        let batch = vec![one; BATCH as usize].join(",");
        post(bench.child.addr, "/api/publish", API_KEY, &format!("[{batch}]"))?;
        accepted.fetch_add(BATCH, Ordering::Relaxed);
        video += 1;
    }
    Ok(())
}

fn ask_for_ends(bench: &Bench<'_>, last: &str) -> Result<()> {
    let id = format!(r#","commentId":"{last}""#);
    let comments = (0..VIDEOS).map(|video| message("video.comment", video, &id));
    let batch = comments.collect::<Vec<_>>().join(",");
    post(bench.child.addr, "/api/publish", API_KEY, &format!("[{batch}]")).context("the last comments")
}

fn message(topic: &str, video: usize, more: &str) -> String {
    format!(r#"{{"topic":"{topic}","key":"views-{video}","data":{{"videoId":"views-{video}"{more}}}}}"#)
}
