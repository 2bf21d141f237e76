//! What a policy looks at, and what of it can be told without a request.
//!
//! Reads the syntax tree; never evaluates one.

use std::collections::BTreeSet;

use cedar_policy::pst::{BinaryOp, Clause, Expr, Literal, UnaryOp, Var};

/// Parts of the context that a policy may read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Looks {
    /// The whole record, or nobody can tell which.
    pub(super) all: bool,
    /// Attributes by name.
    pub(super) at: BTreeSet<String>,
}

impl Looks {
    /// Of all conditions of a policy.
    pub(super) fn of(clauses: &[Clause]) -> Self {
        let mut looks = Self::default();
        for clause in clauses {
            let (Clause::When(expr) | Clause::Unless(expr)) = clause;
            looks.add(expr);
        }
        looks
    }

    /// Whether the policy may read this attribute.
    pub(super) fn may(&self, name: &str) -> bool {
        self.all || self.at.contains(name)
    }

    /// Whether the policy names this attribute.
    pub(super) fn names(&self, name: &str) -> bool {
        self.at.contains(name)
    }

    fn add(&mut self, expr: &Expr) {
        match expr {
            Expr::Var(Var::Context) => self.all = true,
            Expr::GetAttr { expr, attr } if is_context(expr) => {
                self.at.insert(attr.to_string());
            }
            Expr::HasAttr { expr, attrs } if is_context(expr) => {
                self.at.insert(attrs.head.to_string());
            }
            other => match children(other) {
                Some(children) => children.into_iter().for_each(|child| self.add(child)),
                None => self.all = true,
            },
        }
    }
}

fn is_context(expr: &Expr) -> bool {
    matches!(expr, Expr::Var(Var::Context))
}

/// What an expression is made of; none for a form that is not known here.
fn children(expr: &Expr) -> Option<Vec<&Expr>> {
    Some(match expr {
        Expr::Literal(_) | Expr::Var(_) => Vec::new(),
        Expr::UnaryOp { expr, .. }
        | Expr::GetAttr { expr, .. }
        | Expr::HasAttr { expr, .. }
        | Expr::Like { expr, .. } => vec![expr],
        Expr::BinaryOp { left, right, .. } => vec![left, right],
        Expr::Is { expr, in_expr, .. } => {
            let inside = in_expr.iter().map(std::convert::AsRef::as_ref);
            std::iter::once(&**expr).chain(inside).collect()
        }
        Expr::IfThenElse { cond, then_expr, else_expr } => vec![cond, then_expr, else_expr],
        Expr::Set(items) => items.iter().map(std::convert::AsRef::as_ref).collect(),
        Expr::Record(fields) => fields.values().map(std::convert::AsRef::as_ref).collect(),
        _ => return None,
    })
}

/// Whether a policy's conditions hold, or do not, whatever the request; none where that depends.
pub(super) fn constant(clauses: &[Clause]) -> Option<bool> {
    let held = clauses.iter().map(|clause| match clause {
        Clause::When(expr) => value(expr),
        Clause::Unless(expr) => value(expr).map(|held| !held),
    });
    all(held)
}

fn all(held: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut unknown = false;
    for held in held {
        match held {
            Some(false) => return Some(false),
            Some(true) => {}
            None => unknown = true,
        }
    }
    (!unknown).then_some(true)
}

fn value(expr: &Expr) -> Option<bool> {
    match expr {
        Expr::Literal(Literal::Bool(value)) => Some(*value),
        Expr::UnaryOp { op: UnaryOp::Not, expr } => value(expr).map(|value| !value),
        Expr::BinaryOp { op: BinaryOp::And, left, right } => all([value(left), value(right)].into_iter()),
        Expr::BinaryOp { op: BinaryOp::Or, left, right } => {
            all([left, right].into_iter().map(|side| value(side).map(|held| !held))).map(|neither| !neither)
        }
        Expr::BinaryOp { op: BinaryOp::Eq, left, right } => match (&**left, &**right) {
            (Expr::Literal(left), Expr::Literal(right)) => Some(left == right),
            _ => None,
        },
        Expr::BinaryOp { op: BinaryOp::NotEq, left, right } => match (&**left, &**right) {
            (Expr::Literal(left), Expr::Literal(right)) => Some(left != right),
            _ => None,
        },
        Expr::IfThenElse { cond, then_expr, else_expr } => {
            if value(cond)? {
                value(then_expr)
            } else {
                value(else_expr)
            }
        }
        _ => None,
    }
}

/// Whether the policy holds back as long as `context.approved` is false, and not because of it once it is true: it stands as
/// `unless { context.approved }`, alone or with more, or as `when { !context.approved && … }`.
pub(super) fn waits_for_approval(clauses: &[Clause]) -> bool {
    clauses.iter().any(|clause| match clause {
        Clause::Unless(expr) => holds_when_approved(expr),
        Clause::When(expr) => fails_when_approved(expr),
    })
}

/// True for certain where `approved` is.
fn holds_when_approved(expr: &Expr) -> bool {
    match expr {
        Expr::GetAttr { expr, attr } => is_context(expr) && attr == "approved",
        Expr::UnaryOp { op: UnaryOp::Not, expr } => fails_when_approved(expr),
        Expr::BinaryOp { op: BinaryOp::And, left, right } => holds_when_approved(left) && holds_when_approved(right),
        Expr::BinaryOp { op: BinaryOp::Or, left, right } => holds_when_approved(left) || holds_when_approved(right),
        Expr::BinaryOp { op: BinaryOp::Eq, left, right } => compares(left, right, true),
        Expr::BinaryOp { op: BinaryOp::NotEq, left, right } => compares(left, right, false),
        _ => false,
    }
}

/// False for certain where `approved` is true.
fn fails_when_approved(expr: &Expr) -> bool {
    match expr {
        Expr::UnaryOp { op: UnaryOp::Not, expr } => holds_when_approved(expr),
        Expr::BinaryOp { op: BinaryOp::And, left, right } => fails_when_approved(left) || fails_when_approved(right),
        Expr::BinaryOp { op: BinaryOp::Or, left, right } => fails_when_approved(left) && fails_when_approved(right),
        Expr::BinaryOp { op: BinaryOp::Eq, left, right } => compares(left, right, false),
        Expr::BinaryOp { op: BinaryOp::NotEq, left, right } => compares(left, right, true),
        _ => false,
    }
}

fn compares(left: &Expr, right: &Expr, with: bool) -> bool {
    let is = |expr: &Expr| matches!(expr, Expr::Literal(Literal::Bool(value)) if *value == with);
    (holds_when_approved(left) && is(right)) || (is(left) && holds_when_approved(right))
}

/// Entities that the conditions name, as type and identifier.
pub(super) fn entities(clauses: &[Clause]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for clause in clauses {
        let (Clause::When(expr) | Clause::Unless(expr)) = clause;
        named(expr, &mut found);
    }
    found
}

fn named(expr: &Expr, found: &mut Vec<(String, String)>) {
    if let Expr::Literal(Literal::EntityUID(uid)) = expr {
        found.push((uid.ty.to_string(), uid.eid.to_string()));
    }
    children(expr).unwrap_or_default().into_iter().for_each(|child| named(child, found));
}
