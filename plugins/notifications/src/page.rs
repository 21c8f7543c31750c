//! A page of notifications from several logs, newest first. This file only reads; the namespaces decide which fields they show.

use hubbub_sdk::{Refusal, Result, payload::Id};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    log::{Log, Place, Stored},
    marks::Marks,
};

/// The most notifications of a page, and their number if the client asks for none.
const MAX_PAGE: usize = 100;
const DEFAULT_PAGE: usize = 50;

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PageRequest {
    /// Whether to leave out read notifications. Default: false.
    unread_only: Option<bool>,
    /// The id of the oldest notification of the last page: this page begins with the next older one.
    before: Option<Id>,
    /// 1–100. Default: 50.
    limit: Option<usize>,
}

/// A log, and the reader's marks in it.
pub(crate) struct Source {
    pub(crate) log: Log,
    pub(crate) marks: Marks,
}

/// A notification, and the time of reading.
pub(crate) struct Found {
    pub(crate) notification: Stored,
    pub(crate) read_at: Option<u64>,
}

pub(crate) fn not_found() -> Refusal {
    Refusal::not_found("Notification not found")
}

/// The number of all unread notifications, on any page.
pub(crate) fn unread(sources: &[Source]) -> Result<i64> {
    sources.iter().map(|source| source.marks.unread(&source.log)).sum()
}

/// The requested page. All places are read, which are a few bytes each; texts are read only for the page.
pub(crate) fn read(sources: &[Source], asked: &PageRequest) -> Result<Vec<Found>> {
    let before = asked.before.as_ref().map(|id| place_of(sources, id)).transpose()?;
    let mut places = Vec::new();
    for source in sources {
        let wanted = |place: &Place| {
            source.marks.is_theirs(place.number)
                && before.as_ref().is_none_or(|before| place < before)
                && !(asked.unread_only == Some(true) && source.marks.read_at(place.number).is_some())
        };
        places.extend(source.log.places()?.filter(wanted).map(|place| (place, source)));
    }
    places.sort_unstable_by(|(one, _), (other, _)| other.cmp(one));
    places.truncate(asked.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE));
    let mut page = Vec::with_capacity(places.len());
    for (place, source) in places {
        // Another call may have deleted the notification since the scan.
        if let Some(notification) = source.log.find(&place.id)? {
            page.push(Found { read_at: source.marks.read_at(place.number), notification });
        }
    }
    Ok(page)
}

fn place_of(sources: &[Source], id: &str) -> Result<Place> {
    for source in sources {
        if let Some(number) = source.log.number(id)?.filter(|number| source.marks.is_theirs(*number)) {
            return source.log.place(number)?.ok_or_else(not_found);
        }
    }
    Err(not_found())
}
