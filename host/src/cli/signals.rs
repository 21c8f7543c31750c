//! Signals of a server. Signals that stop the server drain it first; no signal of an operator or a terminal ends it without a drain.

use std::io::IsTerminal as _;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// LXC stops a container by it.
#[cfg(target_os = "linux")]
const POWER: libc::c_int = libc::SIGPWR;
#[cfg(not(target_os = "linux"))]
const POWER: libc::c_int = libc::SIGTERM;

/// The effect of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Drain, and end.
    Stop,
    /// Reload keys and log filter.
    Reload,
}

/// Handles signals from its creation on. The first process of a container gets only signals that it has a handler for.
pub(super) struct Signals {
    stop: [Signal; 4],
    hangup: Signal,
    /// Other programs reopen their logs or print their state at these.
    ignored: [Signal; 3],
    /// The server ends with its terminal.
    terminal: bool,
}

impl Signals {
    /// For a server that keeps running when its terminal is closed.
    pub(super) fn of_a_service() -> std::io::Result<Self> {
        Self::new(false)
    }

    /// For a server that stops when its terminal is closed.
    pub(super) fn of_a_terminal() -> std::io::Result<Self> {
        Self::new(std::io::stdin().is_terminal())
    }

    fn new(terminal: bool) -> std::io::Result<Self> {
        let raw = |number| signal(SignalKind::from_raw(number));
        Ok(Self {
            stop: [raw(libc::SIGTERM)?, raw(libc::SIGINT)?, raw(libc::SIGQUIT)?, raw(POWER)?],
            hangup: signal(SignalKind::hangup())?,
            // SIGXFSZ: a write past the limit of a file's size; the write fails as well. Rust ignores SIGPIPE before `main`.
            ignored: [raw(libc::SIGUSR1)?, raw(libc::SIGUSR2)?, raw(libc::SIGXFSZ)?],
            terminal,
        })
    }

    /// Resolves at a signal that stops the server; reloads at SIGHUP until then.
    pub(super) async fn stopped(&mut self, mut reload: impl AsyncFnMut()) {
        while self.next().await == Wish::Reload {
            reload().await;
        }
    }

    async fn next(&mut self) -> Wish {
        let [terminate, interrupt, quit, power] = &mut self.stop;
        let [user1, user2, size] = &mut self.ignored;
        loop {
            let ignored = tokio::select! {
                _ = terminate.recv() => return Wish::Stop,
                _ = interrupt.recv() => return Wish::Stop,
                _ = quit.recv() => return Wish::Stop,
                _ = power.recv() => return Wish::Stop,
                _ = self.hangup.recv() => return wish_of_hangup(self.terminal, std::io::stdin().is_terminal()),
                _ = user1.recv() => "SIGUSR1",
                _ = user2.recv() => "SIGUSR2",
                _ = size.recv() => "SIGXFSZ",
            };
            tracing::info!("{ignored} is ignored");
        }
    }
}

/// A hangup comes from an operator, or from a terminal that was closed, which is then no terminal any more.
fn wish_of_hangup(had_terminal: bool, has_terminal: bool) -> Wish {
    if had_terminal && !has_terminal { Wish::Stop } else { Wish::Reload }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hangup_stops_a_server_whose_terminal_is_closed_and_reloads_any_other() {
        assert_eq!(wish_of_hangup(true, false), Wish::Stop);
        assert_eq!([wish_of_hangup(true, true), wish_of_hangup(false, false)], [Wish::Reload; 2]);
    }
}
