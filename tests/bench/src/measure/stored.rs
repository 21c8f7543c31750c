//! Stored messages: the courses' chat, in which an ack means that the message is on disk. 1, 10 and 100 users, each in a separate
//! chat, send again after each ack. It must never run on a memory file system, where a sync costs nothing.

use std::io::{Seek, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::{Bench, Latency, Meter, Metric, Sample, Unit, targets};
use crate::child::post;
use crate::client::{Packet, STEP_LIMIT, Swarm, accepted};
use crate::clock::{MILLI, SECOND, now};
use crate::hubbub::API_KEY;
use crate::{stamp, token};

const SENDERS: [usize; 3] = [1, 10, 100];
const MOST: usize = 100;
const SYNCS: usize = 50;
const PAGE: usize = 4096;
/// The interval between two attempts to join: a published chat is accepted before the plugin has handled it.
const RETRY_INTERVAL: u64 = 20 * MILLI;

pub(super) static METRICS: [Metric; 13] = [
    Metric { id: "stored_sync", title: "one fsync of this disk", unit: Unit::Micros },
    Metric { id: "stored_1_rate", title: "stored, 1 sender", unit: Unit::PerSecond },
    Metric { id: "stored_1_p50", title: "  ack p50", unit: Unit::Micros },
    Metric { id: "stored_1_p99", title: "  ack p99", unit: Unit::Micros },
    Metric { id: "stored_1_cpu", title: "  CPU a message", unit: Unit::Micros },
    Metric { id: "stored_10_rate", title: "stored, 10 senders", unit: Unit::PerSecond },
    Metric { id: "stored_10_p50", title: "  ack p50", unit: Unit::Micros },
    Metric { id: "stored_10_p99", title: "  ack p99", unit: Unit::Micros },
    Metric { id: "stored_10_cpu", title: "  CPU a message", unit: Unit::Micros },
    Metric { id: "stored_100_rate", title: "stored, 100 senders", unit: Unit::PerSecond },
    Metric { id: "stored_100_p50", title: "  ack p50", unit: Unit::Micros },
    Metric { id: "stored_100_p99", title: "  ack p99", unit: Unit::Micros },
    Metric { id: "stored_100_cpu", title: "  CPU a message", unit: Unit::Micros },
];

pub(super) fn run(bench: &Bench<'_>) -> Result<Vec<Sample>> {
    // The data folder is kept over the rounds, so chat names must be unique.
    let run = now();
    for index in 0..MOST {
        post(bench.child.addr, "/api/publish", API_KEY, &upserted(run, index))?;
    }
    let mut swarm = bench.swarm()?;
    swarm.open(bench.child.addr, targets("/chat", MOST)?, None)?;
    (0..MOST).try_for_each(|index| join(&mut swarm, run, index))?;
    swarm.settle(300 * MILLI)?;
    let mut values = vec![sync_time(bench.folder)?];
    for senders in SENDERS {
        closed(&mut swarm, run, senders, bench.scale.warm)?;
        let meter = Meter::start(bench.child)?;
        let (stored, latency) = closed(&mut swarm, run, senders, bench.scale.closed)?;
        let rate = stored as f64 * SECOND as f64 / bench.scale.closed as f64;
        values.extend([rate, latency.micros(0.5), latency.micros(0.99), meter.micros_each(stored)?]);
    }
    Ok(METRICS.iter().zip(values).collect())
}

/// The lower bound for any store: the median time of writing a page in place and waiting for the disk. A growing file takes twice
/// as long.
fn sync_time(folder: &Path) -> Result<f64> {
    let mut file = tempfile::tempfile_in(folder)?;
    let mut latency = Latency::new()?;
    file.write_all(&[1; PAGE])?;
    file.sync_all()?;
    for _ in 0..SYNCS {
        let began = now();
        file.rewind()?;
        file.write_all(&[2; PAGE])?;
        file.sync_data()?;
        latency.record(now() - began);
    }
    Ok(latency.micros(0.5))
}

fn upserted(run: u64, index: usize) -> String {
    let people = [(token::user(index), "STUDENT"), (format!("teacher-{index}"), "INSTRUCTOR")];
    let people = people.map(|(id, role)| serde_json::json!({ "userId": id, "name": id, "role": role }));
    serde_json::json!({ "topic": "chat.upserted", "data": { "chatId": chat(run, index), "participants": people } }).to_string()
}

fn chat(run: u64, index: usize) -> String {
    format!("bench-{run}-{index}")
}

/// Tries to join until the chat exists.
fn join(swarm: &mut Swarm, run: u64, index: usize) -> Result<()> {
    let limit = now() + STEP_LIMIT;
    loop {
        let body = format!(r#"["chat:join",{{"chatId":"{}"}}]"#, chat(run, index));
        swarm.client(index)?.emit(Some(0), |out| out.extend_from_slice(body.as_bytes()))?;
        let mut answer = None;
        while answer.is_none() {
            ensure!(now() < limit, "chat:join was not answered");
            swarm.turn(limit, |client, packet| {
                if let (Packet::Ack(_, args), true) = (packet, client.index == index) {
                    answer = Some(accepted(args));
                }
                Ok(())
            })?;
        }
        match answer.context("answered")? {
            Ok(()) => return Ok(()),
            Err(refusal) if now() > limit => bail!(refusal),
            Err(_) => {}
        }
        let again = now() + RETRY_INTERVAL;
        while now() < again {
            swarm.turn(again, |_, _| Ok(()))?;
        }
    }
}

/// The first `senders` clients send, wait for the ack and send again, for `ns`. Returns the number of acks in that time.
fn closed(swarm: &mut Swarm, run: u64, senders: usize, ns: u64) -> Result<(u64, Latency)> {
    let chats: Vec<String> = (0..senders).map(|index| chat(run, index)).collect();
    let mut sent = vec![0u64; senders];
    let (mut stored, mut waiting, mut latency) = (0u64, senders, Latency::new()?);
    let end = now() + ns;
    for index in 0..senders {
        sent[index] = now();
        swarm.client(index)?.emit(Some(1), |out| message(out, &chats[index]))?;
    }
    while waiting > 0 {
        ensure!(now() < end + STEP_LIMIT, "{waiting} acks are missing");
        swarm.turn(end + STEP_LIMIT, |client, packet| {
            let Packet::Ack(_, args) = packet else { return Ok(()) };
            accepted(args)?;
            let index = client.index;
            latency.record(now() - sent[index]);
            if now() < end {
                stored += 1;
                sent[index] = now();
                return client.emit(Some(1), |out| message(out, &chats[index]));
            }
            waiting -= 1;
            Ok(())
        })?;
    }
    Ok((stored, latency))
}

fn message(out: &mut Vec<u8>, chat: &str) {
    let _ = write!(out, r#"["chat:message",{{"chatId":"{chat}","content":"{}"}}]"#, stamp::text(now(), 0));
}
