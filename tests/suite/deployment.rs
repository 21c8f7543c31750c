//! The deployment files under `host/deploy`. Tools check the files that cannot run here, and tests try what they assume about the
//! server. Must never need a container engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tests::container::Container;
use tests::server::{START, Scratch, binary, run};
use tests::{Server, checkout_dir, fixture, node, wait};

const SECRET: &str = "a test secret, of just forty characters.";

fn shipped(name: &str) -> PathBuf {
    checkout_dir().join("host/deploy").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(shipped(name)).expect("a shipped file")
}

/// A tool of the virtual environment that `tests/clients/install.sh` creates.
fn tool(name: &str) -> Command {
    Command::new(checkout_dir().join("target/clients/venv/bin").join(name))
}

fn accepts(tool: &mut Command) -> Output {
    let output = tool.output().expect("the tool runs; tests/clients/install.sh installs it");
    let words = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{words}");
    output
}

/// The compose file and the Kubernetes resources, both checked against their specifications.
fn manifests() -> (Value, Vec<Value>) {
    let script = node::clients().join("manifests.py");
    let output = accepts(tool("python").arg(script).arg(shipped("compose.yaml")).arg(shipped("kubernetes.yaml")));
    let mut both: Value = serde_json::from_slice(&output.stdout).expect("a JSON text");
    let Value::Array(kubernetes) = both["kubernetes"].take() else { panic!("no resources") };
    (both["compose"].take(), kubernetes)
}

/// Parses seconds such as `10s`.
fn seconds(text: &str) -> u64 {
    text.strip_suffix('s').and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("not seconds: {text:?}"))
}

/// The default of `shutdown.deadline`.
fn deadline() -> u64 {
    let printed = String::from_utf8(run(&["config", "default"], &[]).stdout).expect("text");
    let (_, shutdown) = printed.split_once("[shutdown]").expect("its section");
    seconds(
        shutdown.lines().find_map(|line| line.strip_prefix("deadline = ")).expect("its key").split('"').nth(1).expect("a text"),
    )
}

/// The environment variables that the image sets.
fn image_environment() -> BTreeMap<String, String> {
    let dockerfile = text("Dockerfile");
    let pairs = dockerfile.lines().filter_map(|line| line.strip_prefix("ENV ")?.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn the_linter_accepts_the_dockerfile() {
    accepts(tool("hadolint").arg("--no-color").arg(shipped("Dockerfile")));
    let ignored = std::fs::read_to_string(shipped("Dockerfile.dockerignore")).expect("beside the Dockerfile");
    assert!(ignored.lines().any(|line| line == "target"));
    for line in text("Dockerfile").lines().filter(|line| line.starts_with("COPY --chmod")) {
        let from = line.split(' ').nth(2).expect("what is copied");
        assert!(checkout_dir().join(from).exists(), "{from}");
    }
}

#[test]
fn the_manifests_are_valid_and_allow_a_graceful_stop() {
    let (compose, kubernetes) = manifests();
    for node in ["node1", "node2", "node3"] {
        // The parsed file has the common part merged in.
        let node = &compose["services"][node];
        assert!(seconds(node["stop_grace_period"].as_str().expect("a time")) > deadline(), "{node}");
        assert!(node["read_only"] == true && node["cap_drop"][0] == "ALL", "{node}");
    }
    let deployment = kubernetes.iter().find(|resource| resource["kind"] == "Deployment").expect("there is one");
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let before = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().expect("a time");
    assert!(pod["terminationGracePeriodSeconds"].as_u64().expect("a time") > before + deadline());
    assert!(container["securityContext"]["readOnlyRootFilesystem"] == true && pod["securityContext"]["runAsNonRoot"] == true);
    let probed = |probe: &str| container[probe]["httpGet"]["path"].as_str().expect("a path").to_owned();
    assert_eq!(["startupProbe", "livenessProbe", "readinessProbe"].map(probed), ["/health", "/health", "/ready"]);
}

#[test]
fn systemd_accepts_the_unit_and_rates_it_as_hardened() {
    let scratch = Scratch::new();
    let unit = scratch.path().join("hubbub.service");
    let here = text("hubbub.service").replace("/usr/local/bin/hubbub", &binary().display().to_string());
    std::fs::write(&unit, &here).expect("a scratch file");
    let verified = accepts(Command::new("systemd-analyze").arg("verify").arg(&unit));
    assert_eq!(String::from_utf8_lossy(&verified.stderr), "", "an unknown setting is only a warning");
    // The exposure level is at most 100; a unit without any hardening has 96.
    let security = ["security", "--offline=true", "--threshold=20", "--no-pager"];
    accepts(Command::new("systemd-analyze").args(security).arg(&unit));
    let stop = here.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).expect("a time to stop");
    assert!(seconds(stop) > deadline());
}

#[tokio::test]
async fn the_images_health_check_reports_whether_the_server_answers() {
    let mut server = Server::dev().only(&["chat"]).start().await;
    let listen = server.address().to_string();
    let healthy = || {
        let mut check = Command::new(shipped("healthy.sh"));
        check.env("HUBBUB_SERVER__LISTEN", &listen).output().expect("bash runs").status.success()
    };
    assert!(healthy());
    server.terminate().await;
    assert!(!healthy());
}

/// A container with only the chat plugin, if this machine can run one.
async fn container() -> Option<Container> {
    if !Container::possible() {
        return None;
    }
    let mut env = image_environment();
    assert_eq!(env.len(), 4, "the image's own settings: {env:?}");
    env.insert("JWT_SECRET".into(), SECRET.into());
    Some(Container::start(Path::new(&fixture::plugins().await["chat"]), &env).await)
}

#[tokio::test]
async fn the_server_runs_as_process_1_logs_json_and_reaps_children() {
    let Some(mut container) = container().await else { return };
    let answers = async || reqwest::get(container.url("/health")).await.ok();
    wait::until("the server to answer, once the chat is compiled", START, answers).await;
    assert_eq!(container.children(), Vec::<u32>::new(), "the compiler's process has ended and was reaped");
    assert_eq!(container.terminate().await, Some(0));
    let log = container.stderr();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    assert!(lines.iter().any(|line| line["message"] == "ready"), "{log}");
    assert_eq!(container.stdout(), "", "stdout is for the output of commands");
}

#[tokio::test]
async fn a_starting_container_ends_on_sigterm() {
    let Some(mut container) = container().await else { return };
    wait::eventually("the compiler to run", async || !container.children().is_empty()).await;
    assert_eq!(container.terminate().await, Some(0));
    assert!(container.stderr().contains("stopping before the start was done"), "{}", container.stderr());
}

#[tokio::test]
async fn the_environment_alone_configures_a_server() {
    let plugins = Scratch::new();
    std::fs::copy(&fixture::plugins().await["chat"], plugins.path().join("chat.wasm")).expect("a scratch file");
    let named = Server::serve_from_environment().env("HUBBUB_SERVER__PLUGINS", &plugins.path().display().to_string());
    let server = named.env("JWT_SECRET", SECRET).env("HUBBUB_ADMIN__TOKEN", "admin-token-of-a-test");
    let server = server.plugin_config("chat", "messages_per_minute", "0").start().await;
    let (status, plugins) = server.admin(reqwest::Method::GET, "/admin/plugins", Vec::new()).await;
    assert!(status == 200 && plugins.to_string().contains("\"chat\""), "{status} {plugins}");
    server.connect("/chat", tests::token("ana").secret(SECRET)).await;
}
