//! Stored notifications: numbered logs that keep their newest entries, one for each inbox and each channel. Knows nothing of who
//! has read what, and must never be given an id that could reach into another's log.

use std::collections::BTreeMap;

use hubbub_sdk::{
    Json, Refusal, Result, clock,
    payload::Id,
    store::{self, key},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// How many notifications an inbox keeps; each further one takes the oldest away, read or not. A scan has 1000 entries.
pub(crate) const INBOX_KEEPS: i64 = 1000;

/// How many a channel keeps: a user may follow many channels, and one list looks through all of them.
pub(crate) const CHANNEL_KEEPS: i64 = 100;

/// The most bytes of a stored notification, so that a page of the largest fits an answer. A larger one is a failed message.
const MAX_BYTES: usize = 4096;

/// Up to so many notifications are looked up one by one.
const FEW: usize = 16;

/// The most bytes of a store key.
const MAX_KEY: usize = 512;

/// One log, under the escaped name of its owner.
#[derive(Clone)]
pub(crate) struct Log {
    owner: String,
    pub(crate) keeps: i64,
}

/// What a backend wants somebody to know.
pub(crate) struct Content {
    pub(crate) kind: String,
    pub(crate) title: String,
    pub(crate) message: String,
    pub(crate) link: Option<String>,
}

/// A notification as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// Its place in the log, from 1.
    pub(crate) number: i64,
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) title: String,
    pub(crate) message: String,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "hubbub_sdk::payload::link")]
    pub(crate) link: Option<String>,
    /// When it came to be, in milliseconds since 1970, as the backend sees it.
    pub(crate) at: u64,
}

#[derive(Deserialize)]
struct Numbered {
    number: i64,
}

/// A notification's place among those of all logs. Ordered by time, because ids may be the backend's own and sort by nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Place {
    /// When it was stored, in milliseconds since 1970.
    stored: u64,
    pub(crate) number: i64,
    pub(crate) id: String,
}

impl Log {
    /// A user's inbox, in every namespace: another tenant's user of the same id has another.
    pub(crate) fn of_user(tenant: Option<&str>, user: &str) -> Self {
        let owner = match tenant {
            Some(tenant) => key(["member", tenant, user]),
            None => key(["user", user]),
        };
        Self { owner, keeps: INBOX_KEEPS }
    }

    pub(crate) fn of_channel(channel: &str) -> Self {
        Self { owner: key(["channel", channel]), keeps: CHANNEL_KEEPS }
    }

    /// Where the owner's marks are, if it has a single reader.
    pub(crate) fn marks_key(&self) -> String {
        format!("marks/{}", self.owner)
    }

    /// How many it has ever had, which is the newest one's number.
    pub(crate) fn newest(&self) -> Result<i64> {
        Ok(store::counter(&self.count_key())?)
    }

    /// Stores one more and forgets the one that is too many. Absent where a notification of this id is there already.
    ///
    /// The count is read and so checked: two notifications of one log never get the same number.
    pub(crate) fn append(&self, id: &str, at: u64, content: Content) -> Result<Option<Stored>> {
        if self.number(id)?.is_some() {
            return Ok(None);
        }
        let number = self.newest()? + 1;
        let Content { kind, title, message, link } = content;
        let stored = Stored { number, id: id.to_owned(), kind, title, message, link, at };
        let json = Json::of(&stored)?;
        if json.text().len() > MAX_BYTES {
            return Err(Refusal::too_large(format!("A notification has at most {MAX_BYTES} bytes")));
        }
        store::add(&self.count_key(), 1)?;
        store::put(&self.item_key(id), &json)?;
        store::put(&self.place_key(number), &Place { stored: clock::now(), number, id: id.to_owned() })?;
        self.forget(number - self.keeps)?;
        Ok(Some(stored))
    }

    /// The notification of this id, where it is this log's and not forgotten.
    pub(crate) fn find(&self, id: &str) -> Result<Option<Stored>> {
        self.item(id)
    }

    /// Its number alone.
    pub(crate) fn number(&self, id: &str) -> Result<Option<i64>> {
        Ok(self.item::<Numbered>(id)?.map(|one| one.number))
    }

    /// Those of these ids that are this log's, each with its number: up to a thousand, read at once.
    pub(crate) fn numbers<'a>(&self, ids: &'a [Id]) -> Result<Vec<(&'a Id, i64)>> {
        if ids.len() > FEW {
            // Their places are small, and the notifications themselves may be megabytes.
            let known: BTreeMap<String, i64> = self.places()?.map(|place| (place.id, place.number)).collect();
            return Ok(ids.iter().filter_map(|id| Some((id, *known.get(&**id)?))).collect());
        }
        let keys = ids.iter().map(|id| (id, self.item_key(id)));
        // A client's id may be anything; none that was stored has a longer key.
        let (ids, keys): (Vec<_>, Vec<_>) = keys.filter(|(_, key)| key.len() <= MAX_KEY).unzip();
        let found = store::get_many::<Numbered>(&keys)?;
        Ok(ids.into_iter().zip(found).filter_map(|(id, one)| Some((id, one?.number))).collect())
    }

    fn item<T: DeserializeOwned>(&self, id: &str) -> Result<Option<T>> {
        let key = self.item_key(id);
        // A client's id may be anything; none that was stored has a longer key.
        if key.len() > MAX_KEY { Ok(None) } else { Ok(store::get(&key)?) }
    }

    pub(crate) fn place(&self, number: i64) -> Result<Option<Place>> {
        Ok(store::get(&self.place_key(number))?)
    }

    /// Everything that it keeps, newest first.
    pub(crate) fn places(&self) -> Result<impl Iterator<Item = Place> + use<>> {
        let prefix = format!("places/{}/", self.owner);
        let entries = store::prefix(&prefix).reverse().read::<Place>(u32::try_from(self.keeps).unwrap_or(u32::MAX))?;
        Ok(entries.into_iter().map(|entry| entry.value))
    }

    fn forget(&self, number: i64) -> Result<()> {
        if let Some(place) = self.place(number)? {
            store::delete(&self.item_key(&place.id))?;
            store::delete(&self.place_key(number))?;
        }
        Ok(())
    }

    fn count_key(&self) -> String {
        format!("count/{}", self.owner)
    }

    fn item_key(&self, id: &str) -> String {
        format!("items/{}/{}", self.owner, key([id]))
    }

    fn place_key(&self, number: i64) -> String {
        format!("places/{}/{number:020}", self.owner)
    }
}
