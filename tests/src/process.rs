//! A helper process that exchanges JSON texts, one on each line. Must never outlive its value.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// A running helper.
pub struct JsonLines {
    name: String,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    /// Dropping it ends the process.
    _child: Child,
}

impl JsonLines {
    /// Starts `program` with `script`. `install.sh` installs the packages that scripts need.
    pub fn start(program: &Path, script: &Path) -> Self {
        let mut command = Command::new(program);
        command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not run ({error}); tests/clients/install.sh installs it", program.display()));
        let input = child.stdin.take().expect("its input is a pipe");
        let output = BufReader::new(child.stdout.take().expect("its output is a pipe")).lines();
        Self { name: script.display().to_string(), input, output, _child: child }
    }

    pub async fn send(&mut self, what: &Value) {
        self.send_text(&what.to_string()).await;
    }

    /// Sends JSON that no `Value` can hold.
    pub async fn send_text(&mut self, json: &str) {
        self.input.write_all(format!("{json}\n").as_bytes()).await.unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// The next line. None after `wait`. Panics if the helper has ended.
    pub async fn receive(&mut self, wait: Duration) -> Option<Value> {
        let line = timeout(wait, self.output.next_line()).await.ok()?;
        let line = line.ok().flatten().unwrap_or_else(|| panic!("{} ended", self.name));
        Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{} sent {line:?}: {error}", self.name)))
    }
}
