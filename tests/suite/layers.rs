//! The architecture's invariants, held against the source. When one of these fails, either the code has lost its way or the
//! README has to say what is different now.

use std::fs;
use std::path::{Path, PathBuf};

/// The host's modules, lowest layer first.
const LAYERS: [&[&str]; 7] = [
    &["names", "owners", "error", "clock", "duration", "json", "memory", "private", "rate", "shown", "telemetry"],
    &["sandbox"],
    &["cluster", "storage"],
    &["capability"],
    &["release"],
    &["gateway", "ingest", "egress"],
    &["main", "lib", "app", "config", "admin", "cli", "toolchain", "fuzz"],
];

struct Source {
    /// Relative to `host/src`, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn module(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap_or_default()
    }

    fn layer(&self) -> usize {
        let found = LAYERS.iter().position(|modules| modules.contains(&self.module()));
        found.unwrap_or_else(|| panic!("{} is in no layer: add its module to the README and to this test", self.path))
    }

    /// Lines that are code, with their numbers.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(at, line)| (at + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn host() -> Vec<Source> {
    let source = root().join("host/src");
    let mut found = Vec::new();
    files(&source, &mut found);
    // The template is a plugin's source, which is only carried along.
    let found = found.into_iter().filter(|path| !path.to_string_lossy().contains("toolchain/template"));
    let read = |path: PathBuf| Source {
        path: path.strip_prefix(&source).unwrap().to_string_lossy().into_owned(),
        text: fs::read_to_string(&path).unwrap(),
    };
    found.map(read).collect()
}

fn assert_none(broken: &[String], rule: &str) {
    assert!(broken.is_empty(), "{rule}:\n{}", broken.join("\n"));
}

/// Every line of the host outside `allowed` that has one of the words.
fn lines_with(words: &[&str], allowed: impl Fn(&Source) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for source in host().iter().filter(|source| !allowed(source)) {
        for (at, line) in source.code() {
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{at}: {}", source.path, line.trim()));
            }
        }
    }
    found
}

#[test]
fn no_module_uses_one_of_a_layer_above_it() {
    let mut broken = Vec::new();
    for source in host() {
        for (at, line) in source.code() {
            for used in line.split("crate::").skip(1) {
                let name: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let layer = LAYERS.iter().position(|modules| modules.contains(&name.as_str()));
                if layer.is_some_and(|layer| layer > source.layer()) {
                    broken.push(format!("{}:{at}: {}", source.path, line.trim()));
                }
            }
        }
    }
    assert_none(&broken, "a module uses one of a layer above it");
}

#[test]
fn only_the_sandbox_and_the_capabilities_name_wasmtime() {
    let broken = lines_with(&["wasmtime::", "use wasmtime"], |source| ["sandbox", "capability"].contains(&source.module()));
    assert_none(&broken, "wasmtime is named outside sandbox and capability");
}

#[test]
fn only_the_gateway_and_the_adapter_name_socketioxide() {
    let broken = lines_with(&["socketioxide", "engineioxide"], |source| {
        source.module() == "gateway" || source.path == "cluster/adapter.rs"
    });
    assert_none(&broken, "socketioxide is named outside gateway and cluster/adapter");
}

#[test]
fn only_telemetry_names_opentelemetry() {
    let broken = lines_with(&["opentelemetry"], |source| source.module() == "telemetry");
    assert_none(&broken, "opentelemetry is named outside telemetry");
}

#[test]
fn no_channel_is_unbounded() {
    assert_none(&lines_with(&["unbounded"], |_| false), "an unbounded channel");
}

#[test]
fn nothing_on_a_connection_keeps_a_plugins_version() {
    let broken = lines_with(&["Arc<Release", "Arc<Pool", "Lease", "registry::Release"], |source| {
        !["gateway/session.rs", "gateway/sockets.rs", "gateway/transport.rs"].contains(&source.path.as_str())
    });
    assert_none(&broken, "a socket knows a release");
}

#[test]
fn every_file_says_in_its_first_line_what_it_is_for() {
    let silent = |source: &Source| !source.text.starts_with("//! ");
    let broken: Vec<_> = host().iter().filter(|source| silent(source)).map(|source| source.path.clone()).collect();
    assert_none(&broken, "files without a first line");
}

#[test]
fn plugins_depend_on_the_sdk_alone() {
    let mut broken = Vec::new();
    for entry in fs::read_dir(root().join("plugins")).unwrap() {
        let manifest = entry.unwrap().path().join("Cargo.toml");
        let Ok(text) = fs::read_to_string(&manifest) else { continue };
        let ours = |line: &&str| {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            name == "hubbub" || name == "tests" || (line.contains("path") && !line.contains("sdk"))
        };
        broken.extend(text.lines().filter(ours).map(|line| format!("{}: {line}", manifest.display())));
    }
    assert_none(&broken, "a plugin depends on more than the SDK");
}
