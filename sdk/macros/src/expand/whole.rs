//! The `Plugin` implementation, on the plugin's own block. A call goes to the own block first, then to the parts in the order of
//! `#[parts(..)]`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{LitStr, Type, spanned::Spanned};

use super::{Answer, Call, Handler, Identity, Model, describe};

pub(super) fn plugin(model: &Model, identity: &Identity) -> TokenStream {
    let plugin = model.plugin();
    let describe = describe::identity(identity);
    let init = init(model);
    let places = places(identity);
    let parts: Vec<TokenStream> = std::iter::once(quote!(__Part))
        .chain(identity.parts.iter().map(|path| quote_spanned!(path.span()=> #path::__Part)))
        .collect();
    quote! {
        const PLACES: &[glue::Place] = &[#(#places),*];

        impl ::hubbub_sdk::Plugin for #plugin {
            fn describe() -> glue::handler::Description {
                let mut description = #describe;
                #(<#parts as glue::Part<Self>>::describe(&mut description);)*
                description
            }

            fn init(config: &str) -> ::core::result::Result<Self, ::std::string::String> {
                #init
            }

            fn authorize(&self, caller: glue::types::Caller, auth: ::std::string::String) -> ::hubbub_sdk::Result<()> {
                let (caller, place) = glue::caller(PLACES, caller)?;
                #(<#parts as glue::Part<Self>>::authorize(self, &caller, place.path, &auth)?;)*
                ::core::result::Result::Ok(())
            }

            fn on_connect(&self, caller: glue::types::Caller) -> ::hubbub_sdk::Result<()> {
                let (caller, place) = glue::caller(PLACES, caller)?;
                #(<#parts as glue::Part<Self>>::on_connect(self, &caller, place.path)?;)*
                ::core::result::Result::Ok(())
            }

            fn on_event(&self, caller: glue::types::Caller, event: glue::handler::Event)
                -> ::hubbub_sdk::Result<::core::option::Option<::std::string::String>>
            {
                let (caller, place) = glue::caller(PLACES, caller)?;
                #(
                    if let ::core::option::Option::Some(handled) =
                        <#parts as glue::Part<Self>>::on_event(self, &caller, place.path, &event)
                    {
                        return handled;
                    }
                )*
                ::core::result::Result::Err(glue::unknown_event())
            }

            fn on_disconnect(&self, caller: glue::types::Caller, reason: glue::handler::DisconnectReason) {
                let handled = (|| -> ::hubbub_sdk::Result<()> {
                    let (caller, place) = glue::caller(PLACES, caller)?;
                    #(<#parts as glue::Part<Self>>::on_disconnect(self, &caller, place.path, reason)?;)*
                    ::core::result::Result::Ok(())
                })();
                if let ::core::result::Result::Err(refusal) = handled {
                    glue::failed_disconnect(&refusal);
                }
            }

            fn on_message(&self, message: glue::handler::Message) -> ::hubbub_sdk::Result<()> {
                let mut known = false;
                #(
                    if let ::core::option::Option::Some(handled) = <#parts as glue::Part<Self>>::on_message(self, &message) {
                        handled?;
                        known = true;
                    }
                )*
                if known { ::core::result::Result::Ok(()) } else { ::core::result::Result::Err(glue::unknown("topic", &message.topic)) }
            }

            fn on_timer(&self, timer: glue::handler::DueTimer) -> ::hubbub_sdk::Result<()> {
                #(
                    if let ::core::option::Option::Some(handled) = <#parts as glue::Part<Self>>::on_timer(self, &timer) {
                        return handled;
                    }
                )*
                ::core::result::Result::Err(glue::unknown("timer", &timer.key))
            }
        }
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

fn places(identity: &Identity) -> impl Iterator<Item = TokenStream> {
    identity.namespaces.iter().map(|namespace| {
        let path = &namespace.path;
        let missing = option(namespace.missing.as_ref());
        quote!(glue::Place { path: #path, missing: #missing })
    })
}

fn option(text: Option<&LitStr>) -> TokenStream {
    match text {
        Some(text) => quote!(::core::option::Option::Some(#text)),
        None => quote!(::core::option::Option::None),
    }
}
