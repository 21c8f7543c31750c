//! Finds a compiler for the plugins' target, or announces in one line that it installs one. It must never install if one exists.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// The target of plugins. It has no WASI, because components may not import it.
pub(super) const TARGET: &str = "wasm32-unknown-unknown";

/// The time limit of an installing command. After it the command is killed and the next one is tried.
const INSTALL_LIMIT: Duration = Duration::from_secs(600);

/// The most bytes of an installing command's output in an error, from its end.
const MAX_OUTPUT: usize = 2000;

const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld-19"];
const DEBIAN_LINKER: &str = "/usr/bin/wasm-ld-19";
/// The oldest version of Debian's compiler that the workspace's edition and `rust-version` allow.
const DEBIAN_MINIMUM: (u32, u32) = (1, 95);

/// The choice of the compiler.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Toolchain {
    /// The `rustc` in `PATH` if it has the target, else Debian's if it is installed. Else rustup installs the target; if that fails,
    /// `apt-get` installs Debian's.
    #[default]
    Auto,
    /// Only Debian's: for tests, and for machines where the `rustc` in `PATH` must not be changed.
    Debian,
}

impl Toolchain {
    /// Reads the environment variable `HUBBUB_WASM_TOOLCHAIN`: `debian`, or anything else for [`Self::Auto`].
    pub fn from_env() -> Self {
        if std::env::var_os("HUBBUB_WASM_TOOLCHAIN").is_some_and(|name| name == "debian") { Self::Debian } else { Self::Auto }
    }
}

/// There is no compiler for the plugins' target, and it could not be installed.
#[derive(Debug, thiserror::Error)]
#[error(
    "no compiler for {TARGET}: {why}. Run `rustup target add {TARGET}`, or on Debian, as root, `apt-get install {}`",
    DEBIAN_PACKAGES.join(" ")
)]
pub struct NoCompiler {
    why: String,
}

/// A compiler that has the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compiler {
    /// The `cargo` and `rustc` in `PATH`, with the target's standard library in place.
    Path,
    /// Debian's, which compiles the standard library from source.
    Debian,
}

impl Compiler {
    /// Finds a compiler for the crate in `dir`, which may have a `rust-toolchain.toml`, or installs it.
    pub(super) fn find(dir: &Path, wanted: Toolchain, notify: &dyn Fn(&str)) -> Result<Self, NoCompiler> {
        let auto = wanted == Toolchain::Auto;
        if auto && has_target(dir) {
            return Ok(Self::Path);
        }
        if find_debian().is_ok() {
            return Ok(Self::Debian);
        }
        let mut tried = Vec::new();
        if auto {
            match add_to_rustup(dir, notify) {
                Ok(()) => return Ok(Self::Path),
                Err(why) => tried.push(why),
            }
        }
        match install_debian(notify) {
            Ok(()) => Ok(Self::Debian),
            Err(why) => {
                tried.push(why);
                Err(NoCompiler { why: tried.join("; ") })
            }
        }
    }

    /// `cargo` with this compiler. Subcommands that compile also need [`Self::flags`].
    pub(super) fn cargo(self) -> Command {
        match self {
            Self::Path => Command::new("cargo"),
            Self::Debian => {
                let mut command = Command::new("/usr/bin/cargo");
                // Build scripts and procedural macros call `rustc` by name, which must not find rustup's.
                command.env("PATH", with_usr_bin_first());
                command.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
                command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", DEBIAN_LINKER);
                // A cargo that started this process has set them for its own compiler.
                command.env_remove("LD_LIBRARY_PATH").env_remove("RUSTUP_TOOLCHAIN");
                command
            }
        }
    }

    /// The flags of `cargo build`.
    pub(super) fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Path => &["--target", TARGET],
            Self::Debian => &["--target", TARGET, "-Zbuild-std=std,panic_abort"],
        }
    }
}

/// Whether the `rustc` in `PATH` has the target's standard library, from rustup or any other source.
fn has_target(dir: &Path) -> bool {
    let mut rustc = Command::new("rustc");
    rustc.current_dir(dir).args(["--print", "target-libdir", "--target", TARGET]);
    output_of(rustc).is_ok_and(|libdir| PathBuf::from(libdir.trim()).is_dir())
}

fn add_to_rustup(dir: &Path, notify: &dyn Fn(&str)) -> Result<(), String> {
    let mut version = Command::new("rustup");
    version.current_dir(dir).arg("--version");
    output_of(version).map_err(|_| "rustup is not installed".to_owned())?;

    notify(&format!("installing the Rust target {TARGET} with rustup: plugins compile to it"));
    let mut add = Command::new("rustup");
    add.current_dir(dir).args(["target", "add", TARGET]);
    run(add, INSTALL_LIMIT).map_err(|why| format!("`rustup target add {TARGET}` failed ({why})"))?;
    if has_target(dir) { Ok(()) } else { Err("rustup added the target to another toolchain than the `rustc` in PATH".into()) }
}

/// Checks that all parts of Debian's compiler are installed.
fn find_debian() -> Result<(), String> {
    let mut version = Command::new("/usr/bin/rustc");
    version.arg("--version");
    let version = output_of(version).map_err(|_| "Debian's rustc is not installed".to_owned())?;
    if parse_version(&version).is_none_or(|found| found < DEBIAN_MINIMUM) {
        return Err(format!("/usr/bin/rustc is too old ({})", version.trim()));
    }
    for part in ["/usr/bin/cargo", DEBIAN_LINKER, "/usr/lib/rustlib/src/rust/library/std/Cargo.toml"] {
        if !Path::new(part).exists() {
            return Err(format!("{part} is missing"));
        }
    }
    Ok(())
}

fn install_debian(notify: &dyn Fn(&str)) -> Result<(), String> {
    if !Path::new("/etc/debian_version").exists() {
        return Err("this is not Debian".into());
    }
    let mut id = Command::new("id");
    id.arg("-u");
    let root = output_of(id).is_ok_and(|uid| uid.trim() == "0");
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", "true"]);
    if !root && output_of(sudo).is_err() {
        return Err("Debian's packages need root, and sudo asks for a password".into());
    }

    let packages = DEBIAN_PACKAGES.join(" ");
    notify(&format!("installing Debian's {packages}: plugins compile to {TARGET}, which rustup could not provide"));
    let apt = |args: &[&str]| {
        // On a fresh machine another apt may hold the lock.
        let options = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"];
        let mut words = if root { Vec::new() } else { vec!["sudo", "-n"] };
        words.extend(options);
        words.extend(args);
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        run(command, INSTALL_LIMIT)
    };
    let install: Vec<&str> = ["install", "-y", "--no-install-recommends"].into_iter().chain(DEBIAN_PACKAGES).collect();
    // A fresh machine has no package lists yet.
    apt(&install).or_else(|_| apt(&["update"]).and_then(|()| apt(&install))).map_err(|why| format!("apt-get failed ({why})"))?;
    find_debian()
}

/// `rustc 1.96.0 (…)` → `(1, 96)`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_whitespace().nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn with_usr_bin_first() -> std::ffi::OsString {
    let mut path = std::ffi::OsString::from("/usr/bin");
    if let Some(rest) = std::env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    path
}

/// The standard output of a short command, or an error if it cannot start or fails.
fn output_of(mut command: Command) -> Result<String, ()> {
    let output = command.stdin(Stdio::null()).output().map_err(drop)?;
    if output.status.success() { Ok(String::from_utf8_lossy(&output.stdout).into_owned()) } else { Err(()) }
}

/// Runs a command for at most `limit`. The error is the last line of its standard error.
fn run(mut command: Command, limit: Duration) -> Result<(), String> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
    let stderr = child.stderr.take();
    let (done, end_of_output) = mpsc::sync_channel(1);
    // Standard error closes when the command ends, so one wait limits both.
    std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut stderr) = stderr {
            // A read error also ends the output.
            let _ = stderr.read_to_end(&mut text);
        }
        let _ = done.send(text);
    });
    let Ok(text) = end_of_output.recv_timeout(limit) else {
        // It fails if the command has ended meanwhile.
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("it took longer than {} s", limit.as_secs()));
    };
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(MAX_OUTPUT)..]).into_owned();
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no output");
    Err(last.trim().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn rustcs_version_is_parsed() {
        assert_eq!(parse_version("rustc 1.96.0 (ac68faa20 2026-05-25)"), Some((1, 96)));
        assert_eq!(parse_version("rustc"), None);
        assert!(parse_version("rustc 1.63.0 (built from source)").unwrap() < DEBIAN_MINIMUM);
    }

    #[test]
    fn a_failed_command_is_quoted_by_its_last_line() {
        assert_eq!(
            run(shell("echo first >&2; echo E: no such package >&2; exit 1"), INSTALL_LIMIT).unwrap_err(),
            "E: no such package"
        );
        assert_eq!(run(shell("exit 0"), INSTALL_LIMIT), Ok(()));
    }

    #[test]
    fn a_command_past_its_limit_is_killed() {
        let error = run(shell("exec cat /dev/zero >/dev/null"), Duration::from_millis(50)).unwrap_err();
        assert_eq!(error, "it took longer than 0 s");
    }

    #[test]
    fn the_error_names_the_commands_that_install_a_compiler() {
        let error = NoCompiler { why: "rustup is not installed; this is not Debian".into() }.to_string();
        assert!(error.contains("`rustup target add wasm32-unknown-unknown`"), "{error}");
        assert!(error.contains("`apt-get install rustc-web cargo-web rust-web-src lld-19`"), "{error}");
    }
}
