//! Signers and keyrings for the tests. Signs anything, valid or not, as an attacker would.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use crate::auth::config::Config;
use crate::auth::key_loader::LoadError;
use crate::auth::keyring::Keyring;

/// A fixed moment, in milliseconds.
pub(crate) const NOW: u64 = 1_800_000_000_000;

pub(crate) const SECRET: &str = "a secret of these tests, 32 bytes and more";

/// The private half of a key.
pub(crate) struct Signer {
    pub(crate) algorithm: Algorithm,
    pub(crate) key: EncodingKey,
}

impl Signer {
    pub(crate) fn hmac(algorithm: Algorithm, secret: &str) -> Self {
        Self { algorithm, key: EncodingKey::from_secret(secret.as_bytes()) }
    }

    pub(crate) fn secret() -> Self {
        Self::hmac(Algorithm::HS256, SECRET)
    }

    pub(crate) fn rsa() -> Self {
        Self { algorithm: Algorithm::RS256, key: EncodingKey::from_rsa_pem(&pem("test_rsa_private")).unwrap() }
    }

    pub(crate) fn ec(number: u8) -> Self {
        let key = EncodingKey::from_ec_pem(&pem(&format!("test_ec{number}_private"))).unwrap();
        Self { algorithm: Algorithm::ES256, key }
    }

    pub(crate) fn ed() -> Self {
        Self { algorithm: Algorithm::EdDSA, key: EncodingKey::from_ed_pem(&pem("test_ed_private")).unwrap() }
    }

    /// Signs these texts as they are, even if the header is wrong.
    pub(crate) fn sign(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{signed}.{signature}")
    }

    pub(crate) fn token(&self, claims: Value) -> String {
        self.sign(&json!({ "alg": self.algorithm }).to_string(), &claims.to_string())
    }

    pub(crate) fn token_of(&self, kid: &str, claims: Value) -> String {
        self.sign(&json!({ "alg": self.algorithm, "kid": kid }).to_string(), &claims.to_string())
    }

    /// The public half, as in a key set.
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&self.key, self.algorithm).unwrap()).unwrap();
        jwk["kid"] = kid.into();
        jwk
    }
}

pub(crate) fn user() -> Value {
    json!({ "sub": "u1", "exp": NOW / 1000 + 60 })
}

pub(crate) fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

/// Loads `[auth]` as `serve` does.
pub(crate) fn load(toml: &str) -> Result<Keyring, LoadError> {
    Keyring::load(&toml::from_str::<Config>(toml).unwrap(), false)
}

pub(crate) fn ring(toml: &str) -> Keyring {
    load(toml).unwrap()
}

/// A keyring with [`SECRET`] alone, and further settings.
pub(crate) fn secret_ring(settings: &str) -> Keyring {
    ring(&format!("{settings}\n[[keys]]\nsecret = '{SECRET}'"))
}

pub(crate) fn pem_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/auth/keyring/test_keys").join(format!("{name}.pem"))
}

fn pem(name: &str) -> Vec<u8> {
    std::fs::read(pem_path(name)).unwrap()
}

/// A file that is removed when this is dropped.
pub(crate) struct TempFile(pub(crate) PathBuf);

impl TempFile {
    pub(crate) fn new(content: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("hubbub-keyring-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let file = Self(std::env::temp_dir().join(name));
        file.write(content);
        file
    }

    pub(crate) fn write(&self, content: &str) {
        std::fs::write(&self.0, content).unwrap();
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
