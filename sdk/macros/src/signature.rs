//! A handler's parameters and result, read from its signature. Decides by the names of types alone: a macro sees no more.

use proc_macro2::Span;
use quote::ToTokens;
use syn::{FnArg, GenericArgument, Ident, ImplItemFn, PathArguments, ReturnType, Type, spanned::Spanned};

/// One method of the block.
pub(crate) struct Signature {
    pub(crate) name: Ident,
    pub(crate) takes_self: bool,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) answer: Answer,
}

pub(crate) enum Parameter {
    /// `&Caller`
    Caller(Span),
    /// `&User`: the caller's, or the call is refused.
    User(Span),
    /// `Option<&User>`: absent for a visitor.
    AnyUser(Span),
    /// `&Event`, `&Message` or `&Timer`: what the call is about, without its payload.
    Subject(Ident),
    /// `DisconnectReason`
    Reason(Span),
    /// Anything else: a part of the payload.
    Payload(Box<Type>),
}

pub(crate) enum Answer {
    /// No return type.
    Nothing,
    /// `Result<()>`
    Done,
    /// `Result<T>`
    Reply(Box<Type>),
    /// `Self`, or a `Result` with two parameters: `init`'s.
    Other(Box<Type>),
}

impl Signature {
    pub(crate) fn of(method: &ImplItemFn) -> syn::Result<Self> {
        let sig = &method.sig;
        if let Some(word) = &sig.asyncness {
            return Err(syn::Error::new(word.span(), "a handler is not async: every import answers at once"));
        }
        if let Some(generic) = sig.generics.params.first() {
            return Err(syn::Error::new_spanned(generic, "a handler has no generic parameters"));
        }
        let mut takes_self = false;
        let mut parameters = Vec::new();
        for input in &sig.inputs {
            match input {
                FnArg::Receiver(receiver) if receiver.mutability.is_some() || receiver.reference.is_none() => {
                    let why = "expected `&self`: a plugin keeps no state, it may be replaced at any time";
                    return Err(syn::Error::new_spanned(receiver, why));
                }
                FnArg::Receiver(_) => takes_self = true,
                FnArg::Typed(typed) => parameters.push(Parameter::of(&typed.ty)),
            }
        }
        Ok(Self { name: sig.ident.clone(), takes_self, parameters, answer: Answer::of(&sig.output) })
    }

    pub(crate) fn payloads(&self) -> impl Iterator<Item = &Type> {
        self.parameters.iter().filter_map(|parameter| match parameter {
            Parameter::Payload(ty) => Some(&**ty),
            _ => None,
        })
    }
}

impl Parameter {
    fn of(ty: &Type) -> Self {
        if let Type::Reference(reference) = ty
            && let Some(name) = last_name(&reference.elem)
        {
            match name.to_string().as_str() {
                "Caller" => return Self::Caller(ty.span()),
                "User" => return Self::User(ty.span()),
                "Event" | "Message" | "Timer" => return Self::Subject(name),
                _ => {}
            }
        }
        match last_name(ty) {
            Some(name) if name == "DisconnectReason" => Self::Reason(ty.span()),
            Some(name) if name == "Option" && holds_a_user(ty) => Self::AnyUser(ty.span()),
            _ => Self::Payload(Box::new(ty.clone())),
        }
    }
}

impl Answer {
    fn of(output: &ReturnType) -> Self {
        let ReturnType::Type(_, ty) = output else { return Self::Nothing };
        let Some(arguments) = result_arguments(ty) else { return Self::Other(ty.clone()) };
        match arguments.as_slice() {
            [] => Self::Done,
            [Type::Tuple(unit)] if unit.elems.is_empty() => Self::Done,
            [reply] => Self::Reply(Box::new((*reply).clone())),
            _ => Self::Other(ty.clone()),
        }
    }

    /// The place for an error about it.
    pub(crate) fn span(&self, name: &Ident) -> Span {
        match self {
            Self::Reply(ty) | Self::Other(ty) => ty.to_token_stream().span(),
            Self::Nothing | Self::Done => name.span(),
        }
    }
}

/// The type parameters of a `Result`.
fn result_arguments(ty: &Type) -> Option<Vec<&Type>> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    if last.ident != "Result" {
        return None;
    }
    match &last.arguments {
        PathArguments::None => Some(Vec::new()),
        PathArguments::AngleBracketed(list) => Some(
            list.args
                .iter()
                .filter_map(|argument| match argument {
                    GenericArgument::Type(ty) => Some(ty),
                    _ => None,
                })
                .collect(),
        ),
        PathArguments::Parenthesized(_) => None,
    }
}

/// Whether a type is `Option<&User>`.
fn holds_a_user(ty: &Type) -> bool {
    let Type::Path(path) = ty else { return false };
    let Some(PathArguments::AngleBracketed(list)) = path.path.segments.last().map(|last| &last.arguments) else { return false };
    let is_user = |ty: &Type| last_name(ty).is_some_and(|name| name == "User");
    list.args.iter().any(|one| matches!(one, GenericArgument::Type(Type::Reference(user)) if is_user(&user.elem)))
}

fn last_name(ty: &Type) -> Option<Ident> {
    match ty {
        Type::Path(path) => path.path.segments.last().map(|last| last.ident.clone()),
        _ => None,
    }
}
