//! The attributes of methods: the call of the contract that each one handles.

use syn::{Attribute, ImplItemFn, LitInt, LitStr};

use crate::{
    attribute::Arguments,
    signature::{Answer, Parameter, Signature},
};

/// A method that handles one of the host's calls.
pub(crate) struct Handler {
    pub(crate) call: Call,
    pub(crate) signature: Signature,
}

pub(crate) enum Call {
    Init,
    Authorize { namespaces: Vec<LitStr> },
    Connect { namespaces: Vec<LitStr> },
    Disconnect { namespaces: Vec<LitStr> },
    Event(Box<Event>),
    Message { topic: LitStr },
    Timer { pattern: LitStr },
    Schedule { key: LitStr, every_ms: LitInt, once: bool },
}

pub(crate) struct Event {
    pub(crate) name: LitStr,
    /// Empty: the block's namespaces.
    pub(crate) namespaces: Vec<LitStr>,
    /// The event under which the reply is emitted to the caller; absent: an acknowledgement alone.
    pub(crate) reply: Option<LitStr>,
    pub(crate) invalid: Option<LitStr>,
    pub(crate) on_failure: Option<LitStr>,
    /// The payload's field that is its idempotency key.
    pub(crate) once: Option<LitStr>,
}

/// The handlers that a method's attributes make of it. Removes those attributes.
pub(crate) fn of(method: &mut ImplItemFn) -> syn::Result<Vec<Handler>> {
    let mut handlers = Vec::new();
    let mut kept = Vec::new();
    for attribute in std::mem::take(&mut method.attrs) {
        match read(&attribute)? {
            Some(call) => handlers.push(Handler { call, signature: Signature::of(method)? }),
            None => kept.push(attribute),
        }
    }
    method.attrs = kept;
    if handlers.is_empty() && method.sig.ident == "init" {
        handlers.push(Handler { call: Call::Init, signature: Signature::of(method)? });
    }
    for handler in &handlers {
        check(handler)?;
    }
    Ok(handlers)
}

fn read(attribute: &Attribute) -> syn::Result<Option<Call>> {
    let Some(name) = attribute.path().get_ident().map(ToString::to_string) else { return Ok(None) };
    let known = ["authorize", "on", "on_connect", "on_disconnect", "on_message", "on_timer", "schedule"];
    if !known.contains(&name.as_str()) {
        return Ok(None);
    }
    let mut given = Arguments::of(attribute)?;
    let call = match name.as_str() {
        "authorize" => Call::Authorize { namespaces: given.optional_text().into_iter().collect() },
        "on_connect" => Call::Connect { namespaces: given.optional_text().into_iter().collect() },
        "on_disconnect" => Call::Disconnect { namespaces: given.optional_text().into_iter().collect() },
        "on_message" => Call::Message { topic: given.text("the topic")? },
        "on_timer" => Call::Timer { pattern: given.text("the timer's key")? },
        "schedule" => schedule(&mut given)?,
        _ => Call::Event(Box::new(event(&mut given)?)),
    };
    given.finish()?;
    Ok(Some(call))
}

fn event(given: &mut Arguments) -> syn::Result<Event> {
    let name = given.text("the event's name")?;
    let reply = given.flag("reply")?.map(|other| other.unwrap_or_else(|| name.clone()));
    Ok(Event {
        namespaces: given.namespaces()?,
        reply,
        invalid: given.string("invalid")?,
        on_failure: given.string("on_failure")?,
        once: once(given)?,
        name,
    })
}

fn once(given: &mut Arguments) -> syn::Result<Option<LitStr>> {
    let Some(field) = given.string("once")? else { return Ok(None) };
    if (1..=64).contains(&field.value().len()) {
        return Ok(Some(field));
    }
    Err(syn::Error::new(field.span(), "expected the name of the payload's field, 1 to 64 bytes"))
}

fn schedule(given: &mut Arguments) -> syn::Result<Call> {
    let key = given.text("the schedule's key")?;
    let every_ms = given.number("every_ms")?.ok_or_else(|| given.error("expected `every_ms = …`"))?;
    if every_ms.base10_parse::<u64>()? < 100 {
        return Err(syn::Error::new(every_ms.span(), "a schedule runs every 100 ms at most"));
    }
    let once = match given.word("scope", &["once", "each_node"])? {
        Some(scope) => scope.value() == "once",
        None => return Err(given.error("expected `scope = \"once\"` or `scope = \"each_node\"`")),
    };
    Ok(Call::Schedule { key, every_ms, once })
}

/// Whether the signature fits the call.
fn check(handler: &Handler) -> syn::Result<()> {
    let Handler { call, signature } = handler;
    let (subject, with_caller, payloads, reply) = match call {
        Call::Init => return check_init(signature),
        Call::Authorize { .. } => (None, true, 1, false),
        Call::Connect { .. } | Call::Disconnect { .. } => (None, true, 0, false),
        Call::Event(_) => (Some("Event"), true, 4, true),
        Call::Message { .. } => (Some("Message"), false, 1, false),
        Call::Timer { .. } | Call::Schedule { .. } => (Some("Timer"), false, 1, false),
    };
    for parameter in &signature.parameters {
        match parameter {
            Parameter::Caller(span) | Parameter::User(span) | Parameter::AnyUser(span) if !with_caller => {
                return Err(syn::Error::new(*span, "this call has no caller: it comes from no client"));
            }
            Parameter::Subject(name) if subject.is_none_or(|wanted| name != wanted) => {
                return Err(syn::Error::new(name.span(), format!("this call has no `{name}`")));
            }
            Parameter::Reason(span) if !matches!(call, Call::Disconnect { .. }) => {
                return Err(syn::Error::new(*span, "only `#[on_disconnect]` has a reason"));
            }
            _ => {}
        }
    }
    if let Some(extra) = signature.payloads().nth(payloads) {
        let expected = match payloads {
            0 => "this call has no payload".to_owned(),
            1 => "one payload at most here".to_owned(),
            most => format!("{most} arguments at most"),
        };
        return Err(syn::Error::new_spanned(extra, expected));
    }
    match &signature.answer {
        Answer::Done => Ok(()),
        Answer::Nothing if matches!(call, Call::Disconnect { .. }) => Ok(()),
        Answer::Reply(_) if reply => Ok(()),
        answer => {
            let expected = if reply { "expected `Result<()>` or `Result<Reply>`" } else { "expected `Result<()>`" };
            Err(syn::Error::new(answer.span(&signature.name), expected))
        }
    }?;
    match (call, &signature.answer) {
        (Call::Event(event), Answer::Done) if event.reply.is_some() => {
            Err(syn::Error::new(signature.name.span(), "`reply` wants a handler that returns `Result<Reply>`"))
        }
        (Call::Event(event), _) if event.once.is_some() && signature.payloads().next().is_none() => {
            Err(syn::Error::new(signature.name.span(), "`once` wants a handler with a payload, which has the field"))
        }
        _ => Ok(()),
    }
}

fn check_init(signature: &Signature) -> syn::Result<()> {
    if signature.takes_self || signature.parameters.len() != 1 || signature.payloads().count() != 1 {
        let expected = "expected `fn init(config: Config) -> Result<Self, String>`";
        return Err(syn::Error::new(signature.name.span(), expected));
    }
    match &signature.answer {
        Answer::Other(_) => Ok(()),
        answer => Err(syn::Error::new(answer.span(&signature.name), "expected `-> Result<Self, String>`")),
    }
}
