//! `notification.created`: a backend's notification of one user. Puts it into the one inbox it is meant for, and must never show
//! a company's to anyone outside it.

use hubbub_sdk::{
    Message, Result,
    payload::{Id, published_id},
};
use serde::Deserialize;

use crate::{company, general, log::Content};

/// The topic's data. What a backend leaves out of the texts is empty; what it adds is ignored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Created {
    #[serde(deserialize_with = "published_id")]
    user_id: Id,
    #[serde(default, deserialize_with = "published_id")]
    company_id: Option<Id>,
    #[serde(rename = "type")]
    kind: Option<String>,
    title: Option<String>,
    message: Option<String>,
    link: Option<String>,
}

pub(crate) fn created(message: &Message, created: Created) -> Result<()> {
    let Created { user_id, company_id, kind, title, message: text, link } = created;
    let content =
        Content { kind: kind.unwrap_or_default(), title: title.unwrap_or_default(), message: text.unwrap_or_default(), link };
    match company_id.as_deref().or(message.tenant.as_deref()) {
        Some(company) => company::notify(company, &user_id, message, content),
        None => general::notify(&user_id, message, content),
    }
}
