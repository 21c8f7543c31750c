//! `hubbub dead`: lists, retries and drops dead letters of a running server over the admin API. It must never open storage itself.

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::plugin::Operator;
use super::print;
use super::start::runtime;
use crate::shown;

#[derive(Subcommand)]
pub(super) enum Dead {
    /// Lists dead letters, oldest first: id, plugin or system, topic, key, tenant, message, when, why.
    List {
        #[command(flatten)]
        which: Filter,
        /// The most letters to list.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// Lists letters after this id.
        #[arg(long, value_name = "ID", default_value_t = 0)]
        after: u64,
        /// Includes the data, if `admin.tap_payloads` allows it.
        #[arg(long)]
        payload: bool,
        #[command(flatten)]
        operator: Operator,
    },
    /// Queues letters for their plugins again, behind all waiting messages.
    Retry {
        #[command(flatten)]
        chosen: Selection,
    },
    /// Deletes letters.
    Drop {
        #[command(flatten)]
        chosen: Selection,
    },
}

#[derive(Args)]
pub(super) struct Filter {
    /// Letters of this plugin, or of `ingest-kafka`, `ingest-streams`, `ingest-pubsub`, `egress-kafka`, `egress-redis`.
    #[arg(long, value_name = "NAME")]
    plugin: Option<String>,
    /// Letters of this topic.
    #[arg(long)]
    topic: Option<String>,
}

#[derive(Args)]
pub(super) struct Selection {
    /// Ids that `list` shows.
    ids: Vec<u64>,
    #[command(flatten)]
    which: Filter,
    #[command(flatten)]
    operator: Operator,
}

impl Dead {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        match self {
            Self::List { which, limit, after, payload, operator } => {
                let mut path = format!("/admin/dead?limit={limit}&after={after}&payload={payload}");
                for (key, value) in [("plugin", &which.plugin), ("topic", &which.topic)] {
                    if let Some(value) = value {
                        let value = reqwest::Url::parse_with_params("http://x", [(key, value)])?;
                        path += &format!("&{}", value.query().unwrap_or_default());
                    }
                }
                let page = request_json(operator, reqwest::Method::GET, &path, Vec::new())?;
                for letter in page["letters"].as_array().into_iter().flatten() {
                    print(&line(letter))?;
                }
                if let Some(next) = page["next"].as_u64() {
                    super::eprint_line(&format!("there are more: --after {next}"));
                }
                Ok(())
            }
            Self::Retry { chosen } => chosen.settle("retry"),
            Self::Drop { chosen } => chosen.settle("drop"),
        }
    }
}

impl Selection {
    fn settle(&self, action: &str) -> anyhow::Result<()> {
        if self.ids.is_empty() && self.which.plugin.is_none() && self.which.topic.is_none() {
            bail!("no letters selected: name ids, or --plugin, or --topic");
        }
        let body = json!({ "ids": self.ids, "plugin": self.which.plugin, "topic": self.which.topic });
        let answer =
            request_json(&self.operator, reqwest::Method::POST, &format!("/admin/dead/{action}"), body.to_string().into_bytes())?;
        print(&serde_json::to_string_pretty(&answer)?)?;
        Ok(())
    }
}

fn request_json(operator: &Operator, method: reqwest::Method, path: &str, body: Vec<u8>) -> anyhow::Result<Value> {
    runtime()?.block_on(operator.request_json(&reqwest::Client::new(), method, path, body, None))
}

/// A letter in one line. Names and reasons are untrusted, so they are escaped.
fn line(letter: &Value) -> String {
    let text = |key: &str| match &letter[key] {
        Value::String(text) => shown::line(text).into_owned(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let died = letter["diedAt"].as_u64().map_or("-".to_owned(), |ms| {
        humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms)).to_string()
    });
    let mut line = format!(
        "{}  {died}  {}  {}  key {}  tenant {}  message {}  {}",
        text("id"),
        text("plugin"),
        text("topic"),
        text("key"),
        text("tenant"),
        text("message"),
        text("reason"),
    );
    if !letter["data"].is_null() {
        line += &format!("  {}", shown::line(&letter["data"].to_string()));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_in_a_letter_are_escaped() {
        let letter = json!({"id": 7, "plugin": "chat", "topic": "chat.upserted", "reason": "no\u{1b}[2J\nsuch", "diedAt": 0});
        let line = line(&letter);
        assert_eq!(line, "7  1970-01-01T00:00:00Z  chat  chat.upserted  key -  tenant -  message -  no\\u001b[2J\\nsuch");
    }
}
