//! A walk over sqlparser's tree of one statement.
//!
//! Owns what counts as a table, a function, a kind. Never passes over what it does not know: each node is on a list of those
//! that PostgreSQL has and reads as the parser does, or the statement is not understood.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    Delete, Expr, FromTable, FunctionArguments, Ident, Insert, LimitClause, Merge, MergeAction, ObjectName,
    ObjectNamePart, OnConflictAction, OnInsert, Query, Select, SelectFlavor, SetExpr, Statement, TableFactor,
    TableObject, Update, Visitor,
};

use super::filter::meets_every_row;
use super::reader::joined;
use super::tally::Tally;

/// What was found.
#[derive(Default)]
pub struct Walk {
    pub kinds: BTreeSet<&'static str>,
    pub tables: BTreeSet<String>,
    pub functions: BTreeSet<String>,
    /// Every name of a common table expression, wherever it is in scope.
    pub expressions: BTreeSet<String>,
    unfiltered: bool,
    scopes: Vec<Scope>,
    /// The name of a function in a FROM, which the parser tells as a table's.
    function_name: Option<*const ObjectName>,
    /// The VALUES of an INSERT, which select nothing.
    values: Option<*const Query>,
    /// Nothing but a column is sought. One type of walk serves both: a compiler makes each visitor's walk over hundreds of
    /// nodes anew.
    for_a_column: bool,
}

/// A query whose nodes are being walked.
struct Scope {
    query: *const Query,
    /// The queries of its WITH and their names, in order.
    expressions: Vec<(*const Query, String)>,
    /// How many of them are in scope.
    visible: usize,
}

type Flow = ControlFlow<()>;

fn only_if(known: bool) -> Flow {
    if known { Flow::Continue(()) } else { Flow::Break(()) }
}

impl Walk {
    pub fn new() -> Self {
        Self::default()
    }

    /// A walk that ends at the first column's name, and tells nothing.
    pub fn for_a_column() -> Self {
        Self { for_a_column: true, ..Self::default() }
    }

    /// Adds what was found.
    pub fn tell(self, tally: &mut Tally) {
        self.kinds.into_iter().for_each(|kind| tally.kind(kind));
        self.functions.into_iter().for_each(|name| tally.function(name));
        tally.tables.extend(self.tables);
        tally.unfiltered |= self.unfiltered;
    }

    fn is_expression(&self, name: &str) -> bool {
        let mut visible = self.scopes.iter().flat_map(|scope| scope.expressions.iter().take(scope.visible));
        visible.any(|(_, known)| known == name)
    }

    fn function(&mut self, name: &ObjectName) -> Flow {
        let is_constructor =
            |ident: &Ident| ident.quote_style.is_none() && ["row", "array"].contains(&ident.value.as_str());
        if let [ObjectNamePart::Identifier(ident)] = name.0.as_slice()
            && is_constructor(ident)
        {
            return Flow::Continue(());
        }
        match written(name) {
            Some(name) => {
                self.functions.insert(name);
                Flow::Continue(())
            }
            None => Flow::Break(()),
        }
    }

    fn insert(&mut self, insert: &Insert) -> bool {
        self.kinds.insert("INSERT");
        if let Some(query) = &insert.source
            && query.with.is_none()
            && matches!(*query.body, SetExpr::Values(_))
        {
            self.values = Some(std::ptr::from_ref(query.as_ref()));
        }
        let conflict = match &insert.on {
            None => true,
            Some(OnInsert::OnConflict(conflict)) => {
                if matches!(conflict.action, OnConflictAction::DoUpdate(_)) {
                    self.kinds.insert("UPDATE");
                }
                true
            }
            Some(_) => false,
        };
        let foreign = insert.or.is_some()
            || insert.ignore
            || insert.overwrite
            || insert.partitioned.is_some()
            || insert.has_table_keyword
            || insert.replace_into
            || insert.priority.is_some()
            || insert.insert_alias.is_some()
            || insert.settings.is_some()
            || insert.format_clause.is_some()
            || insert.output.is_some()
            || insert.multi_table_insert_type.is_some()
            || insert.multi_table_else_clause.is_some();
        let more = [
            insert.assignments.len(),
            insert.after_columns.len(),
            insert.multi_table_into_clauses.len(),
            insert.multi_table_when_clauses.len(),
        ];
        conflict && !foreign && more == [0; 4] && insert.into && matches!(insert.table, TableObject::TableName(_))
    }

    fn update(&mut self, update: &Update) -> bool {
        self.kinds.insert("UPDATE");
        self.unfiltered |= meets_every_row(update.selection.as_ref());
        update.or.is_none() && update.order_by.is_empty() && update.limit.is_none() && update.output.is_none()
    }

    fn delete(&mut self, delete: &Delete) -> bool {
        self.kinds.insert("DELETE");
        self.unfiltered |= meets_every_row(delete.selection.as_ref());
        delete.tables.is_empty()
            && delete.order_by.is_empty()
            && delete.limit.is_none()
            && delete.output.is_none()
            && matches!(delete.from, FromTable::WithFromKeyword(_))
    }

    fn merge(&mut self, merge: &Merge) -> bool {
        self.kinds.insert("MERGE");
        for clause in &merge.clauses {
            let (kind, is_met) = match &clause.action {
                MergeAction::Insert(_) => ("INSERT", false),
                MergeAction::Update(_) => ("UPDATE", true),
                MergeAction::Delete { .. } => ("DELETE", true),
                MergeAction::DoNothing { .. } => continue,
            };
            self.kinds.insert(kind);
            self.unfiltered |= is_met && meets_every_row(Some(&merge.on));
        }
        merge.into && merge.output.is_none()
    }
}

impl Visitor for Walk {
    type Break = ();

    fn pre_visit_statement(&mut self, statement: &Statement) -> Flow {
        only_if(match statement {
            Statement::Query(_) => true,
            Statement::Insert(insert) => self.insert(insert),
            Statement::Update(update) => self.update(update),
            Statement::Delete(delete) => self.delete(delete),
            Statement::Merge(merge) => self.merge(merge),
            _ => false,
        })
    }

    fn pre_visit_query(&mut self, query: &Query) -> Flow {
        let address = std::ptr::from_ref(query);
        match &*query.body {
            SetExpr::Values(_) if self.values == Some(address) => {}
            SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::SetOperation { .. } | SetExpr::Values(_) => {
                self.kinds.insert("SELECT");
            }
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {}
            SetExpr::Table(_) => return Flow::Break(()),
        }
        if !query.locks.is_empty() {
            self.kinds.insert("LOCK");
        }
        let limit = match &query.limit_clause {
            None => true,
            Some(LimitClause::LimitOffset { limit_by, .. }) => limit_by.is_empty(),
            Some(LimitClause::OffsetCommaLimit { .. }) => false,
        };
        let mut scope = Scope { query: address, expressions: Vec::new(), visible: 0 };
        for expression in query.with.iter().flat_map(|with| &with.cte_tables) {
            let name = joined([expression.alias.name.value.as_str()].into_iter());
            self.expressions.insert(name.clone());
            scope.expressions.push((std::ptr::from_ref(expression.query.as_ref()), name));
            if expression.from.is_some() {
                return Flow::Break(());
            }
        }
        if query.with.as_ref().is_some_and(|with| with.recursive) {
            scope.visible = scope.expressions.len();
        }
        self.scopes.push(scope);
        let foreign = query.for_clause.is_some() || query.settings.is_some() || query.format_clause.is_some();
        only_if(limit && !foreign && query.pipe_operators.is_empty())
    }

    fn post_visit_query(&mut self, query: &Query) -> Flow {
        let address = std::ptr::from_ref(query);
        if self.scopes.pop().is_none_or(|scope| !std::ptr::eq(scope.query, address)) {
            return Flow::Break(());
        }
        // A name of a WITH is in scope for those behind it, and for the query itself.
        if let Some(scope) = self.scopes.last_mut()
            && let Some(at) = scope.expressions.iter().position(|(of, _)| std::ptr::eq(*of, address))
        {
            scope.visible = scope.visible.max(at + 1);
        }
        Flow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> Flow {
        if let Some(into) = &select.into {
            self.kinds.extend(["CREATE", "CREATE_TABLE"]);
            for target in &into.targets {
                let Some(name) = named(target) else { return Flow::Break(()) };
                self.tables.insert(name);
            }
        }
        let more = [
            select.lateral_views.len(),
            select.connect_by.len(),
            select.cluster_by.len(),
            select.distribute_by.len(),
            select.sort_by.len(),
        ];
        let foreign = select.top.is_some()
            || select.exclude.is_some()
            || select.prewhere.is_some()
            || select.qualify.is_some()
            || select.value_table_mode.is_some()
            || select.select_modifiers.is_some();
        only_if(!foreign && more == [0; 5] && matches!(select.flavor, SelectFlavor::Standard))
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Flow {
        match factor {
            TableFactor::Table { name, args, with_hints, version, partitions, json_path, index_hints, .. } => {
                let more = [with_hints.len(), partitions.len(), index_hints.len()];
                if more != [0; 3] || version.is_some() || json_path.is_some() {
                    return Flow::Break(());
                }
                let Some(args) = args else { return Flow::Continue(()) };
                self.function_name = Some(std::ptr::from_ref(name));
                self.function(name)?;
                only_if(args.settings.is_none())
            }
            TableFactor::Function { name, .. } => self.function(name),
            TableFactor::UNNEST { with_offset, .. } => {
                self.functions.insert("unnest".to_owned());
                only_if(!with_offset)
            }
            TableFactor::Derived { .. }
            | TableFactor::NestedJoin { .. }
            | TableFactor::JsonTable { .. }
            | TableFactor::XmlTable { .. } => Flow::Continue(()),
            _ => Flow::Break(()),
        }
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> Flow {
        if self.function_name.take() == Some(std::ptr::from_ref(relation)) {
            return Flow::Continue(());
        }
        let Some(name) = written(relation) else { return Flow::Break(()) };
        if relation.0.len() > 1 || !self.is_expression(&name) {
            self.tables.insert(name);
        }
        Flow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Flow {
        if self.for_a_column {
            return only_if(!matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)));
        }
        match expr {
            Expr::Function(function) => {
                self.function(&function.name)?;
                only_if(!function.uses_odbc_syntax && matches!(function.parameters, FunctionArguments::None))
            }
            expr => only_if(is_known(expr)),
        }
    }
}

/// Expressions that PostgreSQL has.
fn is_known(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::Identifier(_)
            | Expr::CompoundIdentifier(_)
            | Expr::CompoundFieldAccess { .. }
            | Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotUnknown(_)
            | Expr::IsDistinctFrom(..)
            | Expr::IsNotDistinctFrom(..)
            | Expr::IsJson { .. }
            | Expr::IsNormalized { .. }
            | Expr::InList { .. }
            | Expr::InSubquery { .. }
            | Expr::Between { .. }
            | Expr::BinaryOp { .. }
            | Expr::Like { .. }
            | Expr::ILike { .. }
            | Expr::SimilarTo { .. }
            | Expr::AnyOp { .. }
            | Expr::AllOp { .. }
            | Expr::UnaryOp { .. }
            | Expr::Cast { .. }
            | Expr::AtTimeZone { .. }
            | Expr::Extract { .. }
            | Expr::Ceil { .. }
            | Expr::Floor { .. }
            | Expr::Position { .. }
            | Expr::Substring { .. }
            | Expr::Trim { .. }
            | Expr::Overlay { .. }
            | Expr::Collate { .. }
            | Expr::Nested(_)
            | Expr::Value(_)
            | Expr::TypedString(_)
            | Expr::Case { .. }
            | Expr::Exists { .. }
            | Expr::Subquery(_)
            | Expr::GroupingSets(_)
            | Expr::Cube(_)
            | Expr::Rollup(_)
            | Expr::Tuple(_)
            | Expr::Array(_)
            | Expr::Interval(_)
            | Expr::Wildcard(_)
            | Expr::QualifiedWildcard(..)
    )
}

/// A name as it is written; our tokens are folded already.
fn written(name: &ObjectName) -> Option<String> {
    let part = |part: &ObjectNamePart| match part {
        ObjectNamePart::Identifier(ident) => Some(ident.value.clone()),
        ObjectNamePart::Function(_) => None,
    };
    let parts: Option<Vec<String>> = name.0.iter().map(part).collect();
    parts.map(|parts| joined(parts.iter().map(String::as_str)))
}

/// The target of a SELECT INTO.
fn named(target: &Expr) -> Option<String> {
    let idents: &[Ident] = match target {
        Expr::Identifier(ident) => std::slice::from_ref(ident),
        Expr::CompoundIdentifier(idents) => idents,
        _ => return None,
    };
    Some(joined(idents.iter().map(|ident| ident.value.as_str())))
}
