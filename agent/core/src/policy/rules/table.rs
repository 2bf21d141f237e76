//! Which facts policy sees, by verb: their names, their types, and what stands where a fact is missing.
//!
//! The one source of every context; a test holds it against the schema. A fact that is not here is not seen.

use crate::action::Verb;

/// One attribute of a context.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Attribute {
    /// Its name, which is also the fact's.
    pub(super) name: &'static str,
    /// Its type.
    pub(super) kind: Kind,
    /// What stands where the fact is missing.
    pub(super) missing: Missing,
}

/// Type of an attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Bool,
    Long,
    Text,
    Texts,
    Address,
}

/// What stands where a fact is missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Missing {
    /// Nothing: a policy that looks at it errs.
    Errs,
    /// Nothing: the schema says that it may not be there.
    Absent,
    /// This text: there is no such thing, and that is known.
    Is(&'static str),
    /// The empty text where this other fact is there: with it this one would be known, too.
    EmptyBeside(&'static str),
    /// No: where nobody has said so, it is not so.
    No,
}

/// Set by the judge, never a fact.
pub(super) const APPROVED: Attribute = of("approved", Kind::Bool, Missing::Errs);

const COMMON: &[Attribute] = &[
    APPROVED,
    of("address", Kind::Address, Missing::Errs),
    of("port", Kind::Long, Missing::Errs),
    of("host", Kind::Text, Missing::Is("")),
    of("proof", Kind::Text, Missing::Is("none")),
    of("hour", Kind::Long, Missing::Errs),
    of("weekday", Kind::Text, Missing::Errs),
    of("login_expired", Kind::Bool, Missing::No),
    of("crew", Kind::Text, Missing::Absent),
    of("agent_role", Kind::Text, Missing::Absent),
];

const CONNECT: &[Attribute] = &[of("protocol", Kind::Text, Missing::Errs)];

const RESOLVE: &[Attribute] = &[of("name", Kind::Text, Missing::Errs), of("record", Kind::Text, Missing::Errs)];

const QUERY: &[Attribute] = &[
    of("kinds", Kind::Texts, Missing::Errs),
    of("tables", Kind::Texts, Missing::Errs),
    of("functions", Kind::Texts, Missing::Errs),
    of("unfiltered", Kind::Bool, Missing::Errs),
    of("parsed", Kind::Bool, Missing::Errs),
    of("text", Kind::Text, Missing::Errs),
    of("user", Kind::Text, Missing::Errs),
    of("database", Kind::Text, Missing::Errs),
];

const EXEC: &[Attribute] = &[of("command", Kind::Text, Missing::Errs), of("argv", Kind::Texts, Missing::Errs)];

const SHELL: &[Attribute] = &[of("command", Kind::Text, Missing::Absent), of("argv", Kind::Texts, Missing::Absent)];

const FILE: &[Attribute] = &[of("path", Kind::Text, Missing::Errs)];

const FORWARD: &[Attribute] = &[of("to_host", Kind::Text, Missing::Errs), of("to_port", Kind::Long, Missing::Errs)];

const HTTP: &[Attribute] = &[
    of("method", Kind::Text, Missing::Errs),
    of("path", Kind::Text, Missing::Errs),
    of("raw_path", Kind::Text, Missing::Errs),
    of("query", Kind::Text, Missing::EmptyBeside("raw_path")),
    of("content_type", Kind::Text, Missing::EmptyBeside("method")),
];

const MODEL: &[Attribute] = &[of("model", Kind::Text, Missing::Errs), of("tools", Kind::Texts, Missing::Errs)];

const fn of(name: &'static str, kind: Kind, missing: Missing) -> Attribute {
    Attribute { name, kind, missing }
}

/// Attributes of a verb's context.
pub(super) fn attributes(verb: Verb) -> impl Iterator<Item = &'static Attribute> {
    let own: [&'static [Attribute]; 2] = match verb {
        Verb::Connect => [CONNECT, &[]],
        Verb::Resolve => [RESOLVE, &[]],
        Verb::Query => [QUERY, &[]],
        Verb::Exec => [EXEC, &[]],
        Verb::Shell => [SHELL, &[]],
        Verb::ReadFile | Verb::WriteFile => [FILE, &[]],
        Verb::Forward => [FORWARD, &[]],
        Verb::HttpRequest => [HTTP, &[]],
        Verb::LlmCall => [HTTP, MODEL],
    };
    COMMON.iter().chain(own.into_iter().flatten())
}
