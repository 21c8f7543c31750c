//! A company's conversations, their rooms, and the product's own events.

use hubbub_sdk::{
    Json, Message, Refusal, Result, User,
    emitter::{self, Emits},
    payload::{Id, IdOr, published_id},
    plugin,
    rooms::Room,
    store::{self, key},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::{Crm, NAMESPACE};

const COMPANY: Room = Room::new(NAMESPACE, "company:{id}");
pub(crate) const CONVERSATION: Room = Room::new(NAMESPACE, "conversation:{id}");

const UPDATED: Emits<Json<Conversation>> = Emits::new(NAMESPACE, "conversation:updated");
const TYPING: Emits<Typing> = Emits::new(NAMESPACE, "conversation:typing");

/// The bare id, or `{conversationId}`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConversationId {
    conversation_id: Id,
}

impl From<Id> for ConversationId {
    fn from(conversation_id: Id) -> Self {
        Self { conversation_id }
    }
}

/// `conversation.upserted`. It is sent to clients as published, with all its fields.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Conversation {
    #[serde(deserialize_with = "published_id")]
    conversation_id: Id,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Typing {
    user_id: String,
    user_name: String,
}

/// `crm.event`: any event of the product.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProductEvent {
    event: String,
    to: To,
    data: Option<Json<IgnoredAny>>,
}

/// `{company: true}`, `{conversation: id}` or `{user: id}`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum To {
    Company(bool),
    Conversation(#[serde(deserialize_with = "published_id")] Id),
    User(#[serde(deserialize_with = "published_id")] Id),
}

/// The stored value of a conversation. Its key says all there is to know: the conversation belongs to the company.
#[derive(Serialize, Deserialize)]
struct Known {}

#[plugin(part, namespace = "/conversations")]
#[rooms(COMPANY, CONVERSATION)]
#[emits(UPDATED, TYPING)]
impl Crm {
    #[on_connect]
    fn enter_company(user: &User) -> Result<()> {
        COMPANY.of(company(user)?).join()
    }

    #[on("join:conversation")]
    fn join(user: &User, IdOr(ConversationId { conversation_id }): IdOr<ConversationId>) -> Result<()> {
        if !is_known(company(user)?, &conversation_id)? {
            return Err(not_found());
        }
        CONVERSATION.of(&conversation_id).join()
    }

    #[on("leave:conversation")]
    fn leave(IdOr(ConversationId { conversation_id }): IdOr<ConversationId>) -> Result<()> {
        CONVERSATION.of(&conversation_id).leave()
    }

    /// The room includes the sender. A user outside the room gets the same refusal as a user of another company.
    #[on("conversation:typing")]
    fn typing(user: &User, IdOr(ConversationId { conversation_id }): IdOr<ConversationId>) -> Result<()> {
        let room = CONVERSATION.of(&conversation_id);
        if !room.joined()? {
            return Err(not_found());
        }
        let user_name = user.email.as_deref().unwrap_or(user.display_name()).to_owned();
        TYPING.volatile().to_room(&room, &Typing { user_id: user.id.clone(), user_name })
    }

    #[on_message("conversation.upserted")]
    fn upserted(message: &Message, conversation: Json<Conversation>) -> Result<()> {
        let company = company_of(message)?;
        make_known(company, &conversation.value()?.conversation_id)?;
        UPDATED.to_room(&COMPANY.of(company), &conversation)
    }

    /// Fails if Socket.IO reserves the event's name.
    #[on_message("crm.event")]
    fn product_event(message: &Message, ProductEvent { event, to, data }: ProductEvent) -> Result<()> {
        let room = match to {
            To::Company(true) => COMPANY.of(company_of(message)?),
            To::Company(false) => return Err(Refusal::invalid("to.company: must be true")),
            To::Conversation(id) => CONVERSATION.of(&id),
            To::User(id) => return emitter::to_user(NAMESPACE, &id, &event, &data),
        };
        emitter::to_room(NAMESPACE, &room, &event, &data)
    }
}

/// The user's company. The host refuses connections without one.
pub(crate) fn company(user: &User) -> Result<&str> {
    user.tenant.as_deref().ok_or_else(|| Refusal::unauthenticated("Invalid or expired token"))
}

/// The message's company. The host delivers no message without one.
pub(crate) fn company_of(message: &Message) -> Result<&str> {
    message.tenant.as_deref().ok_or_else(|| Refusal::invalid("companyId: missing"))
}

pub(crate) fn not_found() -> Refusal {
    Refusal::not_found("Conversation not found")
}

pub(crate) fn is_known(company: &str, conversation: &str) -> Result<bool> {
    Ok(store::get::<Known>(&conversation_key(company, conversation))?.is_some())
}

/// Stores a conversation that is new. A message of a known conversation writes nothing here.
pub(crate) fn make_known(company: &str, conversation: &str) -> Result<()> {
    if is_known(company, conversation)? {
        return Ok(());
    }
    store::put(&conversation_key(company, conversation), &Known {})
}

fn conversation_key(company: &str, conversation: &str) -> String {
    key(["crm", company, "conversations", conversation])
}
