//! Runs the fuzzers' corpus and thousands of its mutations without a fuzzer. It must never depend on chance: every run is the same.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

/// Mutations of a whole corpus.
const MUTATIONS: usize = 20_000;

/// Byte strings that are special in some of the formats.
const TOKENS: [&[u8]; 12] =
    [b"[", b"{", b"\"", b"\\", b"\\ud800", b"\t", b"\n", b"__", b"\xff\xff\xff\x7f", b"\0", b"{\"$ref\":\"#\"}", b"1e999"];

/// xorshift64*: the same numbers everywhere.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end.max(1)
    }
}

fn mutated(seeds: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = seeds[numbers.below(seeds.len())].clone();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len() + 1);
        let end = at + numbers.below(bytes.len() - at + 1).min(32);
        match numbers.below(5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.extend_from_within(at..end),
            3 => drop(bytes.splice(at..end, TOKENS[numbers.below(TOKENS.len())].iter().copied())),
            _ => {
                let other = &seeds[numbers.below(seeds.len())];
                let from = numbers.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

fn feed(corpus: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(corpus);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let seeds: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    assert!(seeds.len() >= 5, "a corpus has more than {} files", seeds.len());
    seeds.iter().for_each(|seed| target(seed));
    let mut numbers = Numbers(0x4855_4242_5542);
    for _ in 0..MUTATIONS {
        let bytes = mutated(&seeds, &mut numbers);
        let survived = std::panic::catch_unwind(|| target(&bytes));
        assert!(survived.is_ok(), "a mutation in {corpus}: {:?}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn no_packet_is_parsed_wrongly() {
    feed("packet", super::packet);
}

#[test]
fn no_component_breaks_the_inspection() {
    feed("component", super::component);
}

#[test]
fn no_description_breaks_the_contract() {
    feed("manifest", super::manifest);
}

#[test]
fn no_request_gets_past_the_checks_of_the_operators_port() {
    feed("admin", super::admin);
}

#[test]
fn no_token_is_accepted_without_a_valid_signature() {
    feed("tokens", super::tokens);
}

#[test]
fn no_configuration_breaks_the_start() {
    feed("config", super::config);
}
