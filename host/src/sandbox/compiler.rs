//! Compiles components to machine code: in a separate process with limited memory and time, since a component can be a compile
//! bomb. The result is cached by digest, so that a component is compiled once. The only code that loads machine code, and it
//! loads only its own files.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::resource::{Resource, setrlimit};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::SandboxError;
use super::cache::{Cache, CacheKey, Place};
use super::config::{Config, settings};
use crate::private;

/// The hidden command that compiles: `hubbub compile SETTINGS OUT < component`.
pub const COMMAND: &str = "compile";

/// The signals that end a process without memory or time.
const SIGXCPU: i32 = 24;
const SIGABRT: i32 = 6;

/// The exit code after a panic of the compiler.
pub const PANICKED: u8 = 70;

/// The exit code of a Rust program after an uncaught panic.
const UNCAUGHT: i32 = 101;

/// Compiles components for one engine.
pub(super) struct Compiler {
    config: Config,
    cache: Cache,
    /// A hash of everything besides the component that the machine code depends on.
    compatibility: u64,
}

impl Compiler {
    pub(super) fn new(engine: &Engine, config: Config, key: CacheKey) -> Self {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let cache = Cache::new(config.cache.clone(), config.cache_files, key);
        Self { config, cache, compatibility: hasher.finish() }
    }

    /// The component, compiled now or from the cache.
    pub(super) fn component(&self, engine: &Engine, bytes: &[u8]) -> Result<Component, SandboxError> {
        let place = self.cache.place().map_err(|e| self.cache.broken(&e))?;
        // A file that is not stored may be removed once it is mapped.
        let component = self.component_in(engine, bytes, place.path())?;
        if matches!(place, Place::Kept(_)) {
            self.cache.remove_old();
        }
        Ok(component)
    }

    fn component_in(&self, engine: &Engine, bytes: &[u8], folder: &Path) -> Result<Component, SandboxError> {
        let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let stem = format!("{digest}-{:016x}", self.compatibility);
        if let Some(component) = self.cache.find(folder, &stem).and_then(|kept| load(engine, &kept)) {
            return Ok(component);
        }
        static MADE: AtomicU64 = AtomicU64::new(0);
        let made = format!("{}-{}.tmp", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let made = Scratch(folder.join(made));
        self.compile(bytes, &made.0)?;
        let kept = self.cache.keep(&made.0, folder, &stem).map_err(|e| self.cache.broken(&e))?;
        load(engine, &kept).ok_or_else(|| SandboxError::Compile("what was compiled cannot be loaded".into()))
    }

    /// Runs the compiler's process.
    fn compile(&self, bytes: &[u8], out: &Path) -> Result<(), SandboxError> {
        let failed = |e: std::io::Error| SandboxError::Compile(format!("its process cannot run: {e}"));
        self.compile_by(Command::new(program().map_err(failed)?), bytes, out)
    }

    /// Compiles with a program that accepts the hidden command.
    fn compile_by(&self, mut command: Command, bytes: &[u8], out: &Path) -> Result<(), SandboxError> {
        let failed = |e: std::io::Error| SandboxError::Compile(format!("its process cannot run: {e}"));
        let settings = serde_json::to_string(&self.config).map_err(|e| SandboxError::Compile(e.to_string()))?;
        command.arg(COMMAND).arg(settings).arg(out).env_clear();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(failed)?;
        if let Some(mut input) = child.stdin.take() {
            // If the process has ended already, its status shows the reason.
            let _ = input.write_all(bytes);
        }
        // Its CPU is limited and it waits for nothing, so it ends.
        let output = child.wait_with_output().map_err(failed)?;
        if output.status.success() {
            return Ok(());
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        Err(match output.status.code() {
            Some(code) if code == i32::from(PANICKED) => SandboxError::CompilerFault(sentence(&stderr)),
            Some(UNCAUGHT) => SandboxError::CompilerFault("its place is unknown".into()),
            _ => SandboxError::Compile(self.explain(output.status, &stderr)),
        })
    }

    fn explain(&self, status: ExitStatus, stderr: &str) -> String {
        match status.signal() {
            Some(SIGXCPU) => format!("it takes more than {} s of CPU (sandbox.compile_seconds)", self.config.compile_seconds),
            Some(SIGABRT) if stderr.contains("overflowed its stack") => "it is nested too deeply for the compiler".into(),
            Some(SIGABRT) => {
                format!("it takes more than {} bytes of memory (sandbox.compile_memory)", self.config.compile_memory)
            }
            Some(signal) => format!("the compiler was ended by signal {signal}"),
            None => sentence(stderr),
        }
    }
}

/// The error message of the compiler's process, without the program's name.
fn sentence(stderr: &str) -> String {
    stderr.trim().trim_start_matches("hubbub: ").to_owned()
}

/// The running program, even if its file was replaced since it started.
fn program() -> std::io::Result<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() { Ok(running) } else { std::env::current_exe() }
}

fn load(engine: &Engine, path: &Path) -> Option<Component> {
    // The modification time is the time of the last use, by which old entries are removed.
    let _ = fs::File::open(path).and_then(|file| file.set_modified(now()));
    #[expect(unsafe_code, reason = "machine code is loaded here and nowhere else")]
    // SAFETY: the file is in a folder that only the server's own user can write to, and its MAC shows that this server has written the
    // whole of it. A process of the same user could replace the server itself. A file of another engine is refused by wasmtime.
    let loaded = unsafe { Component::deserialize_file(engine, path) };
    loaded.ok()
}

#[expect(clippy::disallowed_methods, reason = "the file system's clock is what its times are compared with")]
fn now() -> std::time::SystemTime {
    std::time::SystemTime::now()
}

/// A file that is removed on drop, unless it was moved.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Why the compiler's process failed.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// An error in the component, or of the process.
    #[error("{0}")]
    Component(String),
    /// A fault of the compiler itself: its place in the source, and its message.
    #[error("{0}")]
    Panicked(String),
}

/// Compiles the component on standard input, in a process made for it. `settings` is the sandbox's configuration as JSON.
///
/// # Errors
/// Describes the error in the component, or the place of the compiler's panic.
pub fn compile(settings_json: &str, out: &Path) -> Result<(), CompileError> {
    let code = caught(|| precompile(settings_json)).map_err(CompileError::Panicked)?.map_err(CompileError::Component)?;
    let file = private::options().write(true).create_new(true).open(out);
    file.and_then(|mut file| file.write_all(&code)).map_err(|e| CompileError::Component(e.to_string()))
}

fn precompile(settings_json: &str) -> Result<Vec<u8>, String> {
    let config: Config = serde_json::from_str(settings_json).map_err(|e| e.to_string())?;
    let limit = |resource, most: u64| setrlimit(resource, most, most).map_err(|e| e.to_string());
    limit(Resource::RLIMIT_DATA, config.compile_memory)?;
    limit(Resource::RLIMIT_CPU, config.compile_seconds)?;
    limit(Resource::RLIMIT_CORE, 0)?;
    let mut bytes = Vec::new();
    std::io::stdin().take(config.component as u64 + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    // The size of the pool does not affect the code; a pool of one takes the least memory.
    let engine = Engine::new(&settings(&Config { instances: 1, ..config })).map_err(|e| format!("{e:#}"))?;
    engine.precompile_component(&bytes).map_err(|e| format!("{e:#}"))
}

/// Runs a compiler. If it panics, on any thread, the error is the place in its source and its message, on one line.
fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    static PANIC: Mutex<Option<String>> = Mutex::new(None);
    let usual = panic::take_hook();
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(|place| format!("{}:{}", without_machine(place.file()), place.line()));
        let words = info.payload_as_str().and_then(|text| text.lines().next()).unwrap_or("no message");
        let words: String = words.split(' ').map(without_machine).collect::<Vec<_>>().join(" ").chars().take(WORDS).collect();
        let message = format!("{}: {words}", place.unwrap_or_else(|| "an unknown place".into()));
        // The first panic causes the others.
        PANIC.lock().get_or_insert(message);
    }));
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    panic::set_hook(usual);
    let message = PANIC.lock().take();
    result.map_err(|_| message.unwrap_or_else(|| "an unknown place".into()))
}

/// The most characters of a panic's message that are passed on.
const WORDS: usize = 300;

/// A path from its crate on, without the folders of the build machine. Other text is unchanged.
fn without_machine(text: &str) -> &str {
    let Some(at) = text.find('/').filter(|at| text[..*at].chars().all(|c| "\"'`(".contains(c))) else { return text };
    let path = &text[at..];
    let from = match path.rfind("/src/") {
        Some(src) => path[..src].rfind('/').map_or(0, |slash| slash + 1),
        None => path.rfind('/').map_or(0, |slash| slash + 1),
    };
    &path[from..]
}

#[cfg(test)]
mod tests;
