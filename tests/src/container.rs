//! The server as a container runs it: as process 1 of a namespace, as an unprivileged user, on a read-only root, configured by
//! the environment alone. Must never outlive its value.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::server::{self, Scratch, free_address, signal};
use crate::wait;

/// Prepares the container before the server starts. The unprivileged user may not reach the binary's folder, so the binary is
/// mounted elsewhere.
const PREPARE: &str = r#"set -eu
mount -t tmpfs -o mode=0755 tmpfs "$ROOM"
mkdir "$ROOM/plugins" "$ROOM/data"
chmod 0777 "$ROOM/data"
touch "$ROOM/hubbub"
mount --bind "$BINARY" "$ROOM/hubbub"
cp "$PLUGIN" "$ROOM/plugins/"
mount -o remount,bind,ro /
if touch /written 2>/dev/null; then echo "the root is not read-only" >&2; exit 9; fi
cd /
exec $AS "$ROOM/hubbub" serve"#;

/// Switches from root to the unprivileged user.
const AS_NOBODY: &str = "setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs";

/// A running container.
#[derive(Debug)]
pub struct Container {
    child: Child,
    /// The server's process id outside of the container.
    first: u32,
    public: SocketAddr,
    scratch: Scratch,
}

impl Container {
    /// Whether this user may create namespaces. Prints a note if not, which happens inside a container.
    pub fn possible() -> bool {
        let possible =
            unshare().args(["sh", "-c", "mount -t tmpfs tmpfs /mnt"]).output().is_ok_and(|output| output.status.success());
        if !possible {
            eprintln!("NOT TESTED: this user may not create namespaces");
        }
        possible
    }

    /// Starts a container with this plugin and environment, and waits until its process runs.
    pub async fn start(plugin: &Path, env: &BTreeMap<String, String>) -> Self {
        let (scratch, public) = (Scratch::new(), free_address());
        let room = scratch.path().join("room");
        std::fs::create_dir(&room).expect("the scratch folder is ours");
        let output = |name: &str| std::fs::File::create(scratch.path().join(name)).expect("a scratch file");
        let mut command = unshare();
        command.args(["sh", "-c", PREPARE]).env_clear().stdin(Stdio::null());
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("ROOM", &room).env("BINARY", server::binary()).env("PLUGIN", plugin);
        command.env("AS", if is_root() { AS_NOBODY } else { "" }).envs(env);
        command.env("HUBBUB_SERVER__LISTEN", public.to_string()).env("HUBBUB_SERVER__ADMIN", free_address().to_string());
        command.env("HUBBUB_SERVER__DATA", room.join("data")).env("HUBBUB_SERVER__PLUGINS", room.join("plugins"));
        let child = command.stdout(output("stdout")).stderr(output("stderr")).spawn().expect("unshare runs");
        let mut first = None;
        wait::eventually("the first process of the container", async || {
            first = children(child.id()).first().copied();
            first.is_some_and(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "hubbub\n"))
        })
        .await;
        Self { first: first.expect("it was found"), child, public, scratch }
    }

    /// `http://127.0.0.1:PORT` and a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.public)
    }

    /// The server's child processes, including those that have ended and were not reaped.
    pub fn children(&self) -> Vec<u32> {
        children(self.first)
    }

    pub fn stdout(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("stdout")).expect("a scratch file")
    }

    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("stderr")).expect("a scratch file")
    }

    /// Sends SIGTERM to the server, waits until the container has ended, and returns the exit code.
    pub async fn terminate(&mut self) -> Option<i32> {
        signal(self.first, "TERM");
        let mut code = None;
        wait::eventually("the container to end after SIGTERM", async || {
            let status = self.child.try_wait().expect("the child is ours");
            code = status.and_then(|status| status.code());
            status.is_some()
        })
        .await;
        code
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Killing it ends the first process, and with that all others.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the container's output ---\n{}{}", self.stdout(), self.stderr());
        }
    }
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args((!is_root()).then_some("--map-root-user"));
    command.args(["--pid", "--fork", "--kill-child", "--mount", "--mount-proc"]);
    command
}

/// The child processes that each of its threads has started.
fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let files: Vec<PathBuf> = threads.filter_map(|thread| Some(thread.ok()?.path().join("children"))).collect();
    let texts = files.iter().filter_map(|file| std::fs::read_to_string(file).ok());
    texts.flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
