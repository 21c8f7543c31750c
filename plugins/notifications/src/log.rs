//! Stored notifications: a numbered log for each inbox and each channel, which holds its newest entries. Owners and ids are escaped in
//! keys, so that no id reaches another log. `marks` holds the read marks.

use std::collections::BTreeMap;

use hubbub_sdk::{
    Json, Refusal, Result, clock,
    payload::Id,
    store::{self, key},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The number of notifications that an inbox holds, which is the limit of a scan. A further one deletes the oldest, read or not.
pub(crate) const INBOX_KEEPS: i64 = 1000;

/// The number of notifications that a channel holds. It is small, because one list reads all channels of a user.
pub(crate) const CHANNEL_KEEPS: i64 = 100;

/// The most bytes of a stored notification, so that a page of the largest ones fits a reply. A larger one fails its message.
const MAX_BYTES: usize = 4096;

/// The most notifications that are looked up by their own keys.
const FEW: usize = 16;

/// The most bytes of a store key.
const MAX_KEY: usize = 512;

/// One log. `owner` is escaped.
#[derive(Clone)]
pub(crate) struct Log {
    owner: String,
    pub(crate) keeps: i64,
}

/// The texts of a notification.
pub(crate) struct Content {
    pub(crate) kind: String,
    pub(crate) title: String,
    pub(crate) message: String,
    pub(crate) link: Option<String>,
}

/// A stored notification.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// Its position in the log, from 1.
    pub(crate) number: i64,
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) title: String,
    pub(crate) message: String,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "hubbub_sdk::payload::link")]
    pub(crate) link: Option<String>,
    /// The backend's time, in milliseconds since 1970.
    pub(crate) at: u64,
}

#[derive(Deserialize)]
struct Numbered {
    number: i64,
}

/// A notification's position among those of all logs. It is ordered by time, because the ids of a backend may have no order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The time of the write, in milliseconds since 1970.
    stored: u64,
    pub(crate) number: i64,
    pub(crate) id: String,
}

impl Log {
    /// The inbox of a user within a tenant, for every namespace.
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

    /// The key of an inbox's read marks.
    pub(crate) fn marks_key(&self) -> String {
        format!("marks/{}", self.owner)
    }

    /// The number of the newest notification, and of all that the log has had.
    pub(crate) fn newest(&self) -> Result<i64> {
        store::counter(&self.count_key())
    }

    /// Stores a notification, and deletes the oldest if the log is full. Returns none if the log has this id already.
    ///
    /// The counter is read, and so checked at commit: two notifications of one log never get the same number.
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
        self.delete(number - self.keeps)?;
        Ok(Some(stored))
    }

    /// The notification of this id, if the log holds it.
    pub(crate) fn find(&self, id: &str) -> Result<Option<Stored>> {
        self.item(id)
    }

    /// The number of the notification of this id, if the log holds it.
    pub(crate) fn number(&self, id: &str) -> Result<Option<i64>> {
        Ok(self.item::<Numbered>(id)?.map(|one| one.number))
    }

    /// The ids that the log holds, each with its number. Reads up to a thousand at once.
    pub(crate) fn numbers<'a>(&self, ids: &'a [Id]) -> Result<Vec<(&'a Id, i64)>> {
        if ids.len() > FEW {
            // Places are small, and a thousand notifications may be megabytes.
            let known: BTreeMap<String, i64> = self.places()?.map(|place| (place.id, place.number)).collect();
            return Ok(ids.iter().filter_map(|id| Some((id, *known.get(&**id)?))).collect());
        }
        let keys = ids.iter().map(|id| (id, self.item_key(id)));
        // A client's id may be of any length, and no stored one has a longer key.
        let (ids, keys): (Vec<_>, Vec<_>) = keys.filter(|(_, key)| key.len() <= MAX_KEY).unzip();
        let found = store::get_many::<Numbered>(&keys)?;
        Ok(ids.into_iter().zip(found).filter_map(|(id, one)| Some((id, one?.number))).collect())
    }

    fn item<T: DeserializeOwned>(&self, id: &str) -> Result<Option<T>> {
        let key = self.item_key(id);
        // A client's id may be of any length, and no stored one has a longer key.
        if key.len() > MAX_KEY { Ok(None) } else { store::get(&key) }
    }

    pub(crate) fn place(&self, number: i64) -> Result<Option<Place>> {
        store::get(&self.place_key(number))
    }

    /// The places of all notifications in the log, newest first.
    pub(crate) fn places(&self) -> Result<impl Iterator<Item = Place> + use<>> {
        let prefix = format!("places/{}/", self.owner);
        let entries = store::prefix(&prefix).reverse().read::<Place>(u32::try_from(self.keeps).unwrap_or(u32::MAX))?;
        Ok(entries.into_iter().map(|entry| entry.value))
    }

    fn delete(&self, number: i64) -> Result<()> {
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
