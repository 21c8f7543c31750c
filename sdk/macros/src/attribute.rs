//! The arguments of an attribute: texts, flags and `key = value` pairs. Every key must be read, so that a misspelt key is an
//! error at its own place.

use proc_macro2::{Ident, Span};
use quote::ToTokens;
use syn::{
    Attribute, Expr, ExprLit, Lit, LitInt, LitStr, Meta, Path, Token, bracketed,
    parse::{Parse, ParseStream},
    punctuated::Punctuated,
};

/// The arguments of one attribute that have not been read yet.
pub(crate) struct Arguments {
    span: Span,
    arguments: Vec<Argument>,
    known: Vec<&'static str>,
}

enum Argument {
    Text(LitStr),
    Key(Ident, Option<Value>),
}

enum Value {
    One(Expr),
    List(Vec<Expr>),
}

impl Parse for Argument {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if input.peek(LitStr) {
            return Ok(Self::Text(input.parse()?));
        }
        let key: Ident = input
            .parse()
            .map_err(|error| syn::Error::new(error.span(), "expected a text in quotes, a word, or `key = value`"))?;
        if !input.peek(Token![=]) {
            return Ok(Self::Key(key, None));
        }
        input.parse::<Token![=]>()?;
        if input.peek(syn::token::Bracket) {
            let list;
            bracketed!(list in input);
            let items = Punctuated::<Expr, Token![,]>::parse_terminated(&list)?;
            return Ok(Self::Key(key, Some(Value::List(items.into_iter().collect()))));
        }
        Ok(Self::Key(key, Some(Value::One(input.parse()?))))
    }
}

struct All(Vec<Argument>);

impl Parse for All {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        Ok(Self(Punctuated::<Argument, Token![,]>::parse_terminated(input)?.into_iter().collect()))
    }
}

impl Arguments {
    /// The arguments of `#[name(…)]` or `#[name]`.
    pub(crate) fn of(attribute: &Attribute) -> syn::Result<Self> {
        let arguments = match &attribute.meta {
            Meta::Path(_) => Vec::new(),
            Meta::List(list) => list.parse_args::<All>()?.0,
            Meta::NameValue(pair) => return Err(syn::Error::new_spanned(pair, "write `(…)` instead of `= …`")),
        };
        let span = attribute.path().segments.last().map_or_else(Span::call_site, |last| last.ident.span());
        Ok(Self { span, arguments, known: Vec::new() })
    }

    /// The arguments of the attribute macro itself.
    pub(crate) fn read(tokens: proc_macro2::TokenStream) -> syn::Result<Self> {
        Ok(Self { span: Span::call_site(), arguments: syn::parse2::<All>(tokens)?.0, known: Vec::new() })
    }

    /// The first text.
    pub(crate) fn text(&mut self, what: &str) -> syn::Result<LitStr> {
        self.optional_text().ok_or_else(|| syn::Error::new(self.span, format!("expected {what} in quotes")))
    }

    /// The first text, if there is one.
    pub(crate) fn optional_text(&mut self) -> Option<LitStr> {
        let at = self.arguments.iter().position(|argument| matches!(argument, Argument::Text(_)))?;
        match self.arguments.remove(at) {
            Argument::Text(text) => Some(text),
            Argument::Key(..) => None,
        }
    }

    /// `key`, `key = value` or neither.
    fn key(&mut self, key: &'static str) -> Option<(Ident, Option<Value>)> {
        self.known.push(key);
        let named = |argument: &Argument| matches!(argument, Argument::Key(name, _) if name == key);
        let at = self.arguments.iter().position(named)?;
        match self.arguments.remove(at) {
            Argument::Key(name, value) => Some((name, value)),
            Argument::Text(_) => None,
        }
    }

    /// `key = expression`.
    pub(crate) fn expression(&mut self, key: &'static str) -> syn::Result<Option<Expr>> {
        match self.key(key) {
            None => Ok(None),
            Some((_, Some(Value::One(value)))) => Ok(Some(value)),
            Some((name, _)) => Err(syn::Error::new(name.span(), format!("expected `{key} = …`"))),
        }
    }

    /// `key = "text"`.
    pub(crate) fn string(&mut self, key: &'static str) -> syn::Result<Option<LitStr>> {
        self.expression(key)?.map(|value| as_text(&value)).transpose()
    }

    /// `key = 5`.
    pub(crate) fn number(&mut self, key: &'static str) -> syn::Result<Option<LitInt>> {
        let Some(value) = self.expression(key)? else { return Ok(None) };
        match value {
            Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => Ok(Some(number)),
            other => Err(syn::Error::new_spanned(other, "expected a number")),
        }
    }

    /// `key = ["a", "b"]`.
    pub(crate) fn strings(&mut self, key: &'static str) -> syn::Result<Vec<LitStr>> {
        self.list(key)?.iter().map(as_text).collect()
    }

    /// `key = [a, b]`.
    pub(crate) fn list(&mut self, key: &'static str) -> syn::Result<Vec<Expr>> {
        match self.key(key) {
            None => Ok(Vec::new()),
            Some((_, Some(Value::List(list)))) => Ok(list),
            Some((name, _)) => Err(syn::Error::new(name.span(), format!("expected `{key} = […]`"))),
        }
    }

    /// `key` or `key = "text"`: whether it is there, and its text.
    pub(crate) fn flag(&mut self, key: &'static str) -> syn::Result<Option<Option<LitStr>>> {
        match self.key(key) {
            None => Ok(None),
            Some((_, None)) => Ok(Some(None)),
            Some((_, Some(Value::One(value)))) => Ok(Some(Some(as_text(&value)?))),
            Some((name, _)) => Err(syn::Error::new(name.span(), format!("expected `{key}` or `{key} = \"…\"`"))),
        }
    }

    /// `namespace = "/a"` or `namespaces = ["/a", "/b"]`. Empty where neither is given.
    pub(crate) fn namespaces(&mut self) -> syn::Result<Vec<LitStr>> {
        let one = self.string("namespace")?;
        let mut all = self.strings("namespaces")?;
        match (one, all.first()) {
            (Some(_), Some(list)) => Err(syn::Error::new(list.span(), "expected `namespace` or `namespaces`, not both")),
            (one, _) => {
                all.extend(one);
                Ok(all)
            }
        }
    }

    /// One of some words, as `key = "word"`.
    pub(crate) fn word(&mut self, key: &'static str, words: &[&str]) -> syn::Result<Option<LitStr>> {
        let Some(text) = self.string(key)? else { return Ok(None) };
        if words.contains(&text.value().as_str()) {
            return Ok(Some(text));
        }
        let words: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
        Err(syn::Error::new(text.span(), format!("expected {}", words.join(" or "))))
    }

    /// An error at the attribute's name.
    pub(crate) fn error(&self, message: impl std::fmt::Display) -> syn::Error {
        syn::Error::new(self.span, message)
    }

    /// An error if an argument was not read.
    pub(crate) fn finish(self) -> syn::Result<()> {
        match self.arguments.first() {
            None => Ok(()),
            Some(Argument::Text(text)) => Err(syn::Error::new(text.span(), "one text too many")),
            Some(Argument::Key(key, _)) => {
                let known = if self.known.is_empty() { "none".to_owned() } else { self.known.join(", ") };
                Err(syn::Error::new(key.span(), format!("unknown key `{key}`; known here: {known}")))
            }
        }
    }
}

fn as_text(value: &Expr) -> syn::Result<LitStr> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Ok(text.clone()),
        other => Err(syn::Error::new_spanned(other.to_token_stream(), "expected a text in quotes")),
    }
}

/// The paths of `#[emits(A, b::B)]`.
pub(crate) fn paths(attribute: &Attribute) -> syn::Result<Vec<Path>> {
    let list = attribute.parse_args_with(Punctuated::<Path, Token![,]>::parse_terminated)?;
    Ok(list.into_iter().collect())
}
