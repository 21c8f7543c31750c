//! `hubbub replay`: runs recorded calls on another build and reports the differences. It must open no port and no storage.

mod report;

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;

use self::report::{Against, Report, Run};
use super::{eprint_line, print, start};
use crate::app;
use crate::call::recorded_call::RecordedCall;
use crate::call::release::Release;
use crate::config::Config;
use crate::deploy::stage::Stage;
use crate::names::PluginName;
use crate::replay::compare::compare;
use crate::replay::recording::{FORMAT, Header};
use crate::replay::replayer::{Replayed, Replayer};

/// The exit code if the replay failed, so that differences are unknown.
const FAILED: u8 = 2;

#[derive(Args)]
pub(super) struct Replay {
    /// A file that `record` has written.
    file: PathBuf,
    /// The build to try.
    #[arg(long, value_name = "NEW.wasm")]
    with: PathBuf,
    /// The recorded build. It is run beside the new one, so that both have the same redacted texts and the same machine.
    #[arg(long, value_name = "OLD.wasm")]
    against: Option<PathBuf>,
    /// Runs of each call; the least CPU counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// A CPU ratio above this is a difference.
    #[arg(long, value_name = "RATIO")]
    max_cpu: Option<f64>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

impl Replay {
    pub(super) fn run(&self) -> ExitCode {
        match self.report() {
            Ok(report) => {
                match print(&if self.json { report.json() } else { report.text() }) {
                    Err(error) if !error.is_broken_pipe() => {
                        eprint_line(&format!("hubbub: {error}"));
                        return FAILED.into();
                    }
                    _ => {}
                }
                if report.is_same() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            }
            Err(error) => {
                eprint_line(&format!("hubbub: {error:#}"));
                FAILED.into()
            }
        }
    }

    fn report(&self) -> anyhow::Result<Report> {
        let (header, calls) = read(&self.file)?;
        start::runtime()?.block_on(async {
            let stage = app::offline_stage(&Config::default())?;
            let new = staged(&stage, &header, &self.with).await?;
            let old = match &self.against {
                Some(file) => Some(staged(&stage, &header, file).await?),
                None => None,
            };
            let mut report = Report::new(&header, &new, old.as_deref().map_or(Against::Record, |_| Against::Build), self.max_cpu);
            let replayer =
                |release: Arc<Release>| anyhow::Ok(Replayer::new(release, stage.services.isolated()?).of_hidden(!header.clear));
            let (mut new, mut old) = (replayer(new)?, old.map(replayer).transpose()?);
            for call in calls {
                // Alternating, so that both run under the same conditions.
                let (mut old_run, mut new_run) = (None, None);
                for _ in 0..self.rounds {
                    if let Some(old) = &mut old {
                        old_run = faster(old_run, old.play(&call).await?);
                    }
                    new_run = faster(new_run, new.play(&call).await?);
                }
                let Some(new_run) = new_run else { continue };
                let old_ns = old_run.as_ref().map_or(call.cpu_ns, |old_run| old_run.cpu.as_nanos() as u64);
                let (differences, new_ns) = (compare(&call, old_run.as_ref(), &new_run), new_run.cpu.as_nanos() as u64);
                report.add(Run { name: call.job.name(), at: call.at, old_ns, new_ns, outcome: new_run.outcome, differences });
            }
            Ok(report)
        })
    }
}

fn faster(before: Option<Replayed>, now: Replayed) -> Option<Replayed> {
    Some(before.filter(|before| before.cpu <= now.cpu).unwrap_or(now))
}

/// A build, staged with the recorded configuration.
async fn staged(stage: &Stage, header: &Header, file: &Path) -> anyhow::Result<Arc<Release>> {
    let component = std::fs::read(file).with_context(|| file.display().to_string())?;
    let name = PluginName::parse(&header.plugin)?;
    stage.stage(&name, component, header.config.clone()).await.with_context(|| file.display().to_string())
}

fn read(path: &Path) -> anyhow::Result<(Header, Vec<RecordedCall>)> {
    let named = || path.display().to_string();
    let file = std::io::BufReader::new(std::fs::File::open(path).with_context(named)?);
    let mut lines = file.lines();
    let first = lines.next().context("an empty file").with_context(named)?.with_context(named)?;
    let header: Header = serde_json::from_str(&first).context("no recording: its first line is no header").with_context(named)?;
    if header.hubbub_record != FORMAT {
        bail!("{}: a recording of format {}; this version reads {FORMAT}", named(), header.hubbub_record);
    }
    let mut calls = Vec::new();
    let mut is_complete = false;
    for (at, line) in lines.enumerate() {
        let line = line.with_context(named)?;
        match serde_json::from_str::<RecordedCall>(&line) {
            Ok(call) => calls.push(call),
            Err(_) if line.starts_with(r#"{"end""#) => is_complete = true,
            Err(error) => eprint_line(&format!("hubbub: line {} of {} is no call: {error}", at + 2, named())),
        }
    }
    if !is_complete {
        eprint_line(&format!("hubbub: {} was cut short", named()));
    }
    if calls.is_empty() {
        bail!("{}: it holds no call", named());
    }
    Ok((header, calls))
}
