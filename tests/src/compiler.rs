//! Stops the process in which a server compiles a component for as long as a test needs. Must never leave it stopped.

use std::fs;

use crate::server::{Server, signal};
use crate::wait;

/// A stopped compiler process.
pub struct StoppedCompiler(u32);

impl StoppedCompiler {
    /// Waits until the server compiles something and stops the compiler.
    pub async fn of(server: &Server) -> Self {
        let pid = wait::until("the compiler to run", wait::DEADLINE, async || child_of(server.pid())).await;
        signal(pid, "STOP");
        Self(pid)
    }

    /// Whether the process is stopped.
    pub fn is_stopped(&self) -> bool {
        stat(self.0).is_some_and(|(state, _)| state == "T")
    }

    /// Resumes the process.
    pub fn resume(self) {
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

/// A running child process.
fn child_of(parent: u32) -> Option<u32> {
    let pids = fs::read_dir("/proc").expect("Linux has it").filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut running = pids.filter(|pid| stat(*pid).is_some_and(|(state, of)| of == parent && state != "Z"));
    running.next()
}

/// A process's state and parent.
fn stat(pid: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets comes first and may contain anything.
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}
