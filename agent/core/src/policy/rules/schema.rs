//! The schema that every policy is held against, and the identifiers that are made of it.
//!
//! Owns the text that the binary prints. Parsed once; never changes.

use std::str::FromStr;
use std::sync::LazyLock;

use cedar_policy::{EntityId, EntityTypeName, EntityUid, Schema, Validator};

use crate::action::Verb;

/// The schema, in Cedar's own language.
pub const SCHEMA: &str = include_str!("crewtap.cedarschema");

/// None where the schema is broken, which a test rules out: then no policy is taken.
pub(super) static VALIDATOR: LazyLock<Option<Validator>> =
    LazyLock::new(|| Schema::from_cedarschema_str(SCHEMA).ok().map(|(schema, _)| Validator::new(schema)));

static TYPES: LazyLock<Option<Types>> = LazyLock::new(|| {
    let named = |name: &str| EntityTypeName::from_str(name).ok();
    Some(Types {
        identity: named("Identity")?,
        group: named("Group")?,
        target: named("Target")?,
        tag: named("Tag")?,
        action: named("Action")?,
    })
});

/// Names of the types of entities, parsed once: that costs more than a judgement.
#[derive(Debug)]
pub(super) struct Types {
    pub(super) identity: EntityTypeName,
    pub(super) group: EntityTypeName,
    pub(super) target: EntityTypeName,
    pub(super) tag: EntityTypeName,
    pub(super) action: EntityTypeName,
}

/// None never, which a test rules out as well.
pub(super) fn types() -> Option<&'static Types> {
    TYPES.as_ref()
}

pub(super) fn uid(of: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(of.clone(), EntityId::new(id))
}

/// The verb of an action's identifier.
pub(super) fn verb(action: &EntityUid) -> Option<Verb> {
    Verb::named(action.id().unescaped())
}
