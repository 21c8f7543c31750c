//! From the model to Rust: the block as it was, and beside it the `Plugin` implementation and its export. Types of the user's
//! keep their own spans, so that a missing derive is an error where the type is written.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{LitStr, Type, spanned::Spanned};

use crate::{
    handler::{Call, Event, Handler},
    model::{Door, Model},
    signature::{Answer, Parameter},
};

mod describe;

pub(crate) fn expand(model: &Model) -> TokenStream {
    let plugin = model.plugin();
    let block = &model.block;
    let describe = describe::describe(model);
    let init = init(model);
    let places = places(model);
    let authorize = by_namespace(model, |call| matches!(call, Call::Authorize { .. }));
    let connect = by_namespace(model, |call| matches!(call, Call::Connect { .. }));
    let disconnect = by_namespace(model, |call| matches!(call, Call::Disconnect { .. }));
    let events = events(model);
    let messages = messages(model);
    let timers = timers(model);
    quote! {
        #block

        const _: () = {
            use ::hubbub_sdk::glue;

            const PLACES: &[glue::Place] = &[#(#places),*];

            #[allow(unused_variables)]
            impl ::hubbub_sdk::Plugin for #plugin {
                fn describe() -> glue::handler::Description {
                    #describe
                }

                fn init(config: &str) -> ::core::result::Result<Self, ::std::string::String> {
                    #init
                }

                fn authorize(&self, caller: glue::types::Caller, auth: ::std::string::String) -> ::hubbub_sdk::Result<()> {
                    let (caller, place) = glue::caller(PLACES, caller)?;
                    match place.path { #(#authorize)* _ => ::core::result::Result::Ok(()) }
                }

                fn on_connect(&self, caller: glue::types::Caller) -> ::hubbub_sdk::Result<()> {
                    let (caller, place) = glue::caller(PLACES, caller)?;
                    match place.path { #(#connect)* _ => ::core::result::Result::Ok(()) }
                }

                fn on_event(&self, caller: glue::types::Caller, event: glue::handler::Event)
                    -> ::hubbub_sdk::Result<::core::option::Option<::std::string::String>>
                {
                    let (caller, place) = glue::caller(PLACES, caller)?;
                    match (place.path, event.name.as_str()) {
                        #(#events)*
                        _ => ::core::result::Result::Err(glue::unknown_event()),
                    }
                }

                fn on_disconnect(&self, caller: glue::types::Caller, reason: glue::handler::DisconnectReason) {
                    let handled = (|| -> ::hubbub_sdk::Result<()> {
                        let (caller, place) = glue::caller(PLACES, caller)?;
                        match place.path { #(#disconnect)* _ => ::core::result::Result::Ok(()) }
                    })();
                    if let ::core::result::Result::Err(refusal) = handled {
                        glue::failed_disconnect(&refusal);
                    }
                }

                fn on_message(&self, message: glue::handler::Message) -> ::hubbub_sdk::Result<()> {
                    match message.topic.as_str() {
                        #(#messages)*
                        topic => ::core::result::Result::Err(glue::unknown("topic", topic)),
                    }
                }

                fn on_timer(&self, timer: glue::handler::DueTimer) -> ::hubbub_sdk::Result<()> {
                    #(#timers)*
                    ::core::result::Result::Err(glue::unknown("timer", &timer.key))
                }
            }
        };

        #[cfg(target_arch = "wasm32")]
        ::hubbub_sdk::export_plugin!(#plugin);
    }
}

fn init(model: &Model) -> TokenStream {
    let with_config = model.handlers.iter().find(|handler| matches!(handler.call, Call::Init));
    let Some(Handler { signature, .. }) = with_config else {
        return quote! {
            let glue::NoConfig {} = glue::config(config)?;
            ::core::result::Result::Ok(<Self as ::core::default::Default>::default())
        };
    };
    let config = signature.payloads().map(|ty| quote_spanned!(ty.span()=> glue::config::<#ty>(config)?));
    let name = &signature.name;
    let call = quote!(Self::#name(#(#config),*));
    match &signature.answer {
        Answer::Other(ty) if is_self(ty) => quote!(::core::result::Result::Ok(#call)),
        _ => call,
    }
}

fn is_self(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.is_ident("Self"))
}

fn places(model: &Model) -> impl Iterator<Item = TokenStream> {
    model.namespaces.iter().map(|namespace| {
        let path = &namespace.path;
        let missing = match &namespace.door {
            Some(Door { missing: Some(sentence), .. }) => quote!(::core::option::Option::Some(#sentence)),
            _ => quote!(::core::option::Option::None),
        };
        quote!(glue::Place { path: #path, missing: #missing })
    })
}

/// The namespace of a handler. `model::check` has found those that have none.
fn namespace<'a>(model: &'a Model, named: Option<&'a LitStr>) -> LitStr {
    let nowhere = Ident::new("nowhere", Span::call_site());
    model.namespace(named, &nowhere).cloned().unwrap_or_else(|_| LitStr::new("", Span::call_site()))
}

/// The arms of the calls that are about a namespace alone.
fn by_namespace(model: &Model, wanted: fn(&Call) -> bool) -> Vec<TokenStream> {
    let handlers = model.handlers.iter().filter(|handler| wanted(&handler.call));
    handlers
        .map(|handler| {
            let named = match &handler.call {
                Call::Authorize { namespace } => Some(namespace),
                Call::Connect { namespace } | Call::Disconnect { namespace } => namespace.as_ref(),
                _ => None,
            };
            let path = namespace(model, named);
            let value =
                handler.signature.payloads().next().map(|ty| quote_spanned!(ty.span()=> let arg0 = glue::value::<#ty>(&auth)?;));
            let call = call(handler, &quote!(event));
            let done = match handler.signature.answer {
                Answer::Nothing => quote!({ #call; ::core::result::Result::Ok(()) }),
                _ => call,
            };
            quote!(#path => { #value #done })
        })
        .collect()
}

fn events(model: &Model) -> Vec<TokenStream> {
    let arm = |handler: &Handler, event: &Event| {
        let (path, name) = (namespace(model, event.namespace.as_ref()), &event.name);
        let args = arguments(handler, event.invalid.as_ref());
        let call = call(handler, &quote!(event));
        let answer = match (&handler.signature.answer, &event.reply) {
            (Answer::Reply(ty), None) => quote_spanned!(ty.span()=> glue::ack(&#call?)),
            (Answer::Reply(ty), Some(under)) => quote_spanned!(ty.span()=> glue::reply(#under, &#call?)),
            _ => quote!(#call.map(|()| ::core::option::Option::None)),
        };
        match &event.on_failure {
            Some(sentence) => quote!((#path, #name) => glue::on_failure(#sentence, (|| { #args #answer })()),),
            None => quote!((#path, #name) => { #args #answer }),
        }
    };
    model
        .handlers
        .iter()
        .filter_map(|handler| match &handler.call {
            Call::Event(event) => Some(arm(handler, event)),
            _ => None,
        })
        .collect()
}

/// Reads an event's arguments into `arg0`, `arg1`, ….
fn arguments(handler: &Handler, sentence: Option<&LitStr>) -> TokenStream {
    let types: Vec<&Type> = handler.signature.payloads().collect();
    let Some(first) = types.first() else { return TokenStream::new() };
    let names = (0..types.len()).map(|index| format_ident!("arg{index}"));
    let read = match sentence {
        Some(sentence) => quote_spanned!(first.span()=> glue::args_or(&event.args, #sentence)?),
        None => quote_spanned!(first.span()=> glue::args(&event.args)?),
    };
    quote!(let (#(#names,)*): (#(#types,)*) = #read;)
}

fn messages(model: &Model) -> Vec<TokenStream> {
    model
        .handlers
        .iter()
        .filter_map(|handler| {
            let Call::Message { topic } = &handler.call else { return None };
            let value = handler
                .signature
                .payloads()
                .next()
                .map(|ty| quote_spanned!(ty.span()=> let arg0 = glue::value::<#ty>(&message.data)?;));
            let call = call(handler, &quote!(message));
            Some(quote!(#topic => { #value #call }))
        })
        .collect()
}

fn timers(model: &Model) -> Vec<TokenStream> {
    model
        .handlers
        .iter()
        .filter_map(|handler| {
            let pattern = match &handler.call {
                Call::Timer { pattern } => pattern,
                Call::Schedule { key, .. } => key,
                _ => return None,
            };
            let text = pattern.value();
            let matches = match text.split_once('{') {
                Some((literal, _)) => quote!(timer.key.starts_with(#literal)),
                None => quote!(timer.key == #pattern),
            };
            let value = handler
                .signature
                .payloads()
                .next()
                .map(|ty| quote_spanned!(ty.span()=> let arg0 = glue::value::<#ty>(&payload)?;));
            let call = call(handler, &quote!(timer));
            Some(quote! {
                if #matches {
                    let (timer, payload) = glue::timer(timer, #pattern);
                    #value
                    return #call;
                }
            })
        })
        .collect()
}

/// The call of the user's method, with what its parameters ask for.
fn call(handler: &Handler, subject: &TokenStream) -> TokenStream {
    let name = &handler.signature.name;
    let mut index = 0usize;
    let mut next = || {
        index += 1;
        format_ident!("arg{}", index - 1)
    };
    let arguments = handler.signature.parameters.iter().map(|parameter| match parameter {
        Parameter::Caller(span) => quote_spanned!(*span=> &caller),
        Parameter::Subject(name) => quote_spanned!(name.span()=> &#subject),
        Parameter::Reason(span) => quote_spanned!(*span=> reason),
        Parameter::Payload(_) => {
            let name = next();
            quote!(#name)
        }
    });
    let arguments: Vec<TokenStream> = arguments.collect();
    if handler.signature.takes_self { quote!(self.#name(#(#arguments),*)) } else { quote!(Self::#name(#(#arguments),*)) }
}
