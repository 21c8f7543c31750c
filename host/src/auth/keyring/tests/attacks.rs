//! Known attacks, and random bytes. None is accepted, and none causes a panic.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::json;

use super::kit::{NOW, Signer, pem_path, ring, secret_ring, user};
use crate::auth::token::TokenError;

#[test]
fn an_unsigned_token_is_refused() {
    let ring = secret_ring("");
    let payload = URL_SAFE_NO_PAD.encode(user().to_string());
    for alg in ["none", "None", "NONE", "nOnE", "", "HS256 ", "hs256"] {
        let header = URL_SAFE_NO_PAD.encode(json!({ "alg": alg }).to_string());
        assert!(ring.verify(&format!("{header}.{payload}."), "/", NOW).is_err(), "{alg}");
        assert_eq!(ring.verify(&format!("{header}.{payload}.AAAA"), "/", NOW), Err(TokenError::Algorithm), "{alg}");
    }
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
    assert_eq!(ring.verify(&format!("{header}.{payload}.AAAA"), "/", NOW), Err(TokenError::Signature));
}

#[test]
fn a_public_key_does_not_work_as_a_secret() {
    let path = pem_path("test_rsa_public");
    let ring = ring(&format!("[[keys]]\npublic_key_file = '{}'", path.display()));
    let pem = std::fs::read(&path).unwrap();
    let text = String::from_utf8(pem.clone()).unwrap();
    let der = STANDARD.decode(text.lines().filter(|line| !line.starts_with('-')).collect::<String>()).unwrap();
    for secret in [pem.as_slice(), text.trim_end().as_bytes(), &der] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let forger = Signer { algorithm, key: EncodingKey::from_secret(secret) };
            assert_eq!(ring.verify(&forger.token(user()), "/", NOW), Err(TokenError::Algorithm));
            // The header may also name another algorithm than the signature's.
            assert_eq!(
                ring.verify(&forger.sign(r#"{"alg":"RS256"}"#, &user().to_string()), "/", NOW),
                Err(TokenError::Signature)
            );
        }
    }
}

#[test]
fn a_key_embedded_in_the_token_is_not_used() {
    let ring = ring(&format!("[[keys]]\npublic_key_file = '{}'", pem_path("test_ec1_public").display()));
    let forger = Signer::ec(2);
    let header = json!({ "alg": "ES256", "jwk": forger.jwk("x"), "jku": "http://127.0.0.1:1/", "x5u": "http://127.0.0.1:1/" });
    assert_eq!(ring.verify(&forger.sign(&header.to_string(), &user().to_string()), "/", NOW), Err(TokenError::Signature));
}

#[test]
fn critical_extensions_are_refused() {
    let signer = Signer::secret();
    for header in [
        r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
        r#"{"alg":"HS256","crit":["exp"]}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"alg":"HS256","crit":null}"#,
    ] {
        assert_eq!(
            secret_ring("").verify(&signer.sign(header, &user().to_string()), "/", NOW),
            Err(TokenError::Critical),
            "{header}"
        );
    }
}

#[test]
fn a_signed_token_with_ambiguous_or_invalid_claims_is_refused() {
    let ring = secret_ring("");
    let signer = Signer::secret();
    let header = r#"{"alg":"HS256"}"#;
    for (payload, error) in [
        (r#"{"sub":"u1","sub":"u2"}"#, TokenError::DuplicateClaim),
        (r#"{"sub":"u1","role":"USER","role":"ADMIN"}"#, TokenError::DuplicateClaim),
        (r#"{"sub":"u1","exp":"1900000000"}"#, TokenError::Claim("expiry")),
        (r#"{"sub":""}"#, TokenError::Claim("user id")),
        (r#"{"sub":"a\u001fb"}"#, TokenError::Claim("user id")),
        (r#"{"sub":"u1","tenant":"a\u0000"}"#, TokenError::Claim("tenant")),
    ] {
        assert_eq!(ring.verify(&signer.sign(header, payload), "/", NOW), Err(error), "{payload}");
    }
    let two_algorithms = signer.sign(r#"{"alg":"none","alg":"HS256"}"#, &user().to_string());
    assert!(matches!(ring.verify(&two_algorithms, "/", NOW), Err(TokenError::Malformed(_))));
}

#[test]
fn an_oversized_token_is_refused_unread() {
    let signer = Signer::secret();
    let long = |bytes: usize| signer.token(json!({ "sub": "u1", "x": "y".repeat(bytes) }));
    assert!(secret_ring("").verify(&long(5000), "/", NOW).is_ok());
    assert_eq!(secret_ring("").verify(&long(100_000), "/", NOW), Err(TokenError::TooLarge));
    assert_eq!(secret_ring("").verify(&"x".repeat(8193), "/", NOW), Err(TokenError::TooLarge));
    assert!(matches!(secret_ring("").verify(&"x".repeat(8192), "/", NOW), Err(TokenError::Malformed(_))));
    let token = signer.token(user());
    assert!(secret_ring(&format!("max_token_bytes = {}", token.len())).verify(&token, "/", NOW).is_ok());
    assert_eq!(
        secret_ring(&format!("max_token_bytes = {}", token.len() - 1)).verify(&token, "/", NOW),
        Err(TokenError::TooLarge)
    );
}

#[test]
fn a_token_has_only_one_valid_encoding() {
    let ring = secret_ring("");
    let token = Signer::secret().token(user());
    let parts: Vec<&str> = token.split('.').collect();
    let padded = URL_SAFE.encode(URL_SAFE_NO_PAD.decode(parts[2]).unwrap());
    for other in [
        format!("{}.{}.{padded}", parts[0], parts[1]),
        format!(" {token}"),
        format!("{token} "),
        format!("{token}."),
        format!("{token}\n"),
        format!("Bearer {token}"),
        token.replace('.', ".."),
    ] {
        assert!(ring.verify(&other, "/", NOW).is_err(), "{other}");
    }
    // The last character of 32 bytes has two unused bits, which must be zero.
    let (start, last) = token.split_at(token.len() - 1);
    let same_bytes: Vec<char> =
        ('A'..='Z').chain('a'..='z').chain('0'..='9').filter(|c| *c != last.chars().next().unwrap()).collect();
    for last in same_bytes {
        assert!(ring.verify(&format!("{start}{last}"), "/", NOW).is_err(), "{last}");
    }
}

/// A small generator with a fixed seed, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len().max(1));
            match self.below(4) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => {
                    bytes.remove(at);
                }
                2 => bytes.insert(at.min(bytes.len()), self.next() as u8),
                _ => bytes.truncate(at),
            }
        }
    }
}

#[test]
fn random_bytes_and_altered_tokens_are_refused_and_never_panic() {
    let ring = secret_ring("");
    let good = Signer::secret().token(user());
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for _ in 0..20_000 {
        let mut altered = good.clone().into_bytes();
        random.mutate(&mut altered);
        let altered = String::from_utf8_lossy(&altered);
        assert!(altered == good || ring.verify(&altered, "/", NOW).is_err(), "{altered}");

        let noise: Vec<u8> = (0..random.below(200)).map(|_| random.next() as u8).collect();
        assert!(ring.verify(&String::from_utf8_lossy(&noise), "/", NOW).is_err());
    }
}

#[test]
fn signed_random_contents_never_panic_and_never_give_an_invalid_user() {
    let ring = secret_ring("");
    let signer = Signer::secret();
    let (header, payload) =
        (r#"{"alg":"HS256","kid":"k","typ":"JWT"}"#, r#"{"sub":"u1","tenant":7,"exp":1900000000,"aud":["a"],"x":{"y":[]}}"#);
    let mut random = Random(0x2545_F491_4F6C_DD1D);
    let mut verified_count = 0;
    for _ in 0..20_000 {
        let (mut header, mut payload) = (header.as_bytes().to_vec(), payload.as_bytes().to_vec());
        if random.below(4) == 0 {
            random.mutate(&mut header);
        }
        random.mutate(&mut payload);
        let (header, payload) = (String::from_utf8_lossy(&header), String::from_utf8_lossy(&payload));
        if let Ok(verified) = ring.verify(&signer.sign(&header, &payload), "/", NOW) {
            verified_count += 1;
            assert!(crate::names::check("user", &verified.user.id).is_ok());
            assert!(serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&verified.user.claims).is_ok());
        }
    }
    assert!(verified_count > 100, "the mutations never passed the parser: {verified_count}");
}
