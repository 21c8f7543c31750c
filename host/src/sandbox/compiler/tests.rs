//! Tests of the compiler's errors, with scripts in its place: no known component makes it panic.
#![allow(clippy::unwrap_used)]

use super::*;

/// The error after the compiler's process has run this script.
fn fails(script: &str) -> SandboxError {
    let folder = tempfile::tempdir().unwrap();
    let compiler =
        Compiler { config: Config::default(), cache: Cache::new("".into(), 1, CacheKey::passing().unwrap()), compatibility: 0 };
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    compiler.compile_by(command, b"component", &folder.path().join("out")).unwrap_err()
}

#[test]
fn a_compiler_panic_is_one_line_without_local_paths() {
    let place = "cranelift-codegen-0.135.0/src/isa/x64/lower.rs:7: not implemented";
    let error = fails(&format!("cat >/dev/null; echo 'hubbub: {place}' >&2; exit {PANICKED}"));
    assert!(matches!(error, SandboxError::CompilerFault(_)), "{error}");
    assert!(error.to_string().contains(place) && error.to_string().lines().count() == 1, "{error}");
    let uncaught = "thread 'main' panicked at /home/builder/.cargo/registry/src/index/wasmtime-48.0.0/src/x.rs:1:2:\nmessage";
    let error = fails(&format!("cat >/dev/null; printf \"{uncaught}\" >&2; exit 101"));
    assert!(matches!(error, SandboxError::CompilerFault(_)) && !error.to_string().contains('/'), "{error}");
}

#[test]
fn deep_nesting_and_too_much_memory_have_different_errors() {
    let deep = fails("cat >/dev/null; echo \"thread 'main' (7) has overflowed its stack\" >&2; kill -ABRT $$").to_string();
    assert!(deep.contains("nested too deeply"), "{deep}");
    let large = fails("cat >/dev/null; echo 'memory allocation of 7 bytes failed' >&2; kill -ABRT $$").to_string();
    assert!(large.contains("sandbox.compile_memory"), "{large}");
}

#[test]
fn a_panic_on_any_thread_is_caught_with_its_place() {
    assert_eq!(caught(|| 7), Ok(7));
    let message =
        caught(|| std::thread::scope(|scope| scope.spawn(|| -> u8 { panic!("no rule for /home/builder/x/y.clif") }).join()));
    assert!(message.unwrap().is_err(), "the panic ended only its thread");
    let message = caught(|| -> u8 { panic!("no rule for /home/builder/x/y.clif\nand more") }).unwrap_err();
    assert!(message.starts_with("src/sandbox/compiler/tests.rs:") || message.starts_with("host/src/sandbox"), "{message}");
    assert!(message.ends_with(": no rule for y.clif"), "{message}");
}

#[test]
fn a_path_is_cut_to_its_crate() {
    let registry = "/home/builder/.cargo/registry/src/index/cranelift-codegen-0.135.0/src/machinst/lower.rs";
    assert_eq!(without_machine(registry), "cranelift-codegen-0.135.0/src/machinst/lower.rs");
    assert_eq!(without_machine("/rustc/59807616e/library/core/src/option.rs"), "core/src/option.rs");
    assert_eq!(without_machine("host/src/main.rs"), "host/src/main.rs");
    assert_eq!(without_machine("`/a/b`"), "b`");
    assert_eq!(without_machine("and/or"), "and/or");
}
