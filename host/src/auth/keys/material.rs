//! Turns the bytes of a secret or public key into a verification key. Refuses unusable or unsafe keys when they are loaded, never
//! at the first token.

use jsonwebtoken::crypto::aws_lc;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use jsonwebtoken::{DecodingKey, DecodingKeyKind};

use super::KeyError;
use crate::auth::algorithm::Algorithm;
use crate::auth::config::DEV_SECRET;

/// RSA keys by the size of their modulus: 2048 to 8192 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// A point of P-256, not compressed.
const P256_POINT: usize = 65;

/// An Ed25519 public key.
const ED25519_KEY: usize = 32;

type Material = (Algorithm, DecodingKey);

/// A shared secret of at least `least` bytes; without `least` (dev), of any length.
pub(crate) fn secret(secret: &[u8], wanted: Option<Algorithm>, least: Option<usize>) -> Result<Material, KeyError> {
    let algorithm = wanted.unwrap_or(Algorithm::HS256);
    if !algorithm.is_symmetric() {
        return Err(KeyError::Algorithm(algorithm));
    }
    if secret.trim_ascii_start().starts_with(b"-----BEGIN") {
        return Err(KeyError::PemSecret);
    }
    if let Some(least) = least {
        if secret == DEV_SECRET.as_bytes() {
            return Err(KeyError::DevSecret);
        }
        let length = secret.trim_ascii().len();
        if length < least {
            return Err(KeyError::WeakSecret { length, least });
        }
    }
    // With an empty secret anyone could sign, in dev too.
    if secret.trim_ascii().is_empty() {
        return Err(KeyError::WeakSecret { length: 0, least: 1 });
    }
    Ok((algorithm, DecodingKey::from_secret(secret)))
}

/// Without the line end that editors add to a file.
pub(crate) fn without_line_end(text: &[u8]) -> &[u8] {
    text.strip_suffix(b"\r\n").or_else(|| text.strip_suffix(b"\n")).unwrap_or(text)
}

/// One public key in PEM (`PUBLIC KEY` or `RSA PUBLIC KEY`).
pub(crate) fn public_pem(pem: &[u8], wanted: Option<Algorithm>) -> Result<Material, KeyError> {
    let text = str::from_utf8(pem).map_err(|_| KeyError::PublicKey("the file is not PEM"))?;
    if text.contains("PRIVATE KEY-----") {
        return Err(KeyError::PrivateKey);
    }
    if text.matches("-----BEGIN").count() != 1 || !text.contains("PUBLIC KEY-----") {
        return Err(KeyError::PublicKey("the file is not PEM with one PUBLIC KEY"));
    }
    let (algorithm, key) = if let Ok(key) = DecodingKey::from_ed_pem(pem) {
        (Algorithm::EdDSA, ed25519(&key)?)
    } else if let Ok(key) = DecodingKey::from_ec_pem(pem) {
        (Algorithm::ES256, p256(&key)?)
    } else if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
        (Algorithm::RS256, rsa_der(&key)?)
    } else {
        return Err(KeyError::PublicKey("it is neither RSA, P-256 nor Ed25519"));
    };
    match wanted {
        Some(other) if other != algorithm => Err(KeyError::Algorithm(other)),
        _ => Ok((algorithm, key)),
    }
}

/// One public key of a key set.
pub(crate) fn public_jwk(jwk: &Jwk) -> Result<Material, KeyError> {
    // `from_jwk` does not look at the curve.
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        _ => return Err(KeyError::PublicKey("it is neither RSA, P-256 nor Ed25519, or incomplete")),
    };
    let key = DecodingKey::from_jwk(jwk).map_err(|_| KeyError::PublicKey("its numbers are not base64url"))?;
    let key = match (algorithm, key.kind()) {
        (_, DecodingKeyKind::RsaModulusExponent { n, e }) => rsa_numbers(n, e)?,
        (Algorithm::ES256, _) => p256(&key)?,
        _ => ed25519(&key)?,
    };
    Ok((algorithm, key))
}

fn rsa_der(key: &DecodingKey) -> Result<DecodingKey, KeyError> {
    let unusable = |_| KeyError::PublicKey("it is not an RSA key");
    let der = key.try_get_as_bytes().map_err(unusable)?;
    let (n, e) = (aws_lc::DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key)(der).map_err(unusable)?;
    rsa_numbers(&n, &e)
}

fn rsa_numbers(n: &[u8], e: &[u8]) -> Result<DecodingKey, KeyError> {
    let significant = n.iter().skip_while(|byte| **byte == 0).count();
    if !RSA_BYTES.contains(&significant) {
        return Err(KeyError::PublicKey("its RSA modulus is not of 2048 to 8192 bits"));
    }
    let exponent = e.iter().try_fold(0_u64, |number, byte| number.checked_mul(256)?.checked_add((*byte).into()));
    // With the exponent 1, every message is its own signature.
    if !exponent.is_some_and(|exponent| exponent > 1 && exponent % 2 == 1) {
        return Err(KeyError::PublicKey("its RSA exponent is not an odd number over 1"));
    }
    Ok(DecodingKey::from_rsa_raw_components(&n[n.len() - significant..], e))
}

fn p256(key: &DecodingKey) -> Result<DecodingKey, KeyError> {
    match key.try_get_as_bytes() {
        Ok(point) if point.len() == P256_POINT && point[0] == 4 => Ok(key.clone()),
        _ => Err(KeyError::PublicKey("it is not a point of P-256")),
    }
}

fn ed25519(key: &DecodingKey) -> Result<DecodingKey, KeyError> {
    match key.try_get_as_bytes() {
        Ok(bytes) if bytes.len() == ED25519_KEY => Ok(key.clone()),
        _ => Err(KeyError::PublicKey("it is not an Ed25519 key")),
    }
}
