//! Stand-ins for words: letters for letters and digits for digits, of the same length in bytes. With one salt, a word always has
//! the same stand-in, in any case, and two short words never share one. Independent of JSON.

use std::ops::Range;

use sha2::{Digest, Sha256};

/// Words are permuted if there are at most this many of their form. For longer words, a collision is improbable.
const PERMUTED: u128 = 1 << 60;

/// Rounds of the Feistel network.
const ROUNDS: u64 = 8;

/// The least length of a word of digits and the letters a to f that is treated as hexadecimal.
const HEX: usize = 8;

/// The words of a text: runs of letters and digits.
pub(crate) fn words(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + text[at..].find(char::is_alphanumeric)?;
        let end = text[start..].find(|c: char| !c.is_alphanumeric()).map_or(text.len(), |length| start + length);
        at = end;
        Some(start..end)
    })
}

/// The length of an RFC 3339 time with its date, if one starts here. The moment of a call is in the recording anyway.
pub(crate) fn date_time(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let form = b"0000-00-00T00:00:00";
    let fits = bytes.len() >= form.len()
        && form.iter().zip(bytes).all(|(form, byte)| if *form == b'0' { byte.is_ascii_digit() } else { form == byte });
    if !fits {
        return None;
    }
    let rest = text[form.len()..].find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ':' | '+' | '-' | 'Z')));
    Some(rest.map_or(text.len(), |length| form.len() + length))
}

/// In lower case, with the same length in bytes.
pub(crate) fn folded(word: &str) -> String {
    word.chars()
        .map(|c| {
            let mut lower = c.to_lowercase();
            lower.next().filter(|small| small.len_utf8() == c.len_utf8() && lower.next().is_none()).unwrap_or(c)
        })
        .collect()
}

/// The stand-in of a word.
pub(crate) fn pseudonym(salt: &[u8; 32], word: &str) -> String {
    let small = folded(word);
    let hidden = if small.is_ascii() { permuted(salt, &small) } else { None };
    let hidden = hidden.unwrap_or_else(|| streamed(salt, &small));
    recased(&hidden, word)
}

/// A text with the case of another text of the same form.
pub(crate) fn recased(text: &str, like: &str) -> String {
    let upper = |c: char| {
        let mut upper = c.to_uppercase();
        upper.next().filter(|large| large.len_utf8() == c.len_utf8() && upper.next().is_none()).unwrap_or(c)
    };
    text.chars().zip(like.chars()).map(|(c, like)| if like.is_uppercase() { upper(c) } else { c }).collect()
}

/// The possible characters at each place: the first one, and their number.
fn alphabet(word: &str) -> Vec<(u8, u8)> {
    let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
    let is_hex = word.len() >= HEX
        && word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && word.bytes().any(|byte| byte.is_ascii_digit());
    let place = |(at, byte): (usize, u8)| match byte {
        // A number keeps its leading zero, and gets no new one.
        b'0' if is_number && at == 0 => (b'0', 1),
        b'1'..=b'9' if is_number && at == 0 => (b'1', 9),
        b'0'..=b'9' => (b'0', 10),
        // Other characters are kept.
        _ if !byte.is_ascii_lowercase() => (byte, 1),
        _ if is_hex => (b'a', 6),
        _ => (b'a', 26),
    };
    word.bytes().enumerate().map(place).collect()
}

/// Another word of the same form, by a keyed permutation (format-preserving encryption). None: there are too many words.
fn permuted(salt: &[u8; 32], word: &str) -> Option<String> {
    let alphabet = alphabet(word);
    let all = alphabet.iter().try_fold(1_u128, |all, (_, many)| Some(all * u128::from(*many)).filter(|all| *all <= PERMUTED))?;
    let number = alphabet
        .iter()
        .zip(word.bytes())
        .fold(0, |number, ((first, many), byte)| number * u128::from(*many) + u128::from(byte - first));
    let form: Vec<u8> = alphabet.iter().flat_map(|(first, many)| [*first, *many]).collect();
    let mut number = permute(salt, &form, number as u64, all as u64);
    let mut hidden = vec![0; word.len()];
    for ((first, many), byte) in alphabet.iter().zip(&mut hidden).rev() {
        *byte = first + (number % u64::from(*many)) as u8;
        number /= u64::from(*many);
    }
    String::from_utf8(hidden).ok()
}

/// A Feistel network over the next even number of bits, repeated until the number is below `all` (cycle walking).
fn permute(salt: &[u8; 32], form: &[u8], number: u64, all: u64) -> u64 {
    let half = (64 - all.saturating_sub(1).leading_zeros()).div_ceil(2).max(1);
    let mask = (1_u64 << half) - 1;
    let round = |round: u64, right: u64| {
        let hash = Sha256::new().chain_update(salt).chain_update(form).chain_update(round.to_le_bytes());
        let hash: [u8; 32] = hash.chain_update(right.to_le_bytes()).finalize().into();
        hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)) & mask
    };
    let mut number = number;
    loop {
        let (mut left, mut right) = (number >> half, number & mask);
        for n in 0..ROUNDS {
            (left, right) = (right, left ^ round(n, right));
        }
        number = left << half | right;
        if number < all {
            return number;
        }
    }
}

/// Another word of the same form, from a keystream derived from the word.
fn streamed(salt: &[u8; 32], word: &str) -> String {
    let mut bytes = (0_u64..).flat_map(|block| {
        let hash: [u8; 32] =
            Sha256::new().chain_update(salt).chain_update(block.to_le_bytes()).chain_update(word).finalize().into();
        hash
    });
    let mut next = |many: u32| bytes.by_ref().take(4).fold(0_u32, |number, byte| number << 8 | u32::from(byte)) % many;
    let letter = |first: u32, at: u32| char::from_u32(first + at);
    word.chars()
        .map(|c| match c.len_utf8() {
            1 if c.is_ascii_digit() => letter(u32::from('0'), next(10)).unwrap_or(c),
            1 => letter(u32::from('a'), next(26)).unwrap_or(c),
            // Ranges of letters with the same length in bytes: à, 一, 𠀀.
            2 => letter(0xe0, next(23)).unwrap_or(c),
            3 => letter(0x4e00, next(20_000)).unwrap_or(c),
            _ => letter(0x2_0000, next(40_000)).unwrap_or(c),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;

    use super::*;

    const SALT: [u8; 32] = [7; 32];

    #[test]
    fn a_stand_in_has_the_form_of_its_word() {
        for word in
            ["a", "Ana", "u17", "0042", "90210", "ÉlodieNoël", "日本語", "a3f09bc1", "averyverylongwordofmanyletters", "x1"]
        {
            let hidden = pseudonym(&SALT, word);
            assert_eq!((hidden.len(), hidden.chars().count()), (word.len(), word.chars().count()), "{word}: {hidden}");
            for (was, is) in word.chars().zip(hidden.chars()) {
                assert_eq!((was.is_numeric(), was.len_utf8()), (is.is_numeric(), is.len_utf8()), "{word}: {hidden}");
                assert!(!was.is_ascii() || was.is_uppercase() == is.is_uppercase(), "{word}: {hidden}");
            }
            assert!(word.len() < 3 || hidden != word, "{word}");
            assert_eq!(pseudonym(&SALT, word), hidden);
            assert_eq!(folded(&hidden), pseudonym(&SALT, &folded(word)), "{word}: the same in lower case");
        }
        let hex = pseudonym(&SALT, "a3f09bc1");
        assert!(hex.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hex}");
        assert!(pseudonym(&SALT, "0042").starts_with('0') && !pseudonym(&SALT, "90210").starts_with('0'));
        assert_ne!(pseudonym(&[8; 32], "Ana Maria"), pseudonym(&SALT, "Ana Maria"), "another recording, another stand-in");
    }

    #[test]
    fn two_short_words_never_share_a_stand_in() {
        let all: Vec<String> = (0..10_000).map(|n| n.to_string()).chain(('a'..='z').map(|c| format!("u{c}"))).collect();
        let hidden: HashSet<String> = all.iter().map(|word| pseudonym(&SALT, word)).collect();
        assert_eq!(hidden.len(), all.len());
    }

    #[test]
    fn words_and_times_are_found() {
        let text = "by/ana-maria: 12,5 é";
        assert_eq!(words(text).map(|at| &text[at]).collect::<Vec<_>>(), ["by", "ana", "maria", "12", "5", "é"]);
        assert_eq!(date_time("2025-01-02T03:04:05.678Z, and on"), Some(24));
        assert_eq!(date_time("2025-01-02"), None);
    }
}
