//! Parses a JSON Web Key Set. Accepts public signature keys only; an unusable key is skipped with the reason, and the others are
//! used.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::auth::algorithm::Algorithm;
use crate::auth::keys::{Key, KeyError, SetError, material};
use crate::auth::token::MAX_KID;

/// The most keys of one set, skipped ones included. A larger set is refused.
const MAX_KEYS: usize = 32;

/// Parses a set. With `wanted`, keys of other algorithms are skipped. Also returns why keys were skipped.
pub(crate) fn parse(body: &[u8], wanted: Option<Algorithm>) -> Result<(Vec<Key>, Vec<String>), SetError> {
    let set: Set = serde_json::from_slice(body).map_err(|_| SetError::NotASet)?;
    if set.keys.len() > MAX_KEYS {
        return Err(SetError::TooManyKeys(MAX_KEYS));
    }
    let mut keys = Vec::new();
    let mut skipped = Vec::new();
    for (index, member) in set.keys.into_iter().enumerate() {
        match read_key(member, wanted) {
            Ok(key) => keys.push(key),
            Err(why) => skipped.push(format!("key {index}: {why}")),
        }
    }
    if keys.is_empty() {
        return Err(SetError::NoUsableKey(skipped.join(", ")));
    }
    Ok((keys, skipped))
}

#[derive(Deserialize)]
struct Set {
    /// Each key is parsed by itself, so that an unknown kind does not make the set unreadable.
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// The private part, which must be absent.
    d: Option<IgnoredAny>,
}

fn read_key(member: serde_json::Value, wanted: Option<Algorithm>) -> Result<Key, String> {
    let jwk: Jwk = serde_json::from_value(member).map_err(|_| "not a JSON Web Key".to_owned())?;
    if jwk.kty == "oct" {
        return Err("a shared secret, which does not belong in a set that others can read".to_owned());
    }
    if jwk.d.is_some() {
        return Err("a private key, which everyone who reads the set could sign with".to_owned());
    }
    if jwk.usage.as_deref().is_some_and(|usage| usage != "sig")
        || jwk.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify"))
    {
        return Err("not for signatures".to_owned());
    }
    if jwk.kid.as_ref().is_some_and(|kid| kid.is_empty() || kid.len() > MAX_KID) {
        return Err("a key id that is empty or too long".to_owned());
    }
    let (algorithm, decoding) = read_material(&jwk)?.map_err(|why| why.to_string())?;
    let pinned = |name: &String| Algorithm::from_name(name) == Some(algorithm);
    if !jwk.alg.as_ref().is_none_or(pinned) || wanted.is_some_and(|wanted| wanted != algorithm) {
        return Err("of another algorithm".to_owned());
    }
    Ok(Key { kid: jwk.kid, algorithm, decoding })
}

type Material = Result<(Algorithm, jsonwebtoken::DecodingKey), KeyError>;

fn read_material(jwk: &Jwk) -> Result<Material, String> {
    Ok(match (jwk.kty.as_str(), jwk.crv.as_deref(), jwk) {
        ("RSA", _, Jwk { n: Some(n), e: Some(e), .. }) => material::rsa(n, e),
        ("EC", Some("P-256"), Jwk { x: Some(x), y: Some(y), .. }) => material::ec(x, y),
        ("OKP", Some("Ed25519"), Jwk { x: Some(x), .. }) => material::ed(x),
        _ => return Err("neither RSA, P-256 nor Ed25519, or incomplete".to_owned()),
    })
}
