//! Runs the fuzzers' corpus without a fuzzer: each file, cut at each byte, and with each bit flipped.

use std::fs;
use std::path::Path;

fn feed(corpus: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus").join(corpus);
    let mut files = 0;
    for file in fs::read_dir(folder).unwrap() {
        let mut bytes = fs::read(file.unwrap().path()).unwrap();
        target(&bytes);
        for at in 0..bytes.len() {
            target(&bytes[..at]);
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                target(&bytes);
                bytes[at] ^= 1 << bit;
            }
        }
        files += 1;
    }
    assert!(files >= 5, "a corpus has more than {files} files");
}

#[test]
fn no_frame_is_read_unlike_tungstenite_reads_it() {
    feed("wire-frames", super::frames);
}

#[test]
fn no_packet_is_read_unlike_serde_json_reads_it() {
    feed("wire-packets", super::packets);
}

#[test]
fn no_packets_break_a_session() {
    feed("wire-session", super::session);
}
