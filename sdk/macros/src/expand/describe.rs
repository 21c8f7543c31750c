//! The description: the attributes as the host reads them. The own block makes it, and every part adds to it.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{LitStr, spanned::Spanned};

use crate::{
    handler::{Call, Event, Handler},
    model::{Door, Identity, Model, Namespace, Rooms},
    signature::{Answer, Signature},
};

/// The sentences of a door that states none.
const MISSING: &str = "Authentication required";
const INVALID: &str = "Invalid token";
const FORBIDDEN: &str = "Forbidden";

/// The description before any part has added to it.
pub(super) fn identity(identity: &Identity) -> TokenStream {
    let name = &identity.name;
    let version = match &identity.version {
        Some(version) => quote!(#version),
        None => quote!(::core::env!("CARGO_PKG_VERSION")),
    };
    let data_version = match &identity.data_version {
        Some(version) => quote!(#version),
        None => quote!(1),
    };
    let reads = &identity.reads_data_versions;
    let tenancy = match identity.tenancy.as_str() {
        "required" => quote!(Required),
        "optional" => quote!(Optional),
        _ => quote!(None),
    };
    let namespaces = identity.namespaces.iter().map(namespace);
    let takes =
        identity.takes.iter().map(|(from, prefix)| quote!(glue::handler::Taken { from: #from.into(), prefix: #prefix.into() }));
    quote! {
        glue::handler::Description {
            name: #name.into(),
            version: ::std::string::String::from(#version),
            data_version: #data_version,
            reads_data_versions: ::std::vec![#(#reads),*],
            tenancy: glue::handler::Tenancy::#tenancy,
            namespaces: ::std::vec![#(#namespaces),*],
            rooms: ::std::vec![],
            events: ::std::vec![],
            emits: ::std::vec![],
            topics: ::std::vec![],
            schedules: ::std::vec![],
            hooks: glue::handler::Hooks::empty(),
            takes: ::std::vec![#(#takes),*],
            tenant_keys: ::std::vec![],
        }
    }
}

fn namespace(namespace: &Namespace) -> TokenStream {
    let path = &namespace.path;
    let door = match &namespace.door {
        Some(own) => {
            let door = door(namespace, own);
            quote!(::core::option::Option::Some(#door))
        }
        None => quote!(::core::option::Option::None),
    };
    quote!(glue::handler::Namespace { path: #path.into(), door: #door })
}

fn door(namespace: &Namespace, door: &Door) -> TokenStream {
    let token = if door.token_required { quote!(Required) } else { quote!(Optional) };
    let (claims, roles) = (&door.claims, &door.roles);
    let sentence = |own: &Option<LitStr>, default: &str| own.as_ref().map_or(quote!(#default), |own| quote!(#own));
    let missing = sentence(&namespace.missing, MISSING);
    let invalid = sentence(&door.invalid, INVALID);
    let forbidden = sentence(&door.forbidden, FORBIDDEN);
    quote! {
        glue::handler::Door {
            token: glue::handler::TokenPolicy::#token,
            claims: glue::strings(&[#(#claims),*]),
            roles: glue::strings(&[#(#roles),*]),
            missing: #missing.into(),
            invalid: #invalid.into(),
            forbidden: #forbidden.into(),
            authorize: false,
        }
    }
}

/// The statements that add a block's rooms, events, emits, topics and schedules.
pub(super) fn part(model: &Model) -> syn::Result<TokenStream> {
    let rooms = model.rooms.iter().map(|rooms| match rooms {
        Rooms::Pattern(namespace, pattern) => {
            quote!(glue::rooms(description, &::hubbub_sdk::rooms::Room::new(#namespace, #pattern));)
        }
        Rooms::Constant(path) => quote_spanned!(path.span()=> glue::rooms(description, &#path);),
    });
    let emits = model.emits.iter().map(|path| quote_spanned!(path.span()=> glue::emits(description, #path);));
    let handlers: Vec<TokenStream> = model.handlers.iter().map(|handler| handler_of(model, handler)).collect::<Result<_, _>>()?;
    let tenant_keys = model.tenant_keys.iter().map(|(without, with)| {
        let with = with.as_ref().map_or_else(|| format!("%t/{{tenant}}/{}", without.value()), LitStr::value);
        quote!(description.tenant_keys.push(glue::handler::TenantKeys { without: #without.into(), with: #with.into() });)
    });
    Ok(quote!(#(#rooms)* #(#emits)* #(#handlers)* #(#tenant_keys)*))
}

fn handler_of(model: &Model, Handler { call, signature }: &Handler) -> syn::Result<TokenStream> {
    Ok(match call {
        Call::Init | Call::Timer { .. } => TokenStream::new(),
        Call::Authorize { namespaces } => {
            let namespaces = model.namespaces(namespaces, &signature.name)?;
            quote!(#(glue::authorizes(description, #namespaces);)*)
        }
        Call::Connect { .. } => quote!(description.hooks |= glue::handler::Hooks::CONNECT;),
        Call::Disconnect { .. } => quote!(description.hooks |= glue::handler::Hooks::DISCONNECT;),
        Call::Event(event) => {
            let namespaces = model.namespaces(&event.namespaces, &signature.name)?;
            namespaces.iter().map(|namespace| event_of(namespace, event, signature)).collect()
        }
        Call::Message { topic } => quote!(glue::topic(description, #topic);),
        Call::Schedule { key, every_ms, once } => {
            let scope = if *once { quote!(Once) } else { quote!(EachNode) };
            quote! {
                description.schedules.push(glue::handler::Schedule {
                    key: #key.into(),
                    every_ms: #every_ms,
                    scope: glue::handler::ScheduleScope::#scope,
                });
            }
        }
    })
}

fn event_of(namespace: &LitStr, event: &Event, signature: &Signature) -> TokenStream {
    let Event { name, on_failure, reply: under, once, .. } = event;
    let payload = match signature.payloads().next() {
        Some(ty) => quote_spanned!(ty.span()=> glue::payload_schema::<#ty>()),
        None => quote!("true".into()),
    };
    let reply = match &signature.answer {
        Answer::Reply(ty) => quote_spanned!(ty.span()=> ::core::option::Option::Some(glue::reply_schema::<#ty>())),
        _ => quote!(::core::option::Option::None),
    };
    // A reply that is emitted to the sender is an emitted event too.
    let emitted = match (under, &signature.answer) {
        (Some(under), Answer::Reply(ty)) => quote_spanned! {ty.span()=>
            description.emits.push(glue::handler::EmittedEvent {
                namespace: #namespace.into(),
                name: #under.into(),
                payload: glue::reply_schema::<#ty>(),
            });
        },
        _ => TokenStream::new(),
    };
    let optional = |text: &Option<LitStr>| match text {
        Some(text) => quote!(::core::option::Option::Some(#text.into())),
        None => quote!(::core::option::Option::None),
    };
    let (on_failure, once) = (optional(on_failure), optional(once));
    quote! {
        description.events.push(glue::handler::HandledEvent {
            namespace: #namespace.into(),
            name: #name.into(),
            payload: #payload,
            reply: #reply,
            on_failure: #on_failure,
            once: #once,
        });
        #emitted
    }
}
