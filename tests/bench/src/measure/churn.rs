//! Attendants going away and coming back: each change is sent to all attendants. It must never count a change that was not
//! received.

use anyhow::{Result, ensure};

use super::{Bench, Latency, Meter, Metric, Sample, Unit};
use crate::client::{Packet, STEP_LIMIT, Swarm, Target};
use crate::clock::{MILLI, Pace, now};
use crate::token;

const ATTENDANTS: usize = 100;
const PER_SECOND: f64 = 200.0;

pub(super) static METRICS: [Metric; 3] = [
    Metric { id: "churn_cpu", title: "CPU a presence change, sent to 100", unit: Unit::Micros },
    Metric { id: "churn_p99", title: "change received p99", unit: Unit::Micros },
    Metric { id: "churn_lost", title: "lost presence events", unit: Unit::Faults },
];

pub(super) fn run(bench: &Bench<'_>) -> Result<Vec<Sample>> {
    let mut swarm = bench.swarm()?;
    let target = |index| Ok(Target { namespace: "/hub", token: token::sign_as(index, "ATTENDANT", "bench")? });
    swarm.open(bench.child.addr, (0..ATTENDANTS).map(target).collect::<Result<Vec<_>>>()?, None)?;
    swarm.settle(500 * MILLI)?;
    let mut online = vec![true; ATTENDANTS];
    changes(&mut swarm, bench.scale.warm, &mut online)?;
    let meter = Meter::start(bench.child)?;
    let (made, lost, latency) = changes(&mut swarm, bench.scale.steady, &mut online)?;
    let values = [meter.micros_each(made)?, latency.micros(0.99), lost as f64];
    Ok(METRICS.iter().zip(values).collect())
}

/// Every attendant in turn goes away or comes back, for `ns`. Returns the number of changes and of missing events.
fn changes(swarm: &mut Swarm, ns: u64, online: &mut [bool]) -> Result<(u64, u64, Latency)> {
    let (mut made, mut received, mut latency) = (0u64, 0u64, Latency::new()?);
    let mut changed = vec![0u64; ATTENDANTS];
    let start = now();
    let mut pace = Pace::per_second(PER_SECOND, start);
    let mut quiet = 0;
    while now() < start + ns || (received < made * ATTENDANTS as u64 && quiet < STEP_LIMIT / (20 * MILLI)) {
        ensure!(now() < start + ns + 2 * STEP_LIMIT, "the changes do not end");
        while now() < start + ns && pace.due(now()) {
            let index = made as usize % ATTENDANTS;
            let event: &[u8] = if online[index] { br#"["presence:away"]"# } else { br#"["presence:online"]"# };
            online[index] = !online[index];
            changed[index] = now();
            swarm.client(index)?.emit(None, |out| out.extend_from_slice(event))?;
            made += 1;
        }
        quiet = if now() < start + ns { 0 } else { quiet + 1 };
        let until = if now() < start + ns { pace.next() } else { now() + 20 * MILLI };
        swarm.turn(until, |_, packet| {
            if let Packet::Event(event) = packet
                && event.starts_with(br#"["attendant:"#)
            {
                received += 1;
                if let Some(index) = user(event) {
                    latency.record(now() - changed[index]);
                }
            }
            Ok(())
        })?;
    }
    Ok((made, (made * ATTENDANTS as u64).abs_diff(received), latency))
}

/// The attendant in an event.
fn user(event: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(event).ok()?;
    let id = text.split_once(r#""userId":""#)?.1.split_once('"')?.0;
    id.strip_prefix(token::USER)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_names_its_attendant() {
        let event = format!(r#"["attendant:away",{{"userId":"{}","status":"away"}}]"#, token::user(42));
        assert_eq!(user(event.as_bytes()), Some(42));
    }
}
