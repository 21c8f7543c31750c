//! `notification.created`: a backend's notification of one user, of the message's tenant (for a CRM, its `companyId`). Puts it into
//! that user's inbox, and must never show it to a user of the same id of another tenant.

use hubbub_sdk::{
    Message, Result,
    payload::{Id, published_id},
};
use serde::Deserialize;

use crate::{general, log::Content};

/// The topic's data. What a backend leaves out of the texts is empty; what it adds is ignored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Created {
    #[serde(deserialize_with = "published_id")]
    user_id: Id,
    #[serde(rename = "type")]
    kind: Option<String>,
    title: Option<String>,
    message: Option<String>,
    #[serde(default, deserialize_with = "hubbub_sdk::payload::link")]
    link: Option<String>,
}

pub(crate) fn created(message: &Message, created: Created) -> Result<()> {
    let Created { user_id, kind, title, message: text, link } = created;
    let content =
        Content { kind: kind.unwrap_or_default(), title: title.unwrap_or_default(), message: text.unwrap_or_default(), link };
    general::notify(&user_id, message, content)
}
