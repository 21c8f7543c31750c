//! The whole plugin as the attributes say it is. Finds what contradicts itself before the host would.

use std::collections::HashSet;

use proc_macro2::TokenStream;
use syn::{Attribute, Expr, ImplItem, ItemImpl, LitInt, LitStr, Path, Type};

use crate::{
    attribute::{self, Arguments},
    handler::{self, Call, Handler},
};

pub(crate) struct Model {
    pub(crate) name: LitStr,
    pub(crate) version: Option<Expr>,
    pub(crate) data_version: Option<LitInt>,
    pub(crate) reads_data_versions: Vec<Expr>,
    /// `none`, `required` or `optional`.
    pub(crate) tenancy: String,
    pub(crate) namespaces: Vec<Namespace>,
    pub(crate) rooms: Vec<(LitStr, LitStr)>,
    /// The other plugin, and the prefix of the keys.
    pub(crate) takes: Vec<(LitStr, LitStr)>,
    /// Prefixes of keys without a tenant, each with that of a tenant's.
    pub(crate) tenant_keys: Vec<(LitStr, Option<LitStr>)>,
    pub(crate) emits: Vec<Path>,
    pub(crate) handlers: Vec<Handler>,
    /// The block without our attributes.
    pub(crate) block: ItemImpl,
}

pub(crate) struct Namespace {
    pub(crate) path: LitStr,
    /// Absent where another plugin owns the namespace.
    pub(crate) door: Option<Door>,
}

pub(crate) struct Door {
    pub(crate) token_required: bool,
    pub(crate) claims: Vec<LitStr>,
    pub(crate) roles: Vec<LitStr>,
    pub(crate) missing: Option<LitStr>,
    pub(crate) invalid: Option<LitStr>,
    pub(crate) forbidden: Option<LitStr>,
}

impl Model {
    pub(crate) fn plugin(&self) -> &Type {
        &self.block.self_ty
    }

    /// The namespace a handler is for: the one it names, or the only one there is.
    pub(crate) fn namespace<'a>(&'a self, named: Option<&'a LitStr>, at: &syn::Ident) -> syn::Result<&'a LitStr> {
        match (named, self.namespaces.as_slice()) {
            (Some(named), known) => {
                if known.iter().any(|namespace| namespace.path.value() == named.value()) {
                    return Ok(named);
                }
                let why = format!(
                    "the plugin takes part in no namespace {0:?}: add `#[door({0:?}, …)]` or `#[namespace({0:?})]`",
                    named.value()
                );
                Err(syn::Error::new(named.span(), why))
            }
            (None, [only]) => Ok(&only.path),
            (None, []) => Err(syn::Error::new(
                at.span(),
                "the plugin takes part in no namespace: add `#[door(…)]` or `#[namespace(…)]` above the block",
            )),
            (None, _) => Err(syn::Error::new(at.span(), "which namespace? Say `namespace = \"…\"`")),
        }
    }

    pub(crate) fn calls(&self) -> impl Iterator<Item = &Call> {
        self.handlers.iter().map(|handler| &handler.call)
    }
}

pub(crate) fn read(attribute: TokenStream, item: TokenStream) -> syn::Result<Model> {
    let mut block: ItemImpl =
        syn::parse2(item).map_err(|error| syn::Error::new(error.span(), "`#[plugin]` stands on the plugin's `impl` block"))?;
    if let Some((_, path, _)) = &block.trait_ {
        return Err(syn::Error::new_spanned(path, "`#[plugin]` stands on a plain `impl` block, not on one of a trait"));
    }
    let mut given = Arguments::read(attribute)?;
    let mut model = Model {
        name: given.string("name")?.ok_or_else(|| given.error("expected `name = \"…\"`"))?,
        version: given.expression("version")?,
        data_version: given.number("data_version")?,
        reads_data_versions: given.list("reads_data_versions")?,
        tenancy: given.word("tenancy", &["none", "required", "optional"])?.map_or_else(|| "none".to_owned(), |word| word.value()),
        namespaces: Vec::new(),
        rooms: Vec::new(),
        takes: Vec::new(),
        tenant_keys: Vec::new(),
        emits: Vec::new(),
        handlers: Vec::new(),
        block: block.clone(),
    };
    given.finish()?;
    check_name(&model.name)?;
    block.attrs =
        block.attrs.into_iter().filter_map(|attribute| above(&mut model, attribute).transpose()).collect::<Result<_, _>>()?;
    for item in &mut block.items {
        if let ImplItem::Fn(method) = item {
            model.handlers.extend(handler::of(method)?);
        }
    }
    model.block = block;
    check(&model)?;
    Ok(model)
}

fn check_name(name: &LitStr) -> syn::Result<()> {
    let text = name.value();
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(allowed) && text.len() <= 64 {
        return Ok(());
    }
    Err(syn::Error::new(name.span(), "expected lower case letters, digits and `-`, beginning with a letter, at most 64"))
}

/// An attribute above the block: ours, taken into the model, or another's, handed back.
fn above(model: &mut Model, attribute: Attribute) -> syn::Result<Option<Attribute>> {
    let name = attribute.path().get_ident().map(ToString::to_string).unwrap_or_default();
    match name.as_str() {
        "door" => {
            let mut given = Arguments::of(&attribute)?;
            let path = given.text("the namespace")?;
            let door = door(&mut given)?;
            given.finish()?;
            model.namespaces.push(Namespace { path, door: Some(door) });
        }
        "namespace" => {
            let mut given = Arguments::of(&attribute)?;
            let path = given.text("the namespace")?;
            given.finish()?;
            model.namespaces.push(Namespace { path, door: None });
        }
        "room" => {
            let mut given = Arguments::of(&attribute)?;
            let expected = "the namespace and the room's pattern";
            model.rooms.push((given.text(expected)?, given.text(expected)?));
            given.finish()?;
        }
        "takes" => {
            let mut given = Arguments::of(&attribute)?;
            let from = given.text("the other plugin's name")?;
            let prefix = given.string("prefix")?.ok_or_else(|| given.error("expected `prefix = \"…\"`"))?;
            given.finish()?;
            check_name(&from)?;
            model.takes.push((from, prefix));
        }
        "tenant_keys" => {
            let mut given = Arguments::of(&attribute)?;
            let without = given.text("the prefix of the keys")?;
            let with = given.string("with")?;
            given.finish()?;
            model.tenant_keys.push((without, with));
        }
        "emits" => model.emits.extend(attribute::paths(&attribute)?),
        _ => return Ok(Some(attribute)),
    }
    Ok(None)
}

fn door(given: &mut Arguments) -> syn::Result<Door> {
    let token = given.word("token", &["required", "optional"])?;
    let token = token.ok_or_else(|| given.error("expected `token = \"required\"` or `token = \"optional\"`"))?;
    Ok(Door {
        token_required: token.value() == "required",
        claims: given.strings("claims")?,
        roles: given.strings("roles")?,
        missing: given.string("missing")?,
        invalid: given.string("invalid")?,
        forbidden: given.string("forbidden")?,
    })
}

/// What no single attribute can know: names that are said twice, or not at all.
fn check(model: &Model) -> syn::Result<()> {
    let mut namespaces = HashSet::new();
    for namespace in &model.namespaces {
        if !namespaces.insert(namespace.path.value()) {
            return Err(syn::Error::new(namespace.path.span(), "this namespace is there already"));
        }
    }
    for (namespace, _) in &model.rooms {
        model.namespace(Some(namespace), &proc_macro2::Ident::new("room", namespace.span()))?;
    }
    let mut seen = HashSet::new();
    for Handler { call, signature } in &model.handlers {
        let at = &signature.name;
        let (identity, span) = match call {
            Call::Init => continue,
            Call::Event(event) => {
                let namespace = model.namespace(event.namespace.as_ref(), at)?;
                (format!("event {} {}", namespace.value(), event.name.value()), event.name.span())
            }
            Call::Authorize { namespace } => {
                let owned = |known: &&Namespace| known.path.value() == namespace.value() && known.door.is_some();
                if model.namespaces.iter().find(owned).is_none() {
                    return Err(syn::Error::new(
                        namespace.span(),
                        "only the owner of a namespace authorizes: it has no `#[door]` here",
                    ));
                }
                (format!("authorize {}", namespace.value()), namespace.span())
            }
            Call::Connect { namespace } => {
                let namespace = model.namespace(namespace.as_ref(), at)?;
                (format!("connect {}", namespace.value()), at.span())
            }
            Call::Disconnect { namespace } => {
                let namespace = model.namespace(namespace.as_ref(), at)?;
                (format!("disconnect {}", namespace.value()), at.span())
            }
            Call::Message { topic } => (format!("message {}", topic.value()), topic.span()),
            Call::Timer { pattern: key } | Call::Schedule { key, .. } => (format!("timer {}", key.value()), key.span()),
        };
        if !seen.insert(identity) {
            return Err(syn::Error::new(span, "this is handled already"));
        }
    }
    Ok(())
}
