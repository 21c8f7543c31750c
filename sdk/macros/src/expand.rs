//! Generates the code for a model: the block as it was written, and beside it a `Part` that calls the block's methods. The plugin's
//! own block also gets the `Plugin` implementation, which asks all parts, and the export. The user's types keep their spans, so
//! that a missing derive is an error where the type is written.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::{LitStr, Type, spanned::Spanned};

use crate::{
    handler::{Call, Event, Handler},
    model::{Identity, Model},
    signature::{Answer, Parameter, Signature},
};

mod describe;
mod whole;

/// Fails only for mistakes that `model` has found already.
pub(crate) fn expand(model: &Model) -> syn::Result<TokenStream> {
    let block = &model.block;
    let part = part(model)?;
    Ok(match &model.identity {
        None => quote! {
            #block

            /// The handlers of this module, for the plugin's own block.
            #[doc(hidden)]
            #[allow(non_camel_case_types)]
            pub(crate) struct __Part;

            const _: () = {
                use ::hubbub_sdk::glue;
                #part
            };
        },
        Some(identity) => {
            let plugin = whole::plugin(model, identity);
            let name = model.plugin();
            quote! {
                #block

                const _: () = {
                    use ::hubbub_sdk::glue;

                    struct __Part;
                    #part
                    #plugin
                };

                #[cfg(target_arch = "wasm32")]
                ::hubbub_sdk::export_plugin!(#name);
            }
        }
    })
}

fn part(model: &Model) -> syn::Result<TokenStream> {
    let plugin = model.plugin();
    let describe = describe::part(model)?;
    let authorize = by_namespace(model, |call| matches!(call, Call::Authorize { .. }))?;
    let connect = by_namespace(model, |call| matches!(call, Call::Connect { .. }))?;
    let disconnect = by_namespace(model, |call| matches!(call, Call::Disconnect { .. }))?;
    let events = events(model)?;
    let messages = messages(model);
    let timers = timers(model);
    Ok(quote! {
        #[allow(unused_variables)]
        impl glue::Part<#plugin> for __Part {
            fn describe(description: &mut glue::handler::Description) {
                #describe
            }

            fn authorize(plugin: &#plugin, caller: &::hubbub_sdk::Caller, path: &str, auth: &str) -> ::hubbub_sdk::Result<()> {
                match path { #(#authorize)* _ => ::core::result::Result::Ok(()) }
            }

            fn on_connect(plugin: &#plugin, caller: &::hubbub_sdk::Caller, path: &str) -> ::hubbub_sdk::Result<()> {
                match path { #(#connect)* _ => ::core::result::Result::Ok(()) }
            }

            fn on_event(plugin: &#plugin, caller: &::hubbub_sdk::Caller, path: &str, event: &::hubbub_sdk::Event)
                -> ::core::option::Option<::hubbub_sdk::Result<::core::option::Option<::std::string::String>>>
            {
                let handled = match (path, event.name.as_str()) {
                    #(#events)*
                    _ => return ::core::option::Option::None,
                };
                #[allow(unreachable_code)]
                ::core::option::Option::Some(handled)
            }

            fn on_disconnect(
                plugin: &#plugin,
                caller: &::hubbub_sdk::Caller,
                path: &str,
                reason: ::hubbub_sdk::DisconnectReason,
            ) -> ::hubbub_sdk::Result<()> {
                match path { #(#disconnect)* _ => ::core::result::Result::Ok(()) }
            }

            fn on_message(plugin: &#plugin, message: &::hubbub_sdk::Message)
                -> ::core::option::Option<::hubbub_sdk::Result<()>>
            {
                let handled = match message.topic.as_str() {
                    #(#messages)*
                    _ => return ::core::option::Option::None,
                };
                #[allow(unreachable_code)]
                ::core::option::Option::Some(handled)
            }

            fn on_timer(plugin: &#plugin, due: &glue::handler::DueTimer) -> ::core::option::Option<::hubbub_sdk::Result<()>> {
                #(#timers)*
                ::core::option::Option::None
            }
        }
    })
}

/// The arms of the calls that name only a namespace.
fn by_namespace(model: &Model, wanted: fn(&Call) -> bool) -> syn::Result<Vec<TokenStream>> {
    let handlers = model.handlers.iter().filter(|handler| wanted(&handler.call));
    let arm = |handler: &Handler| {
        let Handler { call: of, signature } = handler;
        let named: &[LitStr] = match of {
            Call::Authorize { namespaces } | Call::Connect { namespaces } | Call::Disconnect { namespaces } => namespaces,
            _ => &[],
        };
        let paths = model.namespaces(named, &signature.name)?;
        let value = payload(signature, &quote!(auth));
        let call = call(model, signature, &quote!());
        let done = match signature.answer {
            Answer::Nothing => quote!({ #call; ::core::result::Result::Ok(()) }),
            _ => call,
        };
        Ok(quote!(#(#paths)|* => (|| -> ::hubbub_sdk::Result<()> { #value #done })(),))
    };
    handlers.map(arm).collect()
}

fn events(model: &Model) -> syn::Result<Vec<TokenStream>> {
    let arm = |handler: &Handler, event: &Event| {
        let Handler { signature, .. } = handler;
        let paths = model.namespaces(&event.namespaces, &signature.name)?;
        let name = &event.name;
        let args = arguments(signature, event.invalid.as_ref());
        let call = call(model, signature, &quote!(event));
        let answer = match (&signature.answer, &event.reply) {
            (Answer::Reply(ty), None) => quote_spanned!(ty.span()=> glue::ack(&#call?)),
            (Answer::Reply(ty), Some(under)) => quote_spanned!(ty.span()=> glue::reply(#under, &#call?)),
            _ => quote!(#call.map(|()| ::core::option::Option::None)),
        };
        let handled = quote!((|| { #args #answer })());
        let handled = match &event.on_failure {
            Some(sentence) => quote!(glue::on_failure(#sentence, #handled)),
            None => handled,
        };
        Ok(quote!((#(#paths)|*, #name) => #handled,))
    };
    let events = model.handlers.iter().filter_map(|handler| match &handler.call {
        Call::Event(event) => Some(arm(handler, event)),
        _ => None,
    });
    events.collect()
}

/// Reads an event's arguments into `arg0`, `arg1`, ….
fn arguments(signature: &Signature, sentence: Option<&LitStr>) -> TokenStream {
    let types: Vec<&Type> = signature.payloads().collect();
    let Some(first) = types.first() else { return TokenStream::new() };
    let names = (0..types.len()).map(|index| format_ident!("arg{index}"));
    let read = match sentence {
        Some(sentence) => quote_spanned!(first.span()=> glue::args_or(&event.args, #sentence)?),
        None => quote_spanned!(first.span()=> glue::args(&event.args)?),
    };
    quote!(let (#(#names,)*): (#(#types,)*) = #read;)
}

/// Reads the one payload of a call into `arg0`, if the handler takes it.
fn payload(signature: &Signature, text: &TokenStream) -> Option<TokenStream> {
    let ty = signature.payloads().next()?;
    Some(quote_spanned!(ty.span()=> let arg0 = glue::value::<#ty>(#text)?;))
}

fn messages(model: &Model) -> Vec<TokenStream> {
    let messages = model.handlers.iter().filter_map(|Handler { call: of, signature }| {
        let Call::Message { topic } = of else { return None };
        let value = payload(signature, &quote!(&message.data));
        let call = call(model, signature, &quote!(message));
        Some(quote!(#topic => (|| { #value #call })(),))
    });
    messages.collect()
}

fn timers(model: &Model) -> Vec<TokenStream> {
    let timers = model.handlers.iter().filter_map(|Handler { call: of, signature }| {
        let (Call::Timer { pattern } | Call::Schedule { key: pattern, .. }) = of else { return None };
        let text = pattern.value();
        let matches = match text.split_once('{') {
            Some((literal, _)) => quote!(due.key.starts_with(#literal)),
            None => quote!(due.key == #pattern),
        };
        let value = payload(signature, &quote!(payload));
        let call = call(model, signature, &quote!(&timer));
        Some(quote! {
            if #matches {
                let (timer, payload) = glue::timer(due, #pattern);
                return ::core::option::Option::Some((|| { #value #call })());
            }
        })
    });
    timers.collect()
}

/// The call of the user's method, with the arguments that its parameters ask for.
fn call(model: &Model, signature: &Signature, subject: &TokenStream) -> TokenStream {
    let (plugin, name) = (model.plugin(), &signature.name);
    let mut index = 0usize;
    let mut next = || {
        index += 1;
        format_ident!("arg{}", index - 1)
    };
    let arguments = signature.parameters.iter().map(|parameter| match parameter {
        Parameter::Caller(span) => quote_spanned!(*span=> caller),
        Parameter::User(span) => quote_spanned!(*span=> caller.user()?),
        Parameter::AnyUser(span) => quote_spanned!(*span=> caller.user.as_ref()),
        Parameter::Subject(name) => quote_spanned!(name.span()=> #subject),
        Parameter::Reason(span) => quote_spanned!(*span=> reason),
        Parameter::Payload(_) => {
            let name = next();
            quote!(#name)
        }
    });
    let this = signature.takes_self.then(|| quote!(plugin)).into_iter();
    let arguments = this.chain(arguments);
    quote!(<#plugin>::#name(#(#arguments),*))
}
