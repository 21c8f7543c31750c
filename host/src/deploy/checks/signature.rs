//! Signatures of components: Ed25519 over the component's bytes, checked before they are parsed. Only the operator's configured
//! keys are accepted.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::Deserialize;

/// The header with an uploaded component's signature, as base64.
pub const HEADER: &str = "x-hubbub-signature";

/// `[signature]`: signatures of components.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Ed25519 public keys, 32 bytes as base64. If there is one, every component must be signed by one of them, stored components
    /// included: `FILE.sig` beside a file, or the header `x-hubbub-signature` of an upload. Default: none, so that no signature
    /// is needed.
    pub keys: Vec<String>,
}

/// Why a component is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("it is not signed, and signature.keys asks for a signature")]
    Missing,
    #[error("the signature is not 64 bytes as base64")]
    Malformed,
    #[error("none of signature.keys has made the signature")]
    Unknown,
    /// The key's index, from 0, but not its text: it may be a private key by mistake.
    #[error("signature.keys.{0} is not 32 bytes as base64: a public key belongs there")]
    Key(usize),
    #[error("the signing key is not an Ed25519 key in PKCS#8: {0}")]
    SigningKey(String),
}

/// The keys that the operator accepts.
#[derive(Clone)]
pub struct Signers(Vec<Vec<u8>>);

impl fmt::Debug for Signers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} signers", self.0.len())
    }
}

impl Signers {
    pub fn load(config: &Config) -> Result<Self, SignatureError> {
        let read = |(at, text): (usize, &String)| {
            let bytes = STANDARD.decode(text.trim()).ok().filter(|bytes| bytes.len() == 32);
            bytes.ok_or(SignatureError::Key(at))
        };
        config.keys.iter().enumerate().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Checks a component's signature, if keys are configured.
    pub fn check(&self, component: &[u8], signature: Option<&str>) -> Result<(), SignatureError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let signature = signature.ok_or(SignatureError::Missing)?;
        let signature = STANDARD.decode(signature.trim()).map_err(|_| SignatureError::Malformed)?;
        if signature.len() != 64 {
            return Err(SignatureError::Malformed);
        }
        let made = |key: &Vec<u8>| UnparsedPublicKey::new(&ED25519, key).verify(component, &signature).is_ok();
        self.0.iter().any(made).then_some(()).ok_or(SignatureError::Unknown)
    }
}

/// Signs a component with a private key in PKCS#8 (PEM, as `openssl genpkey -algorithm ed25519` writes it): the signature and the
/// public key, as base64.
pub fn sign(pem: &str, component: &[u8]) -> Result<(String, String), SignatureError> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(body.trim()).map_err(|e| SignatureError::SigningKey(e.to_string()))?;
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|e| SignatureError::SigningKey(e.to_string()))?;
    Ok((STANDARD.encode(pair.sign(component)), STANDARD.encode(pair.public_key())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";

    #[test]
    fn only_signatures_of_configured_keys_are_accepted() {
        let (signature, key) = sign(PEM, b"component").unwrap();
        let signers = Signers::load(&Config { keys: vec![key] }).unwrap();
        assert_eq!(signers.check(b"component", Some(&signature)), Ok(()));
        assert_eq!(signers.check(b"another", Some(&signature)), Err(SignatureError::Unknown));
        assert_eq!(signers.check(b"component", None), Err(SignatureError::Missing));
        assert_eq!(signers.check(b"component", Some("AAAA")), Err(SignatureError::Malformed));
    }

    #[test]
    fn without_keys_no_signature_is_needed() {
        assert_eq!(Signers::load(&Config::default()).unwrap().check(b"x", None), Ok(()));
        assert!(Signers::load(&Config { keys: vec!["short".into()] }).is_err());
    }
}
