//! Whether a WHERE leaves out any row.
//!
//! Owns what can be told without a database: an expression that names no column, or compares a thing with itself, leaves out
//! all rows or none. Never proves that a filter is a good one.

use sqlparser::ast::{BinaryOperator, Expr, Visit};

use super::walk::Walk;

/// Whether a statement with this WHERE may meet every row.
pub fn meets_every_row(selection: Option<&Expr>) -> bool {
    selection.is_none_or(passes_all)
}

fn passes_all(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) | Expr::IsTrue(inner) | Expr::IsNotFalse(inner) => passes_all(inner),
        Expr::BinaryOp { left, op: BinaryOperator::Or, right } => passes_all(left) || passes_all(right),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => passes_all(left) && passes_all(right),
        Expr::BinaryOp { left, op: BinaryOperator::Eq | BinaryOperator::LtEq | BinaryOperator::GtEq, right }
            if left == right =>
        {
            true
        }
        Expr::IsNotDistinctFrom(left, right) if left == right => true,
        _ => !names_a_column(expr),
    }
}

fn names_a_column(expr: &Expr) -> bool {
    expr.visit(&mut Walk::for_a_column()).is_break()
}
