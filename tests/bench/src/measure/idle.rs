//! Idle connections: the resident memory at three counts of them once the server is quiet, as a slope by least squares, so that
//! what a server uses without connections is not divided among them. It must never measure below a count that the process has had
//! before: the memory it kept would count as free.

use anyhow::{Result, ensure};

use super::{Bench, Metric, Sample, Unit, targets};
use crate::client::{STEP_LIMIT, Swarm};
use crate::clock::{MILLI, SECOND, now};

/// Connections that are opened and closed before the first measurement, so that compilers, caches and tables are warm. All of
/// one wave are closed before the next.
const WAVES: usize = 8;
/// A server that keeps the memory of closed connections keeps less than the first count needs.
const WAVE_SHARE: usize = 2;
/// Open files beyond those of the start that are not connections: logs, timers, caches.
const FILES_SLACK: usize = 16;
const LOOK: u64 = 250 * MILLI;
/// The memory has settled once this many measurements in a row differ by at most `SLACK` bytes.
const LOOKS: usize = 4;
const SLACK: u64 = 128 * 1024;
/// Servers in JavaScript free memory of connects only at their next garbage collection. After this time the current value is
/// used.
const SETTLE_LIMIT: u64 = 10 * SECOND;

pub(super) static METRICS: [Metric; 3] = [
    Metric { id: "idle_memory", title: "memory an idle connection, slope", unit: Unit::Kilobytes },
    Metric { id: "idle_memory_low", title: "  between the lower two counts", unit: Unit::Kilobytes },
    Metric { id: "idle_memory_high", title: "  between the upper two counts", unit: Unit::Kilobytes },
];

pub(super) fn run(bench: &Bench<'_>) -> Result<Vec<Sample>> {
    let counts = bench.scale.idle;
    let wave = counts[0] / WAVE_SHARE;
    // Every connection has a user of its own, also over the waves.
    let mut targets = targets("/", WAVES * wave + counts[2])?.into_iter();
    let mut swarm = bench.swarm()?;
    let files = bench.child.files()?;
    for _ in 0..WAVES {
        swarm.open(bench.child.addr, targets.by_ref().take(wave), None)?;
        swarm.close();
        until_closed(bench, &mut swarm, files)?;
    }
    let mut points = [(0.0, 0.0); 3];
    for (point, count) in points.iter_mut().zip(counts) {
        let more = count - swarm.len();
        swarm.open(bench.child.addr, targets.by_ref().take(more), None)?;
        *point = (count as f64, settled(bench, &mut swarm)? as f64 / 1024.0);
    }
    let values = [slope(&points), slope(&points[..2]), slope(&points[1..])];
    Ok(METRICS.iter().zip(values).collect())
}

/// Waits until the server has closed the connections of the clients that have left.
fn until_closed(bench: &Bench<'_>, swarm: &mut Swarm, files: usize) -> Result<()> {
    let limit = now() + STEP_LIMIT;
    loop {
        let open = bench.child.files()?.saturating_sub(files);
        if open <= FILES_SLACK {
            return Ok(());
        }
        ensure!(now() < limit, "{open} connections are still open at the server after their clients have left");
        wait(swarm, LOOK)?;
    }
}

/// The resident memory in bytes once it no longer changes.
fn settled(bench: &Bench<'_>, swarm: &mut Swarm) -> Result<u64> {
    let limit = now() + SETTLE_LIMIT;
    let (mut last, mut same) = (bench.child.resident()?, 0);
    while same < LOOKS && now() < limit {
        wait(swarm, LOOK)?;
        let resident = bench.child.resident()?;
        same = if resident.abs_diff(last) <= SLACK { same + 1 } else { 0 };
        last = resident;
    }
    Ok(last)
}

fn wait(swarm: &mut Swarm, ns: u64) -> Result<()> {
    let until = now() + ns;
    while now() < until {
        swarm.turn(until, |_, _| Ok(()))?;
    }
    Ok(())
}

/// The slope of the line that is closest to the points by least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let (both, square) = points.iter().fold((0.0, 0.0), |(both, square), point| {
        let from = point.0 - x;
        (both + from * (point.1 - y), square + from * from)
    });
    both / square
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_leaves_out_what_no_connection_uses() {
        let line = [1000.0, 5000.0, 15_000.0].map(|x| (x, 30_000.0 + 6.0 * x));
        assert!((slope(&line) - 6.0).abs() < 1e-9);
        assert!((slope(&line[1..]) - 6.0).abs() < 1e-9);
        // By hand: deviations of x −1, 0, 1 and of y −3, 0, 3, with one point off the line.
        assert!((slope(&[(0.0, 0.0), (1.0, 3.0), (2.0, 7.0)]) - 3.5).abs() < 1e-9);
    }
}
