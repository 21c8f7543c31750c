//! Hints that name the SDK's clock and randomness to a plugin that uses the system's, which components lack. They are added to the
//! compiler's output, and must never fail a build.

use std::fs;
use std::path::Path;

/// For a crate that needs the system's randomness, which the target lacks.
const RANDOM: &str = "a plugin's randomness comes from the host: use `hubbub_sdk::random` and leave out the crate's own source \
                      (features such as `v4` or `thread_rng`). An id: \
                      `uuid::Builder::from_random_bytes(hubbub_sdk::random::bytes()).into_uuid()`; a generator: \
                      `SmallRng::seed_from_u64(hubbub_sdk::random::number())`";

/// The standard library's panic message for a missing clock. It is in a module only if some code in it may read the time.
const NO_TIME: &[u8] = b"time not implemented on this platform";

/// Calls that read the system's time.
const TIME_CALLS: [&str; 5] = ["SystemTime::now(", "Instant::now(", "Utc::now(", "Local::now(", "::now_utc("];

/// The most lines of source that a note names.
const NAMED: usize = 3;

/// The hint for cargo's errors that come from a crate which needs the system's randomness.
pub(super) fn of_errors(stderr: &str) -> Option<&'static str> {
    let of_target = stderr.contains("wasm32-unknown-unknown") || stderr.contains("wasm*-unknown-unknown");
    let of_randomness = ["getrandom", "source of randomness", "`uuid`"].iter().any(|word| stderr.contains(word));
    (of_target && of_randomness).then_some(RANDOM)
}

/// The hint for a module that may read the system's time, if the plugin's own source does. A dependency alone gives no hint, because
/// the plugin may never call that code.
pub(super) fn of_module(module: &[u8], crate_dir: &Path) -> Option<String> {
    if !module.windows(NO_TIME.len()).any(|window| window == NO_TIME) {
        return None;
    }
    let mut places = Vec::new();
    search(&crate_dir.join("src"), crate_dir, &mut places);
    if places.is_empty() {
        return None;
    }
    let more = if places.len() > NAMED { ", and more" } else { "" };
    places.truncate(NAMED);
    Some(format!(
        "{}{more} reads the system's time, which panics in a component: use `hubbub_sdk::clock::now`",
        places.join(", ")
    ))
}

/// Adds `FILE:LINE` of each call that reads the time, without comments and tests.
fn search(folder: &Path, crate_dir: &Path, places: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() && !path.ends_with("tests") {
            search(&path, crate_dir, places);
        }
        if path.extension().is_none_or(|extension| extension != "rs") || path.ends_with("tests.rs") || places.len() > NAMED {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        let shown = path.strip_prefix(crate_dir).unwrap_or(&path).display();
        let code = text.lines().take_while(|line| line.trim() != "#[cfg(test)]");
        for (at, line) in code.enumerate() {
            let line = line.split("//").next().unwrap_or_default();
            if TIME_CALLS.iter().any(|call| line.contains(call)) {
                places.push(format!("{shown}:{}", at + 1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::scratch::Scratch;
    use super::*;

    #[test]
    fn an_error_of_the_systems_randomness_names_the_sdks() {
        let errors = [
            "error: The wasm32-unknown-unknown targets are not supported by default; you may need to enable the \"wasm_js\" configuration flag.\n --> getrandom-0.3.4/src/backends.rs",
            "error: the wasm*-unknown-unknown targets are not supported by default, you may need to enable the \"js\" feature: https://docs.rs/getrandom",
            "error: to use `uuid` on `wasm32-unknown-unknown`, specify a source of randomness using one of the `js`, `rng-getrandom`, or `rng-rand` features",
        ];
        for error in errors {
            assert!(of_errors(error).unwrap().contains("hubbub_sdk::random"), "{error}");
        }
        assert_eq!(of_errors("error[E0308]: mismatched types in getrandom"), None);
    }

    #[test]
    fn a_call_of_the_systems_time_is_named_with_its_line() {
        let scratch = Scratch::new();
        let code = "fn f() {\n    let t = std::time::SystemTime::now();\n}\n// Utc::now()\n#[cfg(test)]\nmod tests { fn g() { Instant::now(); } }\n";
        scratch.write("src/lib.rs", code);
        scratch.write("src/tests.rs", "Instant::now()");
        let module = [b"\0asm", NO_TIME, b"rest"].concat();
        let note = of_module(&module, scratch.path()).unwrap();
        assert!(note.contains("src/lib.rs:2") && !note.contains("lib.rs:4") && note.contains("hubbub_sdk::clock"), "{note}");
        assert_eq!(of_module(b"\0asm", scratch.path()), None, "the component does not read the time");
        scratch.write("src/lib.rs", "fn f() {}");
        assert_eq!(of_module(&module, scratch.path()), None, "only a dependency may read it");
    }
}
