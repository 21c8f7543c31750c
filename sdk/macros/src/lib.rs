//! The attribute of hubbub-sdk: makes the `handler` export of a component from `impl` blocks. It only writes calls into
//! `hubbub_sdk::glue`, and holds no behaviour of its own.

use proc_macro::TokenStream;

mod attribute;
mod expand;
mod handler;
mod model;
mod signature;

/// Makes a plugin, or a part of one, from an `impl` block. The documentation of `hubbub_sdk` explains it.
#[proc_macro_attribute]
pub fn plugin(attribute: TokenStream, item: TokenStream) -> TokenStream {
    model::read(attribute.into(), item.into())
        .and_then(|model| expand::expand(&model))
        .unwrap_or_else(|error| error.into_compile_error())
        .into()
}

#[cfg(test)]
mod tests;
