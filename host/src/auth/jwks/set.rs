//! Parses a JSON Web Key Set. Accepts public signature keys only; an unusable key is skipped with the reason, and the others are
//! used.

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use serde::Deserialize;
use serde_json::Value;

use crate::auth::algorithm::Algorithm;
use crate::auth::keys::{Key, SetError, material};
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
    keys: Vec<Value>,
}

fn read_key(mut member: Value, wanted: Option<Algorithm>) -> Result<Key, String> {
    // `Jwk` takes an object of any type, and has no field for the private part.
    let Some(members) = member.as_object_mut().filter(|members| members.get("kty").is_some_and(Value::is_string)) else {
        return Err("not a JSON Web Key".to_owned());
    };
    let is_private = members.get("d").is_some_and(|private| !private.is_null());
    // Certificates are not used: an invalid one does not make the key unusable.
    members.retain(|name, _| !name.starts_with("x5"));
    let jwk: Jwk = serde_json::from_value(member).map_err(|_| "not a JSON Web Key".to_owned())?;
    if let AlgorithmParameters::OctetKey(_) = jwk.algorithm {
        return Err("a shared secret, which does not belong in a set that others can read".to_owned());
    }
    if is_private {
        return Err("a private key, which everyone who reads the set could sign with".to_owned());
    }
    let common = &jwk.common;
    if common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature)
        || common.key_operations.as_ref().is_some_and(|ops| !ops.contains(&KeyOperations::Verify))
    {
        return Err("not for signatures".to_owned());
    }
    if common.key_id.as_ref().is_some_and(|kid| kid.is_empty() || kid.len() > MAX_KID) {
        return Err("a key id that is empty or too long".to_owned());
    }
    let (algorithm, decoding) = material::public_jwk(&jwk).map_err(|why| why.to_string())?;
    let pinned = KeyAlgorithm::from(jsonwebtoken::Algorithm::from(algorithm));
    if common.key_algorithm.is_some_and(|named| named != pinned) || wanted.is_some_and(|wanted| wanted != algorithm) {
        return Err("of another algorithm".to_owned());
    }
    Ok(Key { kid: jwk.common.key_id, algorithm, decoding })
}
