//! The architecture's invariants, held against the source. When one of these fails, either the code has lost its way or
//! `host/docs/architecture.md` has to say what is different now.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The host's modules, lowest layer first.
const LAYERS: [&[&str]; 16] = [
    &[
        "names",
        "owners",
        "error",
        "clock",
        "descriptors",
        "duration",
        "json",
        "memory",
        "private",
        "proxies",
        "rate",
        "shown",
        "telemetry",
    ],
    &["recovery"],
    &["sandbox", "storage", "rooms"],
    &["cluster"],
    &["budgets", "presence", "timers"],
    &["transaction"],
    &["capability"],
    &["call"],
    &["replay"],
    &["bus"],
    &["deploy"],
    &["contract", "auth"],
    &["socket"],
    &["server"],
    &["admin"],
    &["main", "lib", "app", "config", "cli", "toolchain", "fuzz"],
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
        found.unwrap_or_else(|| {
            panic!("{} is in no layer: add its module to host/docs/architecture.md and to this test", self.path)
        })
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

/// The modules of the host that each of its modules uses, by their paths (`["bus", "ingest"]`), without those of tests.
fn imports() -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let sources = host();
    let path = |source: &Source| -> Vec<String> { source.path.trim_end_matches(".rs").split('/').map(str::to_owned).collect() };
    let is_test = |source: &&Source| source.path.contains("tests") || source.path == "storage/suite.rs";
    let modules: BTreeSet<_> = sources.iter().filter(|source| !is_test(source)).map(path).collect();
    let mut imports = BTreeMap::new();
    for source in sources.iter().filter(|source| !is_test(source)) {
        let module = path(source);
        let code: String = source.code().map(|(_, line)| format!("{line}\n")).collect();
        let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let mut used = BTreeSet::new();
        for written in paths(code) {
            let mut found = absolute(&module, &written);
            while !found.is_empty() && !modules.contains(&found) {
                found.pop();
            }
            // A module and those inside it are one: they may use each other.
            let is_inside = module.starts_with(&found) || found.starts_with(&module);
            if !found.is_empty() && !is_inside {
                used.insert(found);
            }
        }
        imports.insert(module, used);
    }
    imports
}

/// The paths in code that begin with `crate`, `super` or `self`, with the groups of `use` statements taken apart.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_none_or(|before| !before.is_alphanumeric() && before != '_' && before != ':') {
                tree(&code[at..], &[], &mut found);
            }
        }
    }
    found
}

/// Reads one path, or a group of them, and returns the number of bytes it took.
fn tree(code: &str, prefix: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = prefix.to_vec();
    let mut at = 0;
    loop {
        let name: String = code[at..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        at += name.len();
        path.extend((!name.is_empty()).then_some(name));
        if !code[at..].starts_with("::") {
            break;
        }
        at += 2;
        if code[at..].starts_with('{') {
            at += 1;
            while !code[at..].starts_with('}') {
                let rest = code[at..].trim_start_matches([',', ' ', '\n']);
                at = code.len() - rest.len();
                let read = tree(rest, &path, found);
                at += read.max(usize::from(!rest.starts_with('}')));
            }
            return at + 1;
        }
    }
    found.push(path);
    at
}

/// A path as it is written in a module, from the crate's root.
fn absolute(module: &[String], written: &[String]) -> Vec<String> {
    let mut base = module.to_vec();
    let mut rest = written;
    while let Some((first, after)) = rest.split_first() {
        match first.as_str() {
            "crate" => base.clear(),
            "super" => drop(base.pop()),
            "self" => {}
            _ => break,
        }
        rest = after;
    }
    base.extend(rest.iter().cloned());
    base
}

/// The groups of nodes that reach each other.
fn circles<T: Clone + Ord>(edges: &BTreeMap<T, BTreeSet<T>>) -> Vec<BTreeSet<T>> {
    let reached = |from: &T| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(node) = next.pop() {
            for to in edges.get(&node).into_iter().flatten() {
                if seen.insert(to.clone()) {
                    next.push(to.clone());
                }
            }
        }
        seen
    };
    let reach: BTreeMap<_, _> = edges.keys().map(|node| (node, reached(node))).collect();
    let together = |a: &T, b: &T| reach.get(a).is_some_and(|seen| seen.contains(b));
    let circles = edges.keys().map(|node| {
        let others = edges.keys().filter(|other| together(node, other) && together(other, node));
        others.cloned().collect::<BTreeSet<_>>()
    });
    circles.filter(|circle| circle.len() > 1).collect::<BTreeSet<_>>().into_iter().collect()
}

#[test]
fn no_folder_is_in_an_import_circle() {
    let mut folders: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, used) in imports() {
        let others = used.iter().map(|used| used[0].clone()).filter(|folder| *folder != module[0]);
        folders.entry(module[0].clone()).or_default().extend(others);
    }
    let broken: Vec<_> = circles(&folders).iter().map(|circle| format!("{circle:?}")).collect();
    assert_none(&broken, "folders use each other in a circle");
}

#[test]
fn no_folder_of_more_than_three_files_has_an_import_circle() {
    let imports = imports();
    let files =
        |folder: &[String]| imports.keys().filter(|module| module.len() > folder.len() && module.starts_with(folder)).count();
    let mut broken = Vec::new();
    for circle in circles(&imports) {
        let first = circle.iter().next().cloned().unwrap_or_default();
        if files(&first[..first.len() - 1]) > 3 {
            let names: Vec<_> = circle.iter().map(|module| module.join("::")).collect();
            broken.push(names.join(", "));
        }
    }
    assert_none(&broken, "files of one folder use each other in a circle");
}

#[test]
fn a_path_in_a_group_is_read_as_a_path_of_its_own() {
    let code = "use crate::a::{b::{self, C}, d};\nsuper::super::e::f();";
    let found: Vec<_> = paths(code).iter().map(|path| path.join("::")).collect();
    for wanted in ["crate::a::b::self", "crate::a::b::C", "crate::a::d", "super::super::e::f"] {
        assert!(found.iter().any(|path| path == wanted), "{wanted}: {found:?}");
    }
}

#[test]
fn only_the_sandbox_and_the_capabilities_name_wasmtime() {
    let broken = lines_with(&["wasmtime::", "use wasmtime"], |source| ["sandbox", "capability"].contains(&source.module()));
    assert_none(&broken, "wasmtime is named outside sandbox and capability");
}

#[test]
fn only_the_operators_live_pages_name_socketioxide() {
    let broken = lines_with(&["socketioxide", "engineioxide"], |source| {
        ["admin/operators.rs", "admin/taps.rs", "admin/watchers.rs"].contains(&source.path.as_str())
    });
    assert_none(&broken, "socketioxide is named outside the operator's live pages");
}

#[test]
fn only_sockets_rooms_and_the_port_name_the_wire() {
    let broken = lines_with(&["hubbub_wire"], |source| {
        ["socket", "rooms", "recovery"].contains(&source.module()) || source.path == "server/watch.rs"
    });
    assert_none(&broken, "hubbub_wire is named outside socket, rooms, recovery and the port");
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
    let broken = lines_with(&["Arc<Release", "Arc<Pool", "Lease", "release::Release"], |source| {
        !["socket/session.rs", "socket/sockets.rs", "socket/transport.rs"].contains(&source.path.as_str())
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
