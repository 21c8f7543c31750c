//! `hubbub record`: writes a recording of a plugin's calls to a file. Redaction happens in the server.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;

use super::plugin::Operator;
use super::start::runtime;
use super::{eprint_line, print};
use crate::names::PluginName;
use crate::private;

#[derive(Args)]
pub(super) struct Record {
    /// The plugin.
    #[arg(long, value_name = "NAME")]
    plugin: String,
    /// Duration of the recording, such as 60s.
    #[arg(long = "for", value_name = "TIME", default_value = "60s")]
    time: String,
    /// Share of the calls to record, such as 10%.
    #[arg(long, value_name = "PERCENT", default_value = "100%")]
    sample: String,
    /// Records texts without redaction; secrets stay hidden.
    #[arg(long)]
    clear: bool,
    /// The file to write [default: NAME.calls.jsonl].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    operator: Operator,
}

impl Record {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let name = PluginName::parse(&self.plugin)?;
        let out = self.out.clone().unwrap_or_else(|| format!("{name}.calls.jsonl").into());
        let share = self.sample.trim_end_matches('%');
        let path = format!("/admin/plugins/{name}/record?for={}&sample={share}&clear={}", self.time, self.clear);
        let last = runtime()?.block_on(self.write(&path, &out))?;
        let end = serde_json::from_slice::<Value>(&last).unwrap_or_default()["end"].take();
        if end.is_null() {
            bail!("the recording was cut short: the calls in {} are usable", out.display());
        }
        eprint_line(&format!("{} calls, ended by {}; {} dropped", end["calls"], end["because"], end["dropped"]));
        Ok(print(&out.display().to_string())?)
    }

    /// Writes the response's body to the file, and returns its last line.
    async fn write(&self, path: &str, out: &PathBuf) -> anyhow::Result<Vec<u8>> {
        let mut response = self.operator.request(&reqwest::Client::new(), reqwest::Method::POST, path, Vec::new(), None).await?;
        let named = || out.display().to_string();
        let file = private::options().create(true).truncate(true).write(true).open(out).with_context(named)?;
        // An existing file keeps its permissions when it is opened.
        private::mend(out);
        let mut file = std::io::BufWriter::new(file);
        let mut last = Vec::new();
        // If the connection breaks, the calls so far are kept.
        while let Ok(Some(chunk)) = response.chunk().await {
            file.write_all(&chunk).with_context(named)?;
            last.extend_from_slice(&chunk);
            let end = last.strip_suffix(b"\n").unwrap_or(&last).iter().rposition(|byte| *byte == b'\n');
            last.drain(..end.map_or(0, |at| at + 1));
        }
        file.flush().with_context(named)?;
        Ok(last)
    }
}
