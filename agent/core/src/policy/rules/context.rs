//! From facts to the context of a request.
//!
//! Only attributes that some policy looks at are built. What is missing or of another type stays out, so that the policy errs.

use cedar_policy::{Context, RestrictedExpression};

use super::table::{Attribute, Kind, Missing};
use crate::action::{Fact, Facts};

/// The context of an action, or why there can be none.
pub(super) fn context(attributes: &[&Attribute], facts: &Facts, approved: bool) -> Result<Context, String> {
    let mut pairs = Vec::with_capacity(attributes.len());
    for attribute in attributes {
        let value = match (attribute.name, facts.get(attribute.name)) {
            ("approved", _) => Some(RestrictedExpression::new_bool(approved)),
            (_, Some(fact)) => match expression(attribute.kind, fact) {
                // Left out, it would look as if there were no such thing.
                None if attribute.missing == Missing::Absent => {
                    return Err(format!("the fact `{}` is of another type than the schema says", attribute.name));
                }
                value => value,
            },
            (_, None) if attribute.missing == Missing::No => Some(RestrictedExpression::new_bool(false)),
            (_, None) => missing(attribute, facts).map(|text| RestrictedExpression::new_string(text.to_owned())),
        };
        pairs.extend(value.map(|value| (attribute.name.to_owned(), value)));
    }
    Context::from_pairs(pairs).map_err(|error| error.to_string())
}

fn missing(attribute: &Attribute, facts: &Facts) -> Option<&'static str> {
    match attribute.missing {
        Missing::Errs | Missing::Absent | Missing::No => None,
        Missing::Is(text) => Some(text),
        Missing::EmptyBeside(other) => facts.contains_key(other).then_some(""),
    }
}

fn expression(kind: Kind, fact: &Fact) -> Option<RestrictedExpression> {
    match (kind, fact) {
        (Kind::Bool, Fact::Bool(value)) => Some(RestrictedExpression::new_bool(*value)),
        (Kind::Long, Fact::Int(value)) => Some(RestrictedExpression::new_long(*value)),
        (Kind::Text, Fact::Text(text)) => Some(RestrictedExpression::new_string(text.clone())),
        (Kind::Texts, Fact::Set(texts)) => {
            let texts = texts.iter().map(|text| RestrictedExpression::new_string(text.clone()));
            Some(RestrictedExpression::new_set(texts))
        }
        // Cedar's own reading also takes networks, and would fail the whole context.
        (Kind::Address, Fact::Text(text)) => {
            text.parse::<std::net::IpAddr>().is_ok().then(|| RestrictedExpression::new_ip(text))
        }
        _ => None,
    }
}
