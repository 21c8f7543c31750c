//! `hubbub top`: the metrics of a running server in the terminal, redrawn every second. It must never change the server.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::plugin::Operator;
use super::print_raw;
use super::start::runtime;
use crate::shown;

/// The time between two frames.
const EVERY: Duration = Duration::from_secs(1);

/// The cursor moves to the top and the rest is cleared after the frame, because clearing first flickers.
const HOME: &str = "\x1b[H";
const CLEAR_REST_OF_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";
const CLEAR_ALL: &str = "\x1b[2J";

#[derive(Args)]
pub(super) struct Top {
    /// Prints one frame and exits, for scripts.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    operator: Operator,
}

impl Top {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        runtime()?.block_on(async {
            let client = reqwest::Client::builder().timeout(EVERY * 5).build()?;
            let first = self.frame(&client).await?;
            if self.once {
                return Ok(print_raw(&first)?);
            }
            tokio::select! {
                shown = self.keep_showing(&client, first) => shown,
                ended = tokio::signal::ctrl_c() => Ok(ended?),
            }
        })
    }

    async fn keep_showing(&self, client: &reqwest::Client, mut frame: String) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        print_raw(CLEAR_ALL)?;
        loop {
            ticks.tick().await;
            print_raw(&format!("{HOME}{}{CLEAR_BELOW}", frame.replace('\n', &format!("{CLEAR_REST_OF_LINE}\n"))))?;
            // The server may be restarting, so an error does not end the command.
            frame = self.frame(client).await.unwrap_or_else(|error| format!("hubbub: {}\n", shown::line(&format!("{error:#}"))));
        }
    }

    async fn frame(&self, client: &reqwest::Client) -> anyhow::Result<String> {
        Ok(render(&self.operator.request_json(client, reqwest::Method::GET, "/admin/figures", Vec::new(), None).await?))
    }
}

/// One frame of text. Names and versions are untrusted, so they are escaped.
fn render(status: &Value) -> String {
    let mut out = String::new();
    let number = |key: &str| count(&status[key]);
    let memory = status["memoryBytes"].as_f64().map_or("?".to_owned(), bytes);
    let _ = writeln!(out, "hubbub  {}  memory {memory}", text(&status["at"]));
    let _ = writeln!(
        out,
        "connections {}  sockets {}  rooms {}  events/s {}  deliveries/s {}\n",
        number("connections"),
        number("sockets"),
        number("rooms"),
        number("eventsPerSecond"),
        number("deliveriesPerSecond"),
    );
    let _ = writeln!(
        out,
        "{:<20} {:<12} {:<14} {:>9} {:>10} {:>8} {:>9} {:>9} {:>9} {:>5} {:>8}",
        "PLUGIN", "VERSION", "STATE", "EVENTS/S", "EVENTS", "ERRORS", "P50 MS", "P99 MS", "CALL µs", "BUSY", "MEMORY"
    );
    for plugin in status["plugins"].as_array().into_iter().flatten() {
        row(&mut out, &text(&plugin["name"]), &text(&plugin["state"]), plugin);
        for one in plugin["quarantined"].as_array().into_iter().flatten() {
            let _ = writeln!(out, "  quarantined: {}: {}", text(&one["source"]), text(&one["cause"]));
        }
        if let Some(percent) = plugin["canary"]["percent"].as_u64() {
            row(&mut out, "", &format!("canary {percent} %"), &plugin["canary"]);
        }
    }
    out
}

fn row(out: &mut String, name: &str, state: &str, release: &Value) {
    let decimal = |key: &str| release[key].as_f64().map_or(String::from("-"), |value| format!("{value:.2}"));
    let memory = release["memoryBytes"].as_f64().map_or("-".to_owned(), bytes);
    let _ = writeln!(
        out,
        "{name:<20.20} {:<12.12} {state:<14} {:>9} {:>10} {:>8} {:>9} {:>9} {:>9} {:>5} {memory:>8}",
        text(&release["version"]),
        count(&release["eventsPerSecond"]),
        count(&release["events"]),
        count(&release["errors"]),
        decimal("p50Ms"),
        decimal("p99Ms"),
        decimal("meanMicros"),
        count(&release["busy"]),
    );
}

fn text(value: &Value) -> String {
    shown::line(value.as_str().unwrap_or("-")).into_owned()
}

fn count(value: &Value) -> String {
    value.as_u64().map_or("-".to_owned(), |count| count.to_string())
}

fn bytes(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_frame_has_a_row_for_each_plugin_and_canary() {
        let frame = render(&json!({
            "at": "now", "connections": 7, "memoryBytes": 1_048_576,
            "plugins": [
                {"name": "chat", "state": "active", "version": "1.0\u{1b}[2J", "canary": {"percent": 10, "version": "1.1"}},
                {"name": "polls", "state": "disabled", "canary": null},
                {"name": "quiz", "state": "active", "quarantined": [{"source": "messages", "cause": "on-message a.b: it trapped\n"}]},
            ],
        }));
        assert!(frame.contains("connections 7 ") && frame.contains("memory 1.0 MiB"), "{frame}");
        assert!(frame.contains("canary 10 %") && frame.contains("disabled") && !frame.contains('\u{1b}'), "{frame}");
        assert!(frame.contains("  quarantined: messages: on-message a.b: it trapped\\n\n"), "{frame}");
        assert_eq!(frame.lines().count(), 9, "{frame}");
    }
}
