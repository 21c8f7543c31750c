//! A backend's notification for one user of the message's tenant (for a CRM, its `companyId`). It goes to that user's inbox, and never to a
//! user with the same id of another tenant.

use hubbub_sdk::{
    Message, Result,
    payload::{Id, published_id},
    plugin,
};
use serde::Deserialize;

use crate::{Notifications, general, log::Content};

/// `notification.created`. A missing text is empty, and further fields are ignored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    #[serde(deserialize_with = "published_id")]
    user_id: Id,
    #[serde(rename = "type")]
    kind: Option<String>,
    title: Option<String>,
    message: Option<String>,
    #[serde(default, deserialize_with = "hubbub_sdk::payload::link")]
    link: Option<String>,
}

#[plugin(part)]
impl Notifications {
    #[on_message("notification.created")]
    fn created(message: &Message, created: Created) -> Result<()> {
        let Created { user_id, kind, title, message: text, link } = created;
        let content =
            Content { kind: kind.unwrap_or_default(), title: title.unwrap_or_default(), message: text.unwrap_or_default(), link };
        general::notify(&user_id, message, content)
    }
}
