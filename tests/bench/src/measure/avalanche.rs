//! An avalanche: a server with many clients is stopped and started again, and all come back at the moment when it answers, or 64
//! at a time from then on. Measures how many have their socket again, and how long the last one takes. It must never wait between
//! connects otherwise.

use anyhow::{Result, ensure};

use super::received::{Received, percent};
use super::{Metric, Sample, Scale, Unit, targets};
use crate::child::Child;
use crate::client::{Entry, Packet, STEP_LIMIT, Swarm};
use crate::clock::{MILLI, SECOND, now};
use crate::server::{Kind, Site, Starter};
use crate::stamp;

const ROOM: usize = 50;
/// Connects in progress at once in the second half, which no server's queue of new connections (Node: 511) refuses.
const PACED: usize = 64;
/// A client whose connection is not accepted tries again after this, as stock clients do.
const RETRY: u64 = SECOND;

pub(super) static METRICS: [Metric; 7] = [
    Metric { id: "avalanche_last", title: "all come back at once: last, from ready", unit: Unit::Seconds },
    Metric { id: "avalanche_stop", title: "  last, from the stop", unit: Unit::Seconds },
    Metric { id: "avalanche_paced", title: "64 at a time: last, from ready", unit: Unit::Seconds },
    Metric { id: "avalanche_recovered", title: "  recovered, of both", unit: Unit::Percent },
    Metric { id: "avalanche_refused", title: "  refused, or not back in 30 s", unit: Unit::Faults },
    Metric { id: "avalanche_retries", title: "  connections that were not accepted", unit: Unit::Faults },
    Metric { id: "avalanche_lost", title: "  lost deliveries to those that are back", unit: Unit::Faults },
];

pub(super) fn run(kind: Kind, scale: Scale, starter: &Starter<'_>) -> Result<Vec<Sample>> {
    let site = Site::new(true)?;
    let mut child = starter.start_at(kind, &site)?;
    let mut swarm = Swarm::returning(starter.stop)?;
    swarm.open(site.addr, targets("/", scale.avalanche)?, None)?;
    swarm.ask_all(|index, out| stamp::join(out, index / ROOM))?;
    swarm.settle(300 * MILLI)?;
    let mut received = Received::of(scale.avalanche);
    // So that each client has an offset.
    let lost_before = say(&mut swarm, 0, &mut received)?;
    ensure!(lost_before == 0, "{lost_before} deliveries were lost before the stop");
    let (mut all, mut seconds) = (Back::default(), Vec::new());
    let mut lost = 0;
    for (number, at_once) in (1..).zip([usize::MAX, PACED]) {
        let stopped = now();
        stop(child, &mut swarm)?;
        child = starter.start_at(kind, &site)?;
        let with_log = |error: anyhow::Error| error.context(format!("the end of the server's log: {:?}", child.tail()));
        let ready = now();
        let back = come_back(&mut swarm, &site, at_once).map_err(with_log)?;
        seconds.extend([ready, stopped].map(|since| (back.last.max(since) - since) as f64 / SECOND as f64));
        all.add(&back);
        swarm.settle(300 * MILLI)?;
        lost = say(&mut swarm, number, &mut received).map_err(with_log)?;
    }
    let expected = 2 * scale.avalanche as u64;
    let missing = expected - all.recovered - all.renewed;
    // A client that is not back has lost what was said after it.
    let counts = [missing, all.retries, lost.saturating_sub(missing)].map(|count| count as f64);
    let values = seconds.into_iter().take(3).chain([percent(all.recovered, expected)]).chain(counts);
    Ok(METRICS.iter().zip(values).collect())
}

/// Stops the server and waits until it and all connections have ended.
fn stop(mut child: Child, swarm: &mut Swarm) -> Result<()> {
    child.ask_to_stop()?;
    let limit = now() + STEP_LIMIT;
    while !child.has_ended()? {
        ensure!(now() < limit, "the server did not stop: {}", child.tail());
        swarm.turn(now() + 5 * MILLI, |_, _| Ok(()))?;
    }
    (0..swarm.len()).try_for_each(|index| swarm.cut(index))
}

#[derive(Default)]
struct Back {
    recovered: u64,
    renewed: u64,
    /// A stock client does not come back after it.
    refused: u64,
    retries: u64,
    /// When the last client was connected.
    last: u64,
}

impl Back {
    fn add(&mut self, other: &Self) {
        self.recovered += other.recovered;
        self.renewed += other.renewed;
        self.refused += other.refused;
        self.retries += other.retries;
    }

    fn answered(&self) -> u64 {
        self.recovered + self.renewed + self.refused
    }
}

/// Brings all clients back, with at most `at_once` of them connecting.
fn come_back(swarm: &mut Swarm, site: &Site, at_once: usize) -> Result<Back> {
    let (mut back, all, limit) = (Back::default(), swarm.len() as u64, now() + STEP_LIMIT);
    let mut again: Vec<(u64, usize)> = (0..swarm.len()).map(|index| (now(), index)).collect();
    while back.answered() < all && now() < limit {
        let connecting = ((all - back.answered()) as usize).saturating_sub(again.len());
        // In groups, so that what the first are sent does not wait until the last have begun.
        let group = at_once.saturating_sub(connecting).min(PACED);
        let due: Vec<usize> = again.iter().filter(|(at, _)| *at <= now()).map(|(_, index)| *index).take(group).collect();
        again.retain(|(_, index)| !due.contains(index));
        for index in &due {
            swarm.come_back(*index, site.addr)?;
        }
        let until = if due.is_empty() { now() + 5 * MILLI } else { 0 };
        swarm.turn(until, |client, packet| {
            match packet {
                Packet::Closed => {
                    back.retries += 1;
                    again.push((now() + RETRY, client.index));
                }
                Packet::Refused(_) => back.refused += 1,
                Packet::Connected(_) => {
                    back.last = now();
                    match client.entry() {
                        Entry::Recovered => back.recovered += 1,
                        _ => {
                            back.renewed += 1;
                            let room = client.index / ROOM;
                            client.emit(None, |out| stamp::join(out, room))?;
                        }
                    }
                }
                _ => {}
            }
            Ok(())
        })?;
    }
    Ok(back)
}

/// The first client of each room says one message. Returns the number of clients that have not received all messages so far.
fn say(swarm: &mut Swarm, number: u32, received: &mut Received) -> Result<u64> {
    for index in (0..swarm.len()).step_by(ROOM) {
        swarm.client(index)?.emit(None, |out| stamp::message(out, index / ROOM, now(), number))?;
    }
    let limit = now() + 5 * SECOND;
    loop {
        let lost = received.totals(|_| number + 1)?.lost;
        if lost == 0 || now() > limit {
            return Ok(lost);
        }
        let until = now() + 20 * MILLI;
        while now() < until {
            swarm.turn(until, |client, packet| received.take(client.index, packet).map(drop))?;
        }
    }
}
