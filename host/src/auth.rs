//! Authentication: tokens, keys and key sets, door policies, and logins with the admin token or an API key. Independent of
//! sockets.

pub mod algorithm;
pub mod config;
pub mod door_policy;
pub mod jwks;
pub mod key_loader;
pub mod keyring;
pub mod keys;
pub mod logins;
pub mod sign;
pub mod token;
