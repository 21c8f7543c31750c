//! The process in which a server compiles a component, held still for as long as a test wants. Must never outlive its value stopped.

use std::fs;

use crate::server::{Server, signal};
use crate::wait;

/// A compiler that does not get on.
pub struct StoppedCompiler(u32);

impl StoppedCompiler {
    /// Waits until the server compiles something, and stops that.
    pub async fn of(server: &Server) -> Self {
        let pid = wait::until("the compiler to run", wait::DEADLINE, async || child_of(server.pid())).await;
        signal(pid, "STOP");
        Self(pid)
    }

    /// Whether it stands still.
    pub fn is_stopped(&self) -> bool {
        stat(self.0).is_some_and(|(state, _)| state == "T")
    }

    /// Lets it go on.
    pub fn go_on(self) {
        drop(self);
    }
}

impl Drop for StoppedCompiler {
    fn drop(&mut self) {
        if self.is_stopped() {
            signal(self.0, "CONT");
        }
    }
}

/// A process that another has started, and that still runs.
fn child_of(parent: u32) -> Option<u32> {
    let pids = fs::read_dir("/proc").expect("Linux has it").filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut running = pids.filter(|pid| stat(*pid).is_some_and(|(state, of)| of == parent && state != "Z"));
    running.next()
}

/// A process's state and parent.
fn stat(pid: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Its name comes before, and may hold anything.
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}
