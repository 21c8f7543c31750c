//! Idle connections: the resident memory of each once the server is quiet. It must never measure a process that has held more
//! connections before, because the memory it kept would count as free.

use anyhow::Result;

use super::{Bench, Metric, Sample, Unit, targets};
use crate::clock::{MILLI, SECOND, now};

/// Connections before the first measurement, so that one-time allocations are not divided among the others.
const WARM: usize = 100;
const LOOK: u64 = 250 * MILLI;
/// The memory has settled once this many measurements in a row differ by at most `SLACK` bytes.
const LOOKS: usize = 4;
const SLACK: u64 = 128 * 1024;
/// Node frees memory of connects only at its next garbage collection. After this time the current value is used.
const SETTLE_LIMIT: u64 = 10 * SECOND;

pub(super) static METRICS: [Metric; 1] =
    [Metric { id: "idle_memory", title: "memory an idle connection", unit: Unit::Kilobytes }];

pub(super) fn run(bench: &Bench<'_>) -> Result<Vec<Sample>> {
    let count = bench.scale.idle;
    let mut targets = targets("/", WARM + count)?;
    let counted = targets.split_off(WARM);
    let mut swarm = bench.swarm()?;
    let settled = |swarm: &mut crate::client::Swarm| -> Result<u64> {
        let limit = now() + SETTLE_LIMIT;
        let (mut last, mut same) = (bench.child.resident()?, 0);
        while same < LOOKS && now() < limit {
            let look = now() + LOOK;
            while now() < look {
                swarm.turn(look, |_, _| Ok(()))?;
            }
            let resident = bench.child.resident()?;
            same = if resident.abs_diff(last) <= SLACK { same + 1 } else { 0 };
            last = resident;
        }
        Ok(last)
    };
    swarm.open(bench.child.addr, targets, None)?;
    let before = settled(&mut swarm)?;
    swarm.open(bench.child.addr, counted, None)?;
    let after = settled(&mut swarm)?;
    let each = after.saturating_sub(before) as f64 / 1024.0 / count as f64;
    Ok(vec![(&METRICS[0], each)])
}
