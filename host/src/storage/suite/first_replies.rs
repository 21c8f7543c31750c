//! First replies: stored once for each owner and key, for a time, up to limits of bytes.

use super::*;

/// Everything is new enough.
const EVER: u64 = 0;

/// Nothing is new enough.
const NEVER: u64 = 1 << 60;

/// A set with a put and a reply of 128 + 1 + 2 + 10 bytes.
fn set(owner: &str, key: &str, since_ms: u64) -> WriteSet {
    let bounds = FirstReplyBounds { since_ms, owner_bytes: 10 * 141, plugin_bytes: 20 * 141 };
    let reply = Bytes::from(format!("reply {owner} {key}"));
    let first = FirstReply { owner: owner.to_owned(), key: key.to_owned(), reply, bounds };
    assert_eq!(first.bytes(), 141);
    WriteSet { first_reply: Some(first), ..writes([append("log:", key)]) }
}

async fn is_stored(storage: &dyn Storage, owner: &str, key: &str) -> bool {
    let reply = storage.first_reply(owner, key, EVER).await.unwrap();
    reply.inspect(|reply| assert_eq!(reply, &format!("reply {owner} {key}"))).is_some()
}

pub(crate) async fn a_first_reply_is_stored_once(storage: Arc<dyn Storage>) {
    let together =
        [("a", "k1"), ("a", "k1"), ("a", "k2"), ("b", "k1")].map(|(owner, key)| commit(&*storage, set(owner, key, EVER)));
    let outcomes = futures_util::future::join_all(together).await;
    assert!(matches!(outcomes[..], [Ok(()), Err(CommitError::Conflict), Ok(()), Ok(())]), "{outcomes:?}");
    assert!(matches!(commit(&*storage, set("b", "k1", EVER)).await, Err(CommitError::Conflict)));
    assert!(is_stored(&*storage, "a", "k1").await && is_stored(&*storage, "b", "k1").await);
    assert!(!is_stored(&*storage, "b", "k2").await);
    assert_eq!(keys_of(&*storage, "log:", "", 10, false).await.len(), 3, "a conflict writes nothing");
    assert_eq!(storage.size(&plugin("chat")).await.unwrap(), 3 * (4 + 20 + 2), "replies are the host's");
}

pub(crate) async fn a_first_reply_that_is_too_old_is_replaced(storage: Arc<dyn Storage>) {
    commit(&*storage, set("a", "k1", EVER)).await.unwrap();
    commit(&*storage, set("a", "k2", EVER)).await.unwrap();
    assert_eq!(storage.first_reply("a", "k1", NEVER).await.unwrap(), None);
    // The same key is new again, and others that are too old are deleted.
    let replaced = set("a", "k1", NEVER);
    commit(&*storage, replaced).await.unwrap();
    assert!(!is_stored(&*storage, "a", "k2").await);
    assert_eq!(keys_of(&*storage, "log:", "", 10, false).await.len(), 3);
    assert_eq!(storage.stats().first_replies_dropped, 0);
}

pub(crate) async fn past_their_bytes_the_oldest_first_replies_are_dropped(storage: Arc<dyn Storage>) {
    for n in 10..20 {
        commit(&*storage, set("a", &n.to_string(), EVER)).await.unwrap();
    }
    assert!(is_stored(&*storage, "a", "10").await, "ten fit");
    commit(&*storage, set("a", "20", EVER)).await.unwrap();
    assert!(!is_stored(&*storage, "a", "10").await && is_stored(&*storage, "a", "11").await);
    // Other owners count for the plugin: twenty fit.
    for n in 10..20 {
        commit(&*storage, set("b", &n.to_string(), EVER)).await.unwrap();
    }
    assert!(is_stored(&*storage, "a", "11").await);
    commit(&*storage, set("c", "10", EVER)).await.unwrap();
    assert!(!is_stored(&*storage, "a", "11").await && is_stored(&*storage, "a", "12").await);
    assert!(is_stored(&*storage, "b", "10").await);
    assert_eq!(storage.stats().first_replies_dropped, 2);
}
