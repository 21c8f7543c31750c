//! A compiler that fails by its own fault, in place of the real one: no component is known that makes it panic.
#![allow(clippy::unwrap_used)]

use super::*;

/// The error after a compiler's process has run this script.
fn fails(script: &str) -> SandboxError {
    let folder = tempfile::tempdir().unwrap();
    let compiler =
        Compiler { config: Config::default(), cache: Cache::new("".into(), 1, CacheKey::passing().unwrap()), compatibility: 0 };
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    compiler.compile_by(command, b"component", &folder.path().join("out")).unwrap_err()
}

#[test]
fn a_compiler_that_panics_is_one_sentence_without_a_path_of_the_machine() {
    let place = "cranelift-codegen-0.135.0/src/isa/x64/lower.rs:7: not implemented";
    let error = fails(&format!("cat >/dev/null; echo 'hubbub: {place}' >&2; exit {PANICKED}"));
    assert!(matches!(error, SandboxError::CompilerFault(_)), "{error}");
    assert!(error.to_string().contains(place) && error.to_string().lines().count() == 1, "{error}");
    let uncaught = "thread 'main' panicked at /home/builder/.cargo/registry/src/index/wasmtime-48.0.0/src/x.rs:1:2:\nmessage";
    let error = fails(&format!("cat >/dev/null; printf \"{uncaught}\" >&2; exit 101"));
    assert!(matches!(error, SandboxError::CompilerFault(_)) && !error.to_string().contains('/'), "{error}");
}

#[test]
fn a_component_that_is_nested_too_deeply_is_told_from_one_that_takes_too_much_memory() {
    let deep = fails("cat >/dev/null; echo \"thread 'main' (7) has overflowed its stack\" >&2; kill -ABRT $$").to_string();
    assert!(deep.contains("nested too deeply"), "{deep}");
    let large = fails("cat >/dev/null; echo 'memory allocation of 7 bytes failed' >&2; kill -ABRT $$").to_string();
    assert!(large.contains("sandbox.compile_memory"), "{large}");
}

#[test]
fn a_panic_is_caught_on_any_thread_and_says_its_place_from_the_crate_on() {
    assert_eq!(caught(|| 7), Ok(7));
    let told =
        caught(|| std::thread::scope(|scope| scope.spawn(|| -> u8 { panic!("no rule for /home/builder/x/y.clif") }).join()));
    assert!(told.unwrap().is_err(), "the panic was its thread's own");
    let told = caught(|| -> u8 { panic!("no rule for /home/builder/x/y.clif\nand more") }).unwrap_err();
    assert!(told.starts_with("src/sandbox/compiler/tests.rs:") || told.starts_with("host/src/sandbox"), "{told}");
    assert!(told.ends_with(": no rule for y.clif"), "{told}");
}

#[test]
fn a_path_is_shown_from_its_crate_on() {
    let registry = "/home/builder/.cargo/registry/src/index/cranelift-codegen-0.135.0/src/machinst/lower.rs";
    assert_eq!(without_machine(registry), "cranelift-codegen-0.135.0/src/machinst/lower.rs");
    assert_eq!(without_machine("/rustc/59807616e/library/core/src/option.rs"), "core/src/option.rs");
    assert_eq!(without_machine("host/src/main.rs"), "host/src/main.rs");
    assert_eq!(without_machine("`/a/b`"), "b`");
    assert_eq!(without_machine("and/or"), "and/or");
}
