//! The model of one `impl` block, read from its attributes. Finds contradictions before the host does.

use std::collections::HashSet;

use proc_macro2::TokenStream;
use syn::{Attribute, Expr, Ident, ImplItem, ItemImpl, LitInt, LitStr, Path, Type};

use crate::{
    attribute::{self, Arguments},
    handler::{self, Call, Handler},
};

/// One block: the plugin's own, or one of its parts.
pub(crate) struct Model {
    /// Absent for a part.
    pub(crate) identity: Option<Identity>,
    /// The namespaces of handlers that name none.
    pub(crate) defaults: Vec<LitStr>,
    pub(crate) rooms: Vec<Rooms>,
    /// Prefixes of keys without a tenant, each with the prefix for a tenant's keys.
    pub(crate) tenant_keys: Vec<(LitStr, Option<LitStr>)>,
    pub(crate) emits: Vec<Path>,
    pub(crate) handlers: Vec<Handler>,
    /// The block without the attributes of this crate.
    pub(crate) block: ItemImpl,
}

/// The description's fields that a plugin states once, on its own block.
pub(crate) struct Identity {
    pub(crate) name: LitStr,
    pub(crate) version: Option<Expr>,
    pub(crate) data_version: Option<LitInt>,
    pub(crate) reads_data_versions: Vec<Expr>,
    /// `none`, `required` or `optional`.
    pub(crate) tenancy: String,
    pub(crate) namespaces: Vec<Namespace>,
    /// The other plugin's name, and the prefix of the keys.
    pub(crate) takes: Vec<(LitStr, LitStr)>,
    /// The modules of the plugin's other blocks.
    pub(crate) parts: Vec<Path>,
}

pub(crate) struct Namespace {
    pub(crate) path: LitStr,
    /// The sentence for a visitor where a user is needed.
    pub(crate) missing: Option<LitStr>,
    /// Absent if another plugin owns the namespace.
    pub(crate) door: Option<Door>,
}

pub(crate) struct Door {
    pub(crate) token_required: bool,
    pub(crate) claims: Vec<LitStr>,
    pub(crate) roles: Vec<LitStr>,
    pub(crate) invalid: Option<LitStr>,
    pub(crate) forbidden: Option<LitStr>,
}

/// Rooms that the plugin owns.
pub(crate) enum Rooms {
    /// A namespace and a pattern.
    Pattern(LitStr, LitStr),
    /// A constant of type `Room`.
    Constant(Path),
}

impl Model {
    pub(crate) fn plugin(&self) -> &Type {
        &self.block.self_ty
    }

    /// The namespaces of a handler: those that it names, or the block's.
    pub(crate) fn namespaces<'a>(&'a self, named: &'a [LitStr], at: &Ident) -> syn::Result<&'a [LitStr]> {
        if named.is_empty() {
            return self.default_namespaces(at);
        }
        named.iter().try_for_each(|namespace| self.check_namespace(namespace))?;
        Ok(named)
    }

    fn default_namespaces(&self, at: &Ident) -> syn::Result<&[LitStr]> {
        if !self.defaults.is_empty() {
            return Ok(&self.defaults);
        }
        let why = match &self.identity {
            None => "which namespace? Write `#[plugin(part, namespace = \"…\")]` above the block",
            Some(identity) if identity.namespaces.is_empty() => {
                "the plugin takes part in no namespace: add `#[door(…)]` or `#[namespace(…)]` above the block"
            }
            Some(_) => "which namespace? Write `namespace = \"…\"`",
        };
        Err(syn::Error::new(at.span(), why))
    }

    /// A part does not know the plugin's namespaces: there the host and the test harness check.
    fn check_namespace(&self, namespace: &LitStr) -> syn::Result<()> {
        let Some(identity) = &self.identity else { return Ok(()) };
        if identity.namespaces.iter().any(|known| known.path.value() == namespace.value()) {
            return Ok(());
        }
        let why = format!(
            "the plugin takes part in no namespace {0:?}: add `#[door({0:?}, …)]` or `#[namespace({0:?})]`",
            namespace.value()
        );
        Err(syn::Error::new(namespace.span(), why))
    }
}

pub(crate) fn read(attribute: TokenStream, item: TokenStream) -> syn::Result<Model> {
    let block: ItemImpl =
        syn::parse2(item).map_err(|error| syn::Error::new(error.span(), "`#[plugin]` belongs on the plugin's `impl` block"))?;
    if let Some((_, path, _)) = &block.trait_ {
        return Err(syn::Error::new_spanned(path, "`#[plugin]` belongs on a plain `impl` block, not on one of a trait"));
    }
    let mut given = Arguments::read(attribute)?;
    let is_part = given.flag("part")?.is_some();
    let mut model = Model {
        identity: if is_part { None } else { Some(identity(&mut given)?) },
        defaults: given.namespaces()?,
        rooms: Vec::new(),
        tenant_keys: Vec::new(),
        emits: Vec::new(),
        handlers: Vec::new(),
        block,
    };
    given.finish()?;
    let attributes = std::mem::take(&mut model.block.attrs);
    for attribute in attributes {
        if let Some(foreign) = above(&mut model, attribute)? {
            model.block.attrs.push(foreign);
        }
    }
    for item in &mut model.block.items {
        if let ImplItem::Fn(method) = item {
            model.handlers.extend(handler::of(method)?);
        }
    }
    if let Some(Identity { namespaces, .. }) = &model.identity
        && let [only] = namespaces.as_slice()
        && model.defaults.is_empty()
    {
        model.defaults = vec![only.path.clone()];
    }
    check(&model)?;
    Ok(model)
}

fn identity(given: &mut Arguments) -> syn::Result<Identity> {
    let words = ["none", "required", "optional"];
    let identity = Identity {
        name: given.string("name")?.ok_or_else(|| given.error("expected `name = \"…\"`"))?,
        version: given.expression("version")?,
        data_version: given.number("data_version")?,
        reads_data_versions: given.list("reads_data_versions")?,
        tenancy: given.word("tenancy", &words)?.map_or_else(|| "none".to_owned(), |word| word.value()),
        namespaces: Vec::new(),
        takes: Vec::new(),
        parts: Vec::new(),
    };
    check_name(&identity.name)?;
    Ok(identity)
}

fn check_name(name: &LitStr) -> syn::Result<()> {
    let text = name.value();
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(allowed) && text.len() <= 64 {
        return Ok(());
    }
    Err(syn::Error::new(name.span(), "expected lower case letters, digits and `-`, beginning with a letter, at most 64"))
}

/// Takes an attribute of this crate into the model. Returns any other.
fn above(model: &mut Model, attribute: Attribute) -> syn::Result<Option<Attribute>> {
    let name = attribute.path().get_ident().map(ToString::to_string).unwrap_or_default();
    match name.as_str() {
        "room" => {
            let mut given = Arguments::of(&attribute)?;
            let expected = "the namespace and the room's pattern";
            model.rooms.push(Rooms::Pattern(given.text(expected)?, given.text(expected)?));
            given.finish()?;
        }
        "rooms" => model.rooms.extend(attribute::paths(&attribute)?.into_iter().map(Rooms::Constant)),
        "tenant_keys" => {
            let mut given = Arguments::of(&attribute)?;
            let without = given.text("the prefix of the keys")?;
            let with = given.string("with")?;
            given.finish()?;
            model.tenant_keys.push((without, with));
        }
        "emits" => model.emits.extend(attribute::paths(&attribute)?),
        "door" | "namespace" | "takes" | "parts" => {
            let Some(identity) = &mut model.identity else {
                let why = format!("`#[{name}]` belongs on the plugin's own block, which has a name");
                return Err(syn::Error::new_spanned(attribute.path(), why));
            };
            identify(identity, &name, &attribute)?;
        }
        _ => return Ok(Some(attribute)),
    }
    Ok(None)
}

fn identify(identity: &mut Identity, name: &str, attribute: &Attribute) -> syn::Result<()> {
    if name == "parts" {
        identity.parts.extend(attribute::paths(attribute)?);
        return Ok(());
    }
    let mut given = Arguments::of(attribute)?;
    match name {
        "takes" => {
            let from = given.text("the other plugin's name")?;
            let prefix = given.string("prefix")?.ok_or_else(|| given.error("expected `prefix = \"…\"`"))?;
            check_name(&from)?;
            identity.takes.push((from, prefix));
        }
        _ => {
            let path = given.text("the namespace")?;
            let door = if name == "door" { Some(door(&mut given)?) } else { None };
            identity.namespaces.push(Namespace { path, missing: given.string("missing")?, door });
        }
    }
    given.finish()
}

fn door(given: &mut Arguments) -> syn::Result<Door> {
    let token = given.word("token", &["required", "optional"])?;
    let token = token.ok_or_else(|| given.error("expected `token = \"required\"` or `token = \"optional\"`"))?;
    Ok(Door {
        token_required: token.value() == "required",
        claims: given.strings("claims")?,
        roles: given.strings("roles")?,
        invalid: given.string("invalid")?,
        forbidden: given.string("forbidden")?,
    })
}

/// Checks names across attributes: none is used twice, and none is missing.
fn check(model: &Model) -> syn::Result<()> {
    let mut paths = HashSet::new();
    for namespace in model.identity.iter().flat_map(|identity| &identity.namespaces) {
        if !paths.insert(namespace.path.value()) {
            return Err(syn::Error::new(namespace.path.span(), "this namespace is there already"));
        }
    }
    model.defaults.iter().try_for_each(|namespace| model.check_namespace(namespace))?;
    for rooms in &model.rooms {
        if let Rooms::Pattern(namespace, _) = rooms {
            model.check_namespace(namespace)?;
        }
    }
    let mut seen = HashSet::new();
    for Handler { call, signature } in &model.handlers {
        let at = &signature.name;
        let (kind, namespaces, name) = match call {
            Call::Init if model.identity.is_none() => {
                return Err(syn::Error::new(at.span(), "`init` belongs on the plugin's own block, which has a name"));
            }
            Call::Init => continue,
            Call::Event(event) => ("event", model.namespaces(&event.namespaces, at)?, Some(&event.name)),
            Call::Authorize { namespaces } => {
                let namespaces = model.namespaces(namespaces, at)?;
                namespaces.iter().try_for_each(|namespace| check_owned(model, namespace))?;
                ("authorize", namespaces, None)
            }
            Call::Connect { namespaces } => ("connect", model.namespaces(namespaces, at)?, None),
            Call::Disconnect { namespaces } => ("disconnect", model.namespaces(namespaces, at)?, None),
            Call::Message { topic } => ("message", std::slice::from_ref(topic), None),
            Call::Timer { pattern: key } | Call::Schedule { key, .. } => ("timer", std::slice::from_ref(key), None),
        };
        for namespace in namespaces {
            if !seen.insert((kind, namespace.value(), name.map(LitStr::value))) {
                let span = name.map_or(at.span(), LitStr::span);
                return Err(syn::Error::new(span, "this is handled already"));
            }
        }
    }
    Ok(())
}

fn check_owned(model: &Model, namespace: &LitStr) -> syn::Result<()> {
    let Some(identity) = &model.identity else { return Ok(()) };
    if identity.namespaces.iter().any(|known| known.path.value() == namespace.value() && known.door.is_some()) {
        return Ok(());
    }
    Err(syn::Error::new(namespace.span(), "only the owner of a namespace authorizes: it has no `#[door]` here"))
}
