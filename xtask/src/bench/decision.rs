//! What a decision of policy costs, by how many policies there are.

use std::process::Command;

use anyhow::Result;
use serde_json::Value;

use super::{Line, number, release};
use crate::shell::quietly;

/// Microseconds at the median: next to the 1.4 of an append and the 55 of a relayed request.
const GOAL_US: f64 = 25.0;

/// Measures decisions; nothing is captured for it.
pub(super) fn measure(lines: &mut Vec<Line>) -> Result<()> {
    let said = quietly(&mut Command::new(release("examples/decision_cost")))?;
    for line in said.lines() {
        let said: Value = serde_json::from_str(line)?;
        let value = |key: &str| number(&said, key).unwrap_or(f64::NAN);
        let [median, tail] = match said.get("policies").and_then(Value::as_u64) {
            Some(1) => ["P1 decision p50, 1 policy", "P1 decision p99, 1 policy"],
            Some(100) => ["P1 decision p50, 100 policies", "P1 decision p99, 100 policies"],
            _ => ["P1 decision p50, 1,000 policies", "P1 decision p99, 1,000 policies"],
        };
        lines.push(Line { name: median, goal: Some(GOAL_US), value: value("p50_us"), unit: "us" });
        lines.push(Line { name: tail, goal: None, value: value("p99_us"), unit: "us" });
    }
    Ok(())
}
