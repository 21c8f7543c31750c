//! The commands of plugin authors, and the operator's commands over the admin API.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::{Args, Subcommand};

use super::start::runtime;
use super::{eprint_line, print};
use crate::app;
use crate::config::Config;
use crate::deploy::checks::signature;
use crate::deploy::releases;
use crate::names::PluginName;
use crate::toolchain::{self, Options, Toolchain};

#[derive(Subcommand)]
pub(super) enum Plugin {
    /// Creates a new plugin that builds, passes its tests and runs. Outside a checkout of Hubbub it needs `--sdk`.
    New {
        name: String,
        /// The folder to create it in.
        #[arg(long = "in", value_name = "DIR", default_value = "plugins")]
        parent: PathBuf,
        /// The SDK's folder, `sdk` of a checkout of Hubbub. Inside a checkout it is found automatically.
        #[arg(long, value_name = "DIR")]
        sdk: Option<PathBuf>,
    },
    /// Builds a plugin into a component, and prints its path.
    Build {
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// The file to write the component to.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Runs a plugin's tests natively; then builds its component and calls `describe`, as a server does.
    Test {
        #[arg(default_value = ".")]
        dir: PathBuf,
    },
    /// Prints a component's metadata and imports.
    Inspect { file: PathBuf },
    /// Signs a component: writes FILE.sig, and prints the public key for `signature.keys`.
    Sign {
        file: PathBuf,
        /// An Ed25519 private key in PEM, such as `openssl genpkey -algorithm ed25519` creates.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Prints the changes between two components, and whether the new one may replace the old one.
    Diff { old: PathBuf, new: PathBuf },
}

impl Plugin {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        match self {
            Self::New { name, parent, sdk } => {
                let made = toolchain::new(name, parent, sdk.as_deref())?;
                print(&made.display().to_string())?;
            }
            Self::Build { dir, out } => {
                let built = toolchain::build(dir, &options(out.as_deref()))?;
                print(&built.component.display().to_string())?;
            }
            Self::Test { dir } => {
                if !toolchain::test(dir)? {
                    bail!("some tests failed");
                }
                // Native tests may use features that a component lacks.
                let built = toolchain::build(dir, &options(None))?;
                eprint_line(&format!("the component is good: {}", described(&built.component)?));
            }
            Self::Inspect { file } => print(&toolchain::inspect(file)?.to_string())?,
            Self::Sign { file, key } => sign(file, key)?,
            Self::Diff { old, new } => super::diff::run(old, new)?,
        }
        Ok(())
    }
}

fn options(out: Option<&Path>) -> Options<'_> {
    let show = std::io::IsTerminal::is_terminal(&std::io::stderr());
    Options { out, toolchain: Toolchain::from_env(), show, notify: &|line| eprint_line(line) }
}

/// The name and version that a component describes.
fn described(component: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(component).with_context(|| component.display().to_string())?;
    let manifest =
        runtime()?.block_on(async { anyhow::Ok(app::offline_stage(&Config::default())?.describe(None, bytes).await?) });
    let manifest = manifest.with_context(|| component.display().to_string())?;
    Ok(format!("{}@{}", manifest.name, manifest.version))
}

fn sign(file: &Path, key: &Path) -> anyhow::Result<()> {
    let read = |path: &Path| std::fs::read(path).with_context(|| path.display().to_string());
    let pem = String::from_utf8(read(key)?).with_context(|| format!("{} is no PEM", key.display()))?;
    let (signature, public) = signature::sign(&pem, &read(file)?)?;
    let beside = releases::signature_path(file);
    std::fs::write(&beside, format!("{signature}\n")).with_context(|| beside.display().to_string())?;
    print(&public)?;
    Ok(())
}

/// Address and token of a running server.
#[derive(Args)]
pub(super) struct Operator {
    /// The server's admin port.
    #[arg(long, default_value = ADMIN_URL, env = "HUBBUB_ADMIN_URL", value_parser = url_or_default)]
    url: String,
    /// The operator's token.
    #[arg(long, default_value = DEV_TOKEN, env = "HUBBUB_ADMIN_TOKEN", hide_env_values = true, value_parser = token_or_default)]
    token: String,
}

const ADMIN_URL: &str = "http://127.0.0.1:4101";
const DEV_TOKEN: &str = "dev-admin-token";

/// An empty variable counts as not set.
fn url_or_default(text: &str) -> Result<String, std::convert::Infallible> {
    Ok(if text.trim().is_empty() { ADMIN_URL } else { text }.to_owned())
}

/// An empty variable counts as not set.
fn token_or_default(text: &str) -> Result<String, std::convert::Infallible> {
    Ok(if text.trim().is_empty() { DEV_TOKEN } else { text }.to_owned())
}

#[derive(Args)]
pub(super) struct Named {
    name: String,
    #[command(flatten)]
    operator: Operator,
}

#[derive(Args)]
pub(super) struct Rollback {
    /// The plugin, or several plugins that are rolled back as one set.
    #[arg(required = true)]
    names: Vec<String>,
    #[command(flatten)]
    operator: Operator,
}

#[derive(Args)]
pub(super) struct Deploy {
    /// The plugin's name and its component; FILE.sig beside it is its signature. Several pairs are deployed as one set.
    #[arg(required = true, num_args = 2.., value_names = ["NAME", "FILE"])]
    plugins: Vec<String>,
    /// Deploys to a share of the users only, such as 10%, until `promote` or `rollback`.
    #[arg(long, value_name = "PERCENT")]
    canary: Option<String>,
    /// Runs the release without effect on a share of the finished calls, such as 10%; `plugins` reports the differences.
    #[arg(long, value_name = "PERCENT", conflicts_with = "canary")]
    shadow: Option<String>,
    #[command(flatten)]
    operator: Operator,
}

impl Operator {
    pub(super) fn list(&self) -> anyhow::Result<()> {
        self.send(reqwest::Method::GET, "/admin/plugins", Vec::new(), None)
    }

    pub(super) fn drain(&self) -> anyhow::Result<()> {
        self.send(reqwest::Method::POST, "/admin/drain", Vec::new(), None)
    }

    /// Sends a request, and prints the answer.
    fn send(&self, method: reqwest::Method, path: &str, body: Vec<u8>, signature: Option<String>) -> anyhow::Result<()> {
        let answer = runtime()?.block_on(self.request_json(&reqwest::Client::new(), method, path, body, signature))?;
        print(&serde_json::to_string_pretty(&answer)?)?;
        Ok(())
    }

    /// Sends a request and returns the answer's JSON, or the problem in the server's words.
    pub(super) async fn request_json(
        &self,
        client: &reqwest::Client,
        method: reqwest::Method,
        path: &str,
        body: Vec<u8>,
        signed: Option<String>,
    ) -> anyhow::Result<serde_json::Value> {
        let response = self.request(client, method, path, body, signed).await?;
        Ok(serde_json::from_str(&response.text().await?)?)
    }

    /// Sends a request and returns the response before its body is read, or the problem in the server's words.
    pub(super) async fn request(
        &self,
        client: &reqwest::Client,
        method: reqwest::Method,
        path: &str,
        body: Vec<u8>,
        signed: Option<String>,
    ) -> anyhow::Result<reqwest::Response> {
        let url = format!("{}{path}", self.url.trim_end_matches('/'));
        let mut request = client.request(method, &url).bearer_auth(&self.token).body(body);
        if let Some(signed) = signed {
            request = request.header(signature::HEADER, signed.trim());
        }
        let response = request.send().await.map_err(|error| error.without_url());
        let response = response.with_context(|| format!("{url} does not answer; is a server there? (--url)"))?;
        if !response.status().is_success() {
            let problem: serde_json::Value = serde_json::from_str(&response.text().await?).unwrap_or_default();
            let part = |key: &str| problem.get(key).and_then(|value| value.as_str()).unwrap_or("?").to_owned();
            bail!("{}: {}", part("title"), part("detail"));
        }
        Ok(response)
    }
}

impl Named {
    pub(super) fn set(&self, action: &str) -> anyhow::Result<()> {
        let name = PluginName::parse(&self.name)?;
        self.operator.send(reqwest::Method::POST, &format!("/admin/plugins/{name}/{action}"), Vec::new(), None)
    }
}

impl Rollback {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let names = self.names.iter().map(|name| PluginName::parse(name)).collect::<Result<Vec<_>, _>>()?;
        if let [name] = names.as_slice() {
            return self.operator.send(reqwest::Method::POST, &format!("/admin/plugins/{name}/rollback"), Vec::new(), None);
        }
        let body = serde_json::to_vec(&serde_json::json!({ "plugins": names }))?;
        self.operator.send(reqwest::Method::POST, "/admin/rollback", body, None)
    }
}

impl Deploy {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let pairs: Vec<_> = self.plugins.chunks(2).collect();
        let mut parts = Vec::new();
        for pair in &pairs {
            let [name, file] = pair else { bail!("{} has no component: write NAME FILE for each plugin", pair.concat()) };
            let file = Path::new(file);
            let component = std::fs::read(file).with_context(|| file.display().to_string())?;
            parts.push((PluginName::parse(name)?, component, releases::signature_beside(file)));
        }
        let trial =
            self.canary.as_deref().map(|share| ("canary", share)).or(self.shadow.as_deref().map(|share| ("shadow", share)));
        if parts.len() == 1 {
            let share = trial.map(|(how, share)| format!("?{how}={}", share.trim_end_matches('%'))).unwrap_or_default();
            let Some((name, component, signature)) = parts.pop() else { return Ok(()) };
            let path = format!("/admin/plugins/{name}/deploy{share}");
            return self.operator.send(reqwest::Method::POST, &path, component, signature);
        }
        if let Some((how, _)) = trial {
            bail!("--{how} is for one plugin: a set is deployed to everyone");
        }
        let part = |(name, component, signature): (PluginName, Vec<u8>, Option<String>)| {
            let signature = signature.map(|signature| signature.trim().to_owned());
            serde_json::json!({ "name": name, "component": BASE64.encode(component), "signature": signature })
        };
        let plugins: Vec<_> = parts.into_iter().map(part).collect();
        let body = serde_json::to_vec(&serde_json::json!({ "plugins": plugins }))?;
        self.operator.send(reqwest::Method::POST, "/admin/deploy", body, None)
    }
}
