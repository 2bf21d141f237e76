//! The policies that can apply to one identity and one target, and how they judge.
//!
//! Cedar skips a policy that errs; here an error denies, so that an erring forbid does not vanish.

use std::collections::HashSet;
use std::sync::Arc;

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision, Entities, Entity, EntityUid, PolicySet, Request,
};

use super::reach::Party;
use super::schema::{self, Types};
use super::table::{self, Attribute};
use super::{Rule, context};
use crate::action::{Facts, Verb};
use crate::identity::Identity;
use crate::target::Resource;
use crate::verdict::{Effect, Terms, Verdict};

/// Why no policy could be asked.
const BROKEN: &str = "the schema of this program is broken: report it";

/// The policies that can apply to one identity and one target.
#[derive(Debug, Default)]
pub struct Scope {
    /// None where the schema is broken: then everything is denied.
    asked: Option<Asked>,
    /// In the order of [`Verb::ALL`].
    slices: Vec<Slice>,
}

/// Who asks for what, made once.
#[derive(Debug)]
struct Asked {
    principal: EntityUid,
    resource: EntityUid,
    entities: Entities,
    authorizer: Authorizer,
}

/// The policies for one verb.
#[derive(Debug)]
pub(super) struct Slice {
    action: EntityUid,
    pub(super) rules: Vec<Arc<Rule>>,
    set: PolicySet,
    /// What they look at.
    attributes: Vec<&'static Attribute>,
}

/// What one look at the policies came to.
#[derive(Debug, Default)]
struct Answer {
    allows: bool,
    /// Satisfied policies that decided; all forbids or all permits.
    decided: Vec<Arc<Rule>>,
    /// Policies that could not be evaluated, and why.
    errors: Vec<(String, String)>,
}

impl Scope {
    pub(super) fn of(rules: &[Arc<Rule>], who: &Identity, what: &Resource) -> Self {
        let Some(types) = schema::types() else { return Self::default() };
        let party = |own, id: &str, above, members: &[String]| Party {
            uid: schema::uid(own, id),
            member_of: members.iter().map(|member| schema::uid(above, member)).collect(),
        };
        let principal = party(&types.identity, &who.id, &types.group, &who.groups);
        let resource = party(&types.target, &what.id, &types.tag, &what.tags);
        let near: Vec<&Arc<Rule>> = rules.iter().filter(|rule| rule.reach.meets(&principal, &resource)).collect();
        let slices = Verb::ALL.into_iter().map(|verb| Slice::of(types, verb, &near)).collect();
        Self { asked: Asked::of(principal, resource), slices }
    }

    /// Judges an action with these facts; `approved` is not one of them.
    #[must_use]
    pub fn judge(&self, verb: Verb, facts: &Facts) -> Verdict {
        let Some(slice) = self.slice(verb) else { return refused(Answer::failed(BROKEN)) };
        let answer = self.answer(slice, facts, false);
        if !answer.errors.is_empty() {
            return refused(answer);
        }
        if answer.allows {
            return Verdict::of(Effect::Allow, answer.names());
        }
        let Some(terms) = answer.terms() else { return refused(answer) };
        let approved = self.answer(slice, facts, true);
        // A permit that waits for the approval permits nothing by itself, and what nothing permits is not asked for.
        let permitted = || approved.decided.iter().any(|permit| self.holds(slice, permit, facts) == Ok(true));
        if approved.allows && approved.errors.is_empty() && permitted() {
            return Verdict::ask(answer.names(), terms);
        }
        refused(Answer { errors: approved.errors, ..answer })
    }

    pub(super) fn slice(&self, verb: Verb) -> Option<&Slice> {
        self.slices.get(Verb::ALL.iter().position(|other| *other == verb)?)
    }

    fn answer(&self, slice: &Slice, facts: &Facts, approved: bool) -> Answer {
        let Some(asked) = &self.asked else { return Answer::failed(BROKEN) };
        if slice.rules.is_empty() {
            return Answer::default();
        }
        match context::context(&slice.attributes, facts, approved) {
            Ok(context) => asked.answer(slice, &slice.set, context),
            Err(why) => Answer::failed(&why),
        }
    }

    /// Whether one policy is satisfied.
    ///
    /// # Errors
    /// Why it cannot be evaluated.
    pub(super) fn holds(&self, slice: &Slice, rule: &Arc<Rule>, facts: &Facts) -> Result<bool, String> {
        let asked = self.asked.as_ref().ok_or(BROKEN)?;
        let set = PolicySet::from_policies([rule.within.clone()]).map_err(|error| error.to_string())?;
        let answer = asked.answer(slice, &set, context::context(&slice.attributes, facts, false)?);
        match answer.errors.into_iter().next() {
            Some((_, why)) => Err(why),
            None => Ok(!answer.decided.is_empty()),
        }
    }
}

impl Asked {
    fn of(principal: Party, resource: Party) -> Option<Self> {
        let (who, what) = (principal.uid.clone(), resource.uid.clone());
        let known = [principal, resource].into_iter().map(|party| {
            let above: HashSet<EntityUid> = party.member_of.into_iter().collect();
            Entity::new_no_attrs(party.uid, above)
        });
        let entities = Entities::from_entities(known, None).ok()?;
        Some(Self { principal: who, resource: what, entities, authorizer: Authorizer::new() })
    }

    fn answer(&self, slice: &Slice, set: &PolicySet, context: Context) -> Answer {
        let (principal, resource) = (self.principal.clone(), self.resource.clone());
        let request = match Request::new(principal, slice.action.clone(), resource, context, None) {
            Ok(request) => request,
            Err(error) => return Answer::failed(&error.to_string()),
        };
        let response = self.authorizer.is_authorized(&request, set, &self.entities);
        let reasons: HashSet<&str> = response.diagnostics().reason().map(AsRef::as_ref).collect();
        let errors = response.diagnostics().errors().map(|AuthorizationError::PolicyEvaluationError(error)| {
            (error.policy_id().to_string(), error.inner().to_string())
        });
        let mut errors: Vec<(String, String)> = errors.collect();
        errors.sort();
        Answer {
            allows: response.decision() == Decision::Allow,
            decided: slice.rules.iter().filter(|rule| reasons.contains(rule.id.as_str())).cloned().collect(),
            errors,
        }
    }
}

impl Slice {
    fn of(types: &Types, verb: Verb, near: &[&Arc<Rule>]) -> Self {
        let rules: Vec<Arc<Rule>> = near.iter().filter(|rule| rule.reach.takes(verb)).copied().cloned().collect();
        // Names are known to be different; a policy that could not be added would be missing without a word.
        let set = PolicySet::from_policies(rules.iter().map(|rule| rule.within.clone())).unwrap_or_default();
        let looked_at = |attribute: &&Attribute| rules.iter().any(|rule| rule.looks.may(attribute.name));
        let attributes = table::attributes(verb).filter(looked_at).collect();
        Self { action: schema::uid(&types.action, verb.as_str()), rules, set, attributes }
    }
}

impl Answer {
    fn failed(why: &str) -> Self {
        Self { errors: vec![(String::new(), why.to_owned())], ..Self::default() }
    }

    fn names(&self) -> Vec<String> {
        self.decided.iter().map(|rule| rule.id.clone()).collect()
    }

    /// What an approval needs, where all that decided are forbids that it lifts.
    fn terms(&self) -> Option<Terms> {
        let mut all: Option<Terms> = None;
        for rule in &self.decided {
            let terms = rule.terms.as_ref()?;
            all = Some(match all {
                None => terms.clone(),
                Some(mut all) => {
                    all.groups.extend(terms.groups.iter().cloned());
                    all.approvers = all.approvers.max(terms.approvers);
                    all.whole_session &= terms.whole_session;
                    all
                }
            });
        }
        all
    }
}

/// A denial: by what forbids, by what errs, or by default.
fn refused(answer: Answer) -> Verdict {
    let forbids = if answer.allows { Vec::new() } else { answer.names() };
    let mut verdict = Verdict::of(Effect::Deny, forbids);
    for (id, why) in answer.errors {
        verdict.errors.push(if id.is_empty() { why } else { format!("{id}: {why}") });
        if !id.is_empty() && !verdict.policies.contains(&id) {
            verdict.policies.push(id);
        }
    }
    verdict
}
