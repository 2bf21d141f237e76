//! For whom, on what and for which actions a policy can apply at all: its scope.
//!
//! A policy out of reach is false before its conditions are looked at, so that it can neither decide nor err.

use cedar_policy::{ActionConstraint, EntityUid, Policy, PrincipalConstraint, ResourceConstraint};

use super::schema;
use crate::action::Verb;

/// The scope of a policy.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    principal: Whom,
    resource: Whom,
    /// None: every one.
    pub(super) verbs: Option<Vec<Verb>>,
}

/// What a scope says of the principal or the resource.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Whom {
    All,
    /// This very one.
    One(EntityUid),
    /// This one, or a member of it.
    In(EntityUid),
    /// A type that is neither the principal's nor the resource's.
    Nobody,
}

impl Reach {
    pub(super) fn of(policy: &Policy) -> Self {
        let is = |name: &cedar_policy::EntityTypeName, wanted: &str| name.basename() == wanted;
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Any => Whom::All,
            PrincipalConstraint::Eq(uid) => Whom::One(uid),
            PrincipalConstraint::In(uid) => Whom::In(uid),
            PrincipalConstraint::Is(name) if is(&name, "Identity") => Whom::All,
            PrincipalConstraint::IsIn(name, uid) if is(&name, "Identity") => Whom::In(uid),
            PrincipalConstraint::Is(_) | PrincipalConstraint::IsIn(..) => Whom::Nobody,
        };
        let resource = match policy.resource_constraint() {
            ResourceConstraint::Any => Whom::All,
            ResourceConstraint::Eq(uid) => Whom::One(uid),
            ResourceConstraint::In(uid) => Whom::In(uid),
            ResourceConstraint::Is(name) if is(&name, "Target") => Whom::All,
            ResourceConstraint::IsIn(name, uid) if is(&name, "Target") => Whom::In(uid),
            ResourceConstraint::Is(_) | ResourceConstraint::IsIn(..) => Whom::Nobody,
        };
        let verbs = match policy.action_constraint() {
            ActionConstraint::Any => None,
            ActionConstraint::Eq(action) => Some(schema::verb(&action).into_iter().collect()),
            ActionConstraint::In(actions) => Some(actions.iter().filter_map(schema::verb).collect()),
        };
        Self { principal, resource, verbs }
    }

    /// Whether it can apply to this principal in these groups, and this resource with these tags.
    pub(super) fn meets(&self, principal: &Party, resource: &Party) -> bool {
        self.principal.meets(principal) && self.resource.meets(resource)
    }

    /// Whether it can apply to this verb.
    pub(super) fn takes(&self, verb: Verb) -> bool {
        self.verbs.as_ref().is_none_or(|verbs| verbs.contains(&verb))
    }

    /// Entities that the scope names.
    pub(super) fn entities(&self) -> impl Iterator<Item = &EntityUid> {
        [&self.principal, &self.resource].into_iter().filter_map(|whom| match whom {
            Whom::One(uid) | Whom::In(uid) => Some(uid),
            Whom::All | Whom::Nobody => None,
        })
    }
}

/// A principal or a resource, with what it is a member of.
#[derive(Debug)]
pub(super) struct Party {
    pub(super) uid: EntityUid,
    pub(super) member_of: Vec<EntityUid>,
}

impl Whom {
    fn meets(&self, party: &Party) -> bool {
        match self {
            Self::All => true,
            Self::One(uid) => *uid == party.uid,
            Self::In(uid) => *uid == party.uid || party.member_of.contains(uid),
            Self::Nobody => false,
        }
    }
}
