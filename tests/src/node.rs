//! Programs that Node runs to their end. Must never outlive the call.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

/// How long a program may take. Generous, because a compiler is among them and shares two cores with servers.
const TIME: Duration = Duration::from_secs(120);

/// The folder of the stock clients, in which `install.sh` installs their packages.
pub fn clients() -> PathBuf {
    crate::package_dir().join("clients")
}

/// Runs a script in a folder with this standard input.
pub async fn run(folder: &Path, script: &Path, args: &[&str], input: &str) -> Output {
    let mut command = Command::new("node");
    command.arg(script).args(args).current_dir(folder).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("node runs; tests/clients/install.sh says what is needed");
    let mut stdin = child.stdin.take().expect("its input is a pipe");
    let run = async {
        // A program that does not read its input closes it; its output then shows the reason.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        child.wait_with_output().await.expect("its output can be read")
    };
    timeout(TIME, run).await.unwrap_or_else(|_| panic!("{} took over {TIME:?}", script.display()))
}
