//! The attribute of hubbub-sdk: from an `impl` block to the whole `handler` export. It only writes calls into the SDK; what
//! those do is the SDK's.

use proc_macro::TokenStream;

mod attribute;
mod expand;
mod handler;
mod model;
mod signature;

/// Makes a plugin of an `impl` block. The page that explains it is the SDK's own documentation.
#[proc_macro_attribute]
pub fn plugin(attribute: TokenStream, item: TokenStream) -> TokenStream {
    model::read(attribute.into(), item.into())
        .map(|model| expand::expand(&model))
        .unwrap_or_else(|error| error.into_compile_error())
        .into()
}

#[cfg(test)]
mod tests;
