//! Signals of a server. No signal of an operator or a terminal may stop the server without a drain.

use std::io::IsTerminal as _;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// LXC stops a container with it.
#[cfg(target_os = "linux")]
const POWER: libc::c_int = libc::SIGPWR;
#[cfg(not(target_os = "linux"))]
const POWER: libc::c_int = libc::SIGTERM;

/// The effect of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Drain, and end.
    Stop,
    /// Reload keys and log filter.
    Reload,
}

/// Handlers of all signals. The first process of a container receives only signals that it has a handler for.
pub(super) struct Signals {
    stop: [Signal; 4],
    hangup: Signal,
    /// Operators may send them by habit: other programs reopen their logs or print their state.
    ignored: [Signal; 3],
    /// Whether the server stops when its terminal is closed.
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
        while self.next().await == Effect::Reload {
            reload().await;
        }
    }

    async fn next(&mut self) -> Effect {
        let [terminate, interrupt, quit, power] = &mut self.stop;
        let [user1, user2, size] = &mut self.ignored;
        loop {
            let ignored = tokio::select! {
                _ = terminate.recv() => return Effect::Stop,
                _ = interrupt.recv() => return Effect::Stop,
                _ = quit.recv() => return Effect::Stop,
                _ = power.recv() => return Effect::Stop,
                _ = self.hangup.recv() => return effect_of_hangup(self.terminal, std::io::stdin().is_terminal()),
                _ = user1.recv() => "SIGUSR1",
                _ = user2.recv() => "SIGUSR2",
                _ = size.recv() => "SIGXFSZ",
            };
            tracing::info!("{ignored} is ignored");
        }
    }
}

/// A hangup comes from an operator or from a closed terminal, after which standard input is no terminal.
fn effect_of_hangup(had_terminal: bool, has_terminal: bool) -> Effect {
    if had_terminal && !has_terminal { Effect::Stop } else { Effect::Reload }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hangup_stops_a_server_whose_terminal_is_closed_and_reloads_any_other() {
        assert_eq!(effect_of_hangup(true, false), Effect::Stop);
        assert_eq!([effect_of_hangup(true, true), effect_of_hangup(false, false)], [Effect::Reload; 2]);
    }
}
