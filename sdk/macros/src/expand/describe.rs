//! The description: what the attributes say, as the host reads it.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{LitStr, spanned::Spanned};

use crate::{
    handler::{Call, Event, Handler},
    model::{Door, Model, Namespace},
    signature::Answer,
};

/// The sentences of a door that says none of its own.
const MISSING: &str = "Authentication required";
const INVALID: &str = "Invalid token";
const FORBIDDEN: &str = "Forbidden";

pub(super) fn describe(model: &Model) -> TokenStream {
    let name = &model.name;
    let version = match &model.version {
        Some(version) => quote!(#version),
        None => quote!(::core::env!("CARGO_PKG_VERSION")),
    };
    let data_version = match &model.data_version {
        Some(version) => quote!(#version),
        None => quote!(1),
    };
    let reads = &model.reads_data_versions;
    let tenancy = match model.tenancy.as_str() {
        "required" => quote!(Required),
        "optional" => quote!(Optional),
        _ => quote!(None),
    };
    let namespaces = model.namespaces.iter().map(|known| namespace(model, known));
    let rooms = model.rooms.iter().map(
        |(namespace, pattern)| quote!(glue::handler::RoomPattern { namespace: #namespace.into(), pattern: #pattern.into() }),
    );
    let events = model.handlers.iter().filter_map(|handler| event(model, handler));
    let replies = model.handlers.iter().filter_map(|handler| reply(model, handler));
    let emits = model.emits.iter().map(|path| quote_spanned!(path.span()=> glue::emitted(#path)));
    let topics = model.calls().filter_map(|call| match call {
        Call::Message { topic } => Some(topic),
        _ => None,
    });
    let schedules = model.calls().filter_map(schedule);
    let hooks = hooks(model);
    let takes =
        model.takes.iter().map(|(from, prefix)| quote!(glue::handler::Taken { from: #from.into(), prefix: #prefix.into() }));
    let tenant_keys = model.tenant_keys.iter().map(|(without, with)| {
        let with = with.as_ref().map_or_else(|| format!("%t/{{tenant}}/{}", without.value()), LitStr::value);
        quote!(glue::handler::TenantKeys { without: #without.into(), with: #with.into() })
    });
    quote! {
        glue::handler::Description {
            name: #name.into(),
            version: ::std::string::String::from(#version),
            data_version: #data_version,
            reads_data_versions: ::std::vec![#(#reads),*],
            tenancy: glue::handler::Tenancy::#tenancy,
            namespaces: ::std::vec![#(#namespaces),*],
            rooms: ::std::vec![#(#rooms),*],
            events: ::std::vec![#(#events),*],
            emits: ::std::vec![#(#emits,)* #(#replies),*],
            topics: glue::strings(&[#(#topics),*]),
            schedules: ::std::vec![#(#schedules),*],
            hooks: #hooks,
            takes: ::std::vec![#(#takes),*],
            tenant_keys: ::std::vec![#(#tenant_keys),*],
        }
    }
}

fn namespace(model: &Model, known: &Namespace) -> TokenStream {
    let path = &known.path;
    let door = match &known.door {
        Some(own) => {
            let door = door(model, known, own);
            quote!(::core::option::Option::Some(#door))
        }
        None => quote!(::core::option::Option::None),
    };
    quote!(glue::handler::Namespace { path: #path.into(), door: #door })
}

fn door(model: &Model, known: &Namespace, door: &Door) -> TokenStream {
    let token = if door.token_required { quote!(Required) } else { quote!(Optional) };
    let (claims, roles) = (&door.claims, &door.roles);
    let sentence = |own: &Option<LitStr>, default: &str| own.as_ref().map_or(quote!(#default), |own| quote!(#own));
    let missing = sentence(&door.missing, MISSING);
    let invalid = sentence(&door.invalid, INVALID);
    let forbidden = sentence(&door.forbidden, FORBIDDEN);
    let authorize = model.calls().any(|call| match call {
        Call::Authorize { namespace } => namespace.value() == known.path.value(),
        _ => false,
    });
    quote! {
        glue::handler::Door {
            token: glue::handler::TokenPolicy::#token,
            claims: glue::strings(&[#(#claims),*]),
            roles: glue::strings(&[#(#roles),*]),
            missing: #missing.into(),
            invalid: #invalid.into(),
            forbidden: #forbidden.into(),
            authorize: #authorize,
        }
    }
}

fn event(model: &Model, handler: &Handler) -> Option<TokenStream> {
    let Call::Event(event) = &handler.call else { return None };
    let Event { name, on_failure, .. } = &**event;
    let namespace = super::namespace(model, event.namespace.as_ref());
    let payload = match handler.signature.payloads().next() {
        Some(ty) => quote_spanned!(ty.span()=> glue::payload_schema::<#ty>()),
        None => quote!("true".into()),
    };
    let reply = match &handler.signature.answer {
        Answer::Reply(ty) => quote_spanned!(ty.span()=> ::core::option::Option::Some(glue::reply_schema::<#ty>())),
        _ => quote!(::core::option::Option::None),
    };
    let on_failure = match on_failure {
        Some(sentence) => quote!(::core::option::Option::Some(#sentence.into())),
        None => quote!(::core::option::Option::None),
    };
    Some(quote! {
        glue::handler::HandledEvent {
            namespace: #namespace.into(),
            name: #name.into(),
            payload: #payload,
            reply: #reply,
            on_failure: #on_failure,
        }
    })
}

/// A reply that is emitted to the sender is an emitted event too.
fn reply(model: &Model, handler: &Handler) -> Option<TokenStream> {
    let Call::Event(event) = &handler.call else { return None };
    let (Some(under), Answer::Reply(ty)) = (&event.reply, &handler.signature.answer) else { return None };
    let namespace = super::namespace(model, event.namespace.as_ref());
    Some(quote_spanned! {ty.span()=>
        glue::handler::EmittedEvent {
            namespace: #namespace.into(),
            name: #under.into(),
            payload: glue::reply_schema::<#ty>(),
        }
    })
}

fn schedule(call: &Call) -> Option<TokenStream> {
    let Call::Schedule { key, every_ms, once } = call else { return None };
    let scope = if *once { quote!(Once) } else { quote!(EachNode) };
    Some(quote! {
        glue::handler::Schedule { key: #key.into(), every_ms: #every_ms, scope: glue::handler::ScheduleScope::#scope }
    })
}

fn hooks(model: &Model) -> TokenStream {
    let connect = model.calls().any(|call| matches!(call, Call::Connect { .. }));
    let disconnect = model.calls().any(|call| matches!(call, Call::Disconnect { .. }));
    let connect = connect.then(|| quote!(| glue::handler::Hooks::CONNECT));
    let disconnect = disconnect.then(|| quote!(| glue::handler::Hooks::DISCONNECT));
    quote!(glue::handler::Hooks::empty() #connect #disconnect)
}
