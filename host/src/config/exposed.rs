//! Random secrets of `hubbub dev --expose`, for one run. They replace the public ones, are printed once on the terminal and must never
//! be logged.

use std::fmt;

use super::{Config, Host};
use crate::auth::config::Secret;

/// Random bytes of a secret.
const BYTES: usize = 32;

/// The secrets of a run. They are generated at the start, so that a reload of the configuration uses the same.
pub struct Secrets {
    token: Secret,
    api_key: Secret,
    admin_token: Secret,
}

/// The generated secrets that are in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Made {
    token: bool,
    api_key: bool,
    admin_token: bool,
}

impl Secrets {
    /// # Errors
    /// If the operating system has no randomness.
    pub fn new() -> Result<Self, getrandom::Error> {
        Ok(Self { token: random()?, api_key: random()?, admin_token: random()? })
    }

    /// Fills in secrets that are not configured, and allows the names of this machine as hosts.
    pub fn fill_in(&self, config: &mut Config) -> Made {
        let made = Made {
            token: config.auth.keys.is_empty(),
            api_key: config.api.keys.is_empty(),
            admin_token: config.admin.token.is_none(),
        };
        if made.token {
            config.auth.add_secret("exposed", self.token.expose());
        }
        if made.api_key {
            config.api.keys.push(self.api_key.clone());
        }
        config.admin.token.get_or_insert_with(|| self.admin_token.clone());
        let names = names(config);
        config.gateway.hosts.get_or_insert_default().extend(names.iter().cloned());
        config.admin.hosts.extend(names);
        made
    }

    /// The secrets in use, a line each, for the terminal.
    pub fn lines(&self, made: Made) -> Vec<String> {
        let all = [
            (made.token, "secret of tokens (JWT_SECRET)", &self.token),
            (made.api_key, "API key", &self.api_key),
            (made.admin_token, "admin token (HUBBUB_ADMIN_TOKEN)", &self.admin_token),
        ];
        let made = all.into_iter().filter(|(is_made, ..)| *is_made);
        made.map(|(_, name, secret)| format!("{name}: {}", secret.expose())).collect()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

fn random() -> Result<Secret, getrandom::Error> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into())
}

/// The names under which other machines reach this one, without invalid host names.
fn names(config: &Config) -> Vec<String> {
    let own = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).filter(|name| !name.is_empty());
    let mut names = Vec::new();
    if let Some(own) = own {
        names.extend([format!("{own}.local"), own]);
    }
    for listen in [&config.server.listen, &config.server.admin] {
        if let Host::Name(name) = &listen.host {
            names.push(name.clone());
        }
    }
    names.retain(|name| crate::server::hosts::Hosts::load("", std::slice::from_ref(name)).is_ok());
    names
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_missing_secrets_are_generated_and_a_reload_keeps_them() {
        let secrets = Secrets::new().unwrap();
        let (mut config, mut again) = (Config::default(), Config::default());
        config.admin.token = Some("a token of the configuration".to_owned().into());
        let made = secrets.fill_in(&mut config);
        let lines = secrets.lines(made);
        assert_eq!((lines.len(), config.api.keys[0].expose().len()), (2, 2 * BYTES), "{made:?}");
        assert!(lines[1].ends_with(config.api.keys[0].expose()) && lines[0].starts_with("secret of tokens"));
        secrets.fill_in(&mut again);
        assert_eq!(again.api.keys[0].expose(), config.api.keys[0].expose());
        assert_ne!(again.auth.keys[0].secret.as_ref().unwrap().expose(), again.admin.token.unwrap().expose());
        assert!(!format!("{secrets:?}").contains(config.api.keys[0].expose()));
    }
}
