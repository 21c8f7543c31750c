//! Compares Hubbub with its rivals: starts and measures each server round by round in one run, and prints the comparison. It must
//! never compare results of different runs, or leave a server running.

mod bounds;
mod bun;
mod child;
mod client;
mod clock;
mod floor;
mod hubbub;
mod measure;
mod native;
mod node;
mod npm;
mod results;
mod server;
mod stamp;
mod steal;
mod table;
mod token;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::AsyncReadExt;

use crate::hubbub::Hubbub;
use crate::measure::{Measure, Scale};
use crate::results::{Failure, Results, Run};
use crate::server::{Kind, Starter};
use crate::steal::Steal;

/// The value of `--only` for several nodes on one Redis.
const CLUSTER: &str = "cluster";

/// The sockets of the largest measure, and other open files.
const FILES: u64 = 16_000;

/// Measures Hubbub, a native socketioxide server, Socket.IO on Node and on Bun, and a bare fan-out in one run.
#[derive(Parser)]
struct Args {
    /// One short and small round without the cluster: under three minutes. Too rough to judge a bound.
    #[arg(long)]
    quick: bool,
    /// The servers to measure; default: all. `cluster`: only several nodes of Hubbub and of Node on one Redis.
    #[arg(long, value_delimiter = ',', value_parser = ["hubbub", "native", "node", "bun", "floor", CLUSTER])]
    only: Vec<String>,
    /// The measures to take (delivery, acked, connect, idle, stored, mixed, views, churn, jitter, avalanche, recovery, cluster);
    /// default: all, with --quick all but the last four.
    #[arg(long, value_delimiter = ',')]
    measures: Vec<String>,
    /// How often each server is measured; default: 3, with --quick 1.
    #[arg(long)]
    rounds: Option<usize>,
    /// The mean time between two cuts of a client in the measure jitter, in seconds; default: 15.
    #[arg(long)]
    cut_every: Option<f64>,
    /// Hubbub's binary, relative to the workspace.
    #[arg(long, default_value = "target/release/hubbub")]
    hubbub: PathBuf,
    /// Arguments for Hubbub instead of `dev --no-watch`; addresses and data folder are added.
    #[arg(long, value_delimiter = ' ', allow_hyphen_values = true)]
    hubbub_args: Vec<String>,
    /// Additional environment for Hubbub, KEY=VALUE; may be repeated.
    #[arg(long)]
    hubbub_env: Vec<String>,
    /// PostgreSQL for Hubbub instead of its embedded database: `postgres://…`.
    #[arg(long)]
    database: Option<String>,
    /// A file for all results as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Exit with 1 if a bound is exceeded or a measure failed.
    #[arg(long)]
    strict: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// Serves as the native rival until standard input ends.
    #[command(hide = true)]
    Native { addr: SocketAddr },
    /// Serves as the floor until standard input ends.
    #[command(hide = true)]
    Floor { addr: SocketAddr },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.role {
        Some(Role::Native { addr }) => serve(native::serve(addr)),
        Some(Role::Floor { addr }) => serve(floor::serve(addr)),
        None => compare(&args),
    };
    done.unwrap_or_else(|error| {
        // One sentence, not the trace that returning the error from main would print.
        log_progress(&format!("{error:#}"));
        ExitCode::FAILURE
    })
}

fn serve(server: impl Future<Output = Result<()>>) -> Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(server)?;
    Ok(ExitCode::SUCCESS)
}

fn compare(args: &Args) -> Result<ExitCode> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    raise_file_limit()?;
    let measures = measures(args);
    let kinds = kinds(args, &measures);
    ensure!(
        !measures.is_empty(),
        "unknown measure; the measures are delivery, acked, connect, idle, stored, mixed, views, churn, jitter, avalanche, recovery and \
         cluster"
    );
    for kind in kinds.iter().filter(|kind| matches!(kind, Kind::Node | Kind::Bun)) {
        npm::install(*kind)?;
    }
    let results = run(args, &kinds, &measures, &stop)?;
    write!(std::io::stdout(), "{}", table::render(&results, &kinds))?;
    if let Some(path) = &args.json {
        let mut json = results.json(&kinds);
        json["quick"] = args.quick.into();
        std::fs::write(path, format!("{json:#}\n")).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(if args.strict && results.over() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The named servers, or all if none is named, that one of the measures is taken on.
fn kinds(args: &Args, measures: &[Measure]) -> Vec<Kind> {
    let all = args.only.iter().all(|name| name == CLUSTER);
    let named = |kind: &Kind| all || args.only.iter().any(|name| name == kind.name());
    let measured = |kind: &Kind| measures.iter().any(|measure| measure.fits(*kind));
    Kind::ALL.into_iter().filter(|kind| named(kind) && measured(kind)).collect()
}

/// The named measures, or the default ones if none is named.
fn measures(args: &Args) -> Vec<Measure> {
    if args.only.iter().any(|name| name == CLUSTER) {
        return vec![Measure::Cluster];
    }
    let named = |measure: &Measure| args.measures.iter().any(|name| name == measure.name());
    Measure::ALL.into_iter().filter(|one| named(one) || (args.measures.is_empty() && (!args.quick || one.is_quick()))).collect()
}

/// Each round takes each measure once on every server, freshly started. The order of the servers changes from round to round.
fn run(args: &Args, kinds: &[Kind], measures: &[Measure], stop: &Arc<AtomicBool>) -> Result<Results> {
    let mut scale = if args.quick { Scale::QUICK } else { Scale::FULL };
    if let Some(seconds) = args.cut_every {
        scale.cut_every = Duration::try_from_secs_f64(seconds)?.as_nanos() as u64;
    }
    // Beside the binary: the system's temporary folder is often in memory, where a sync costs nothing.
    let binary = std::env::current_exe()?;
    let folder = tempfile::tempdir_in(binary.parent().context("a binary is in a folder")?)?;
    let database = args.database.iter().map(|url| format!("DATABASE_URL={url}"));
    let env = args.hubbub_env.iter().cloned().chain(database).collect();
    let hubbub = Hubbub { binary: args.hubbub.clone(), args: args.hubbub_args.clone(), env };
    let starter = Starter { folder: folder.path(), hubbub: &hubbub, stop };
    if kinds.contains(&Kind::Hubbub) {
        log_progress("hubbub builds and compiles its plugins");
        // Not counted as time of the measures. Its errors are reported by the measures.
        drop(starter.start(Kind::Hubbub, false));
    }
    let (mut results, began) = (Results::default(), Instant::now());
    for round in 0..args.rounds.unwrap_or(scale.rounds) {
        for (place, measure) in measures.iter().enumerate() {
            for turn in 0..kinds.len() {
                let kind = kinds[(turn + round + place) % kinds.len()];
                if !measure.fits(kind) || (round > 0 && measure.is_once()) {
                    continue;
                }
                if began.elapsed() > Duration::from_secs(scale.seconds) {
                    log_progress(&format!("out of time after {} s: the rest of round {} is skipped", scale.seconds, round + 1));
                    return Ok(results);
                }
                log_progress(&format!("round {}: {} of {}", round + 1, measure.name(), kind.name()));
                let steal = Steal::start()?;
                let measured = measure.run(kind, scale, &starter);
                ensure!(!stop.load(Ordering::Relaxed), "interrupted");
                results.runs.push(Run { kind, measure: *measure, round, steal: steal.percent()? });
                match measured {
                    Ok(samples) => results.add(kind, round, samples),
                    Err(error) => results.failures.push(Failure { kind, measure: *measure, round, error: format!("{error:#}") }),
                }
            }
        }
    }
    Ok(results)
}

/// # Errors
/// The shell allows fewer than the measures need.
fn raise_file_limit() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    ensure!(most >= FILES, "{FILES} open files are needed, the limit here is {most}: raise it with ulimit -Hn");
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

/// Reports progress on stderr, so that stdout has only the tables.
fn log_progress(line: &str) {
    // Errors are ignored: progress is not essential.
    let _ = writeln!(std::io::stderr(), "bench: {line}");
}

/// Returns when standard input ends. The bench holds the other end, so its servers end with it.
async fn parent_ended() {
    let mut byte = [0; 1];
    while matches!(tokio::io::stdin().read(&mut byte).await, Ok(1..)) {}
}
