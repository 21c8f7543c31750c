//! `hubbub token`: prints a signed token for tests.

use clap::Args;

use super::print;
use crate::auth::config::DEV_SECRET;
use crate::auth::sign::{self, Claims};
use crate::clock::Clock;
use crate::duration;

#[derive(Args)]
pub(super) struct Token {
    /// The user's id.
    #[arg(long)]
    sub: String,
    /// The claim `name`.
    #[arg(long)]
    name: Option<String>,
    /// The claim `role`.
    #[arg(long)]
    role: Option<String>,
    /// The claim `tenant`.
    #[arg(long)]
    tenant: Option<String>,
    /// Any other claim. The value is parsed as JSON if possible, else it is text.
    #[arg(long = "claim", value_name = "K=V")]
    claims: Vec<String>,
    /// Lifetime of the token: 90s, 15m, 1h, 7d.
    #[arg(long, default_value = "1h", value_parser = duration::parse)]
    ttl: std::time::Duration,
    /// The HS256 secret [default: dev-secret, which only `hubbub dev` accepts].
    #[arg(long, env = "JWT_SECRET", hide_env_values = true)]
    secret: Option<String>,
}

impl Token {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let mut claims = Claims::of(&self.sub);
        for (name, value) in [("name", &self.name), ("role", &self.role), ("tenant", &self.tenant)] {
            if let Some(value) = value {
                claims = claims.text(name, value)?;
            }
        }
        for pair in &self.claims {
            claims = claims.pair(pair)?;
        }
        let secret = self.secret.as_deref().filter(|secret| !secret.is_empty()).unwrap_or(DEV_SECRET);
        print(&sign::sign(secret.as_bytes(), claims, self.ttl, Clock::system().now_ms())?)?;
        Ok(())
    }
}
