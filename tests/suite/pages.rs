//! The pages of the checkout: what the code generates is what is committed, links lead somewhere, and what the README shows is true.

use std::path::{Path, PathBuf};

use tests::checkout_dir;
use tests::server::run;

/// Every page that a person reads.
fn pages() -> Vec<PathBuf> {
    let root = checkout_dir();
    let mut found = vec![root.join("README.md"), root.join("sdk/TUTORIAL.md"), root.join("tests/README.md")];
    found.push(root.join("tests/catalogue.md"));
    for folder in ["host/docs", "host/deploy", ".github", ".github/ISSUE_TEMPLATE"] {
        let entries = std::fs::read_dir(root.join(folder)).expect("a folder of pages");
        let files = entries.map(|entry| entry.expect("an entry").path());
        found.extend(files.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    found
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a page")
}

/// What a command prints.
fn printed(args: &[&str]) -> String {
    let output = run(args, &[]);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// A page without its blocks of code.
fn prose(page: &str) -> String {
    page.split("```").step_by(2).collect()
}

/// The targets of a page's links and images.
fn links(page: &str) -> Vec<String> {
    let prose = prose(page);
    let after = prose.split("](").skip(1);
    after.filter_map(|rest| rest.split_once(')').map(|(target, _)| target.to_owned())).collect()
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> Vec<String> {
    let prose = prose(page);
    let headings = prose.lines().filter_map(|line| line.strip_prefix('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| {
        let kept = heading.to_lowercase().replace(|c: char| !(c.is_alphanumeric() || c == ' ' || c == '-' || c == '_'), "");
        kept.replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn the_generated_pages_are_what_the_code_generates() {
    let docs = checkout_dir().join("host/docs");
    for (page, command) in
        [("configuration.md", "doc"), ("limits.md", "limits"), ("metrics.md", "metrics"), ("hubbub.schema.json", "schema")]
    {
        let committed = text(&docs.join(page));
        assert!(
            committed == printed(&["config", command]),
            "{page} is not what `hubbub config {command}` prints: run `make pages`"
        );
    }
}

#[test]
fn a_metric_that_the_page_of_limits_names_is_on_the_page_of_metrics() {
    let docs = checkout_dir().join("host/docs");
    let (limits, metrics) = (text(&docs.join("limits.md")), text(&docs.join("metrics.md")));
    let rows = limits.lines().filter(|line| line.starts_with("| ")).filter(|line| !line.contains("| metric |"));
    for row in rows {
        let last = row.trim_end_matches(" |").rsplit(" | ").next().expect("a last column");
        for name in last.split('`').skip(1).step_by(2) {
            let is_there = [format!("| `hubbub_{name}` |"), format!("| `hubbub_{name}_total` |")];
            assert!(is_there.iter().any(|row| metrics.contains(row)), "{name}: {row}");
        }
    }
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut broken = Vec::new();
    for page in pages() {
        let source = text(&page);
        let folder = page.parent().expect("a folder");
        for link in links(&source).iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { folder.join(file) };
            let is_there = target.exists() && (anchor.is_empty() || anchors(&text(&target)).iter().any(|one| one == anchor));
            if !is_there {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_readme_is_two_screens_and_its_plugin_is_the_sdks_example() {
    let readme = text(&checkout_dir().join("README.md"));
    assert!(readme.len() <= 8 * 1024, "{} bytes", readme.len());
    let (_, rest) = readme.split_once("```rust\n").expect("a plugin");
    let (plugin, _) = rest.split_once("```").expect("its end");
    let sdk = text(&checkout_dir().join("sdk/src/lib.rs"));
    for line in plugin.lines().filter(|line| !line.is_empty()) {
        assert!(sdk.contains(&format!("//! {line}\n")), "{line}");
    }
}

/// The code of a page: the lines of its blocks, and its spans.
fn code(page: &str) -> Vec<String> {
    let blocks = page.split("```").skip(1).step_by(2).flat_map(str::lines).map(str::to_owned);
    let prose = prose(page);
    let spans = prose.split('`').skip(1).step_by(2).map(str::to_owned);
    blocks.chain(spans).collect()
}

/// The words after a program's name, as far as they are names of commands.
fn named(code: &str, program: &str) -> Option<String> {
    let word = code.strip_prefix(program)?.split(' ').next()?;
    (!word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase())).then(|| word.to_owned())
}

#[test]
fn every_command_on_the_pages_exists() {
    let makefile = text(&checkout_dir().join("Makefile"));
    let of = |args: &[&str]| printed(&[args, &["--help"]].concat());
    let groups = [("hubbub ", of(&[])), ("hubbub plugin ", of(&["plugin"])), ("hubbub config ", of(&["config"]))];
    for page in pages() {
        for code in code(&text(&page)) {
            if let Some(name) = named(&code, "make ") {
                assert!(makefile.contains(&format!("\n{name}:")), "{}: {code}", page.display());
            }
            for (program, help) in &groups {
                let Some(name) = named(&code, program) else { continue };
                let is_listed = help.lines().any(|line| line.split_whitespace().next() == Some(&name));
                assert!(is_listed, "{}: {code}", page.display());
            }
        }
    }
}

#[test]
fn the_page_of_the_architecture_shows_every_folder_of_the_host() {
    let page = text(&checkout_dir().join("host/docs/architecture.md"));
    for entry in std::fs::read_dir(checkout_dir().join("host/src")).expect("the host's source") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy();
        assert!(path.is_file() || page.contains(&format!("{name}/")), "{name}");
    }
}

#[test]
fn every_test_module_that_a_page_names_exists() {
    let suite = checkout_dir().join("tests/suite");
    for page in ["architecture.md", "security.md"] {
        let source = text(&checkout_dir().join("host/docs").join(page));
        let mut column = None;
        for line in source.lines() {
            let cells: Vec<&str> = line.split(" | ").collect();
            if !line.starts_with('|') {
                column = None;
            } else if let Some(at) = cells.iter().position(|cell| cell.trim_end_matches(" |") == "tests") {
                column = Some(at);
            } else if let Some(cell) = column.and_then(|at| cells.get(at)) {
                for module in cell.split('`').skip(1).step_by(2).filter(|module| !module.starts_with("make ")) {
                    assert!(suite.join(module).with_extension("rs").exists(), "{page}: {module}");
                }
            }
        }
    }
}
