//! How the server goes about reads: the plan of each statement that a store with a log runs, with the values that it ran with,
//! condensed to what decides its cost. Only a bench keeps such a log.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;
use sqlx::postgres::PgArguments;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::store::error::{ErrorKind, StoreError};
use crate::store::statements;

/// From so many rows on, reading a table from end to end is worth telling.
const BIG_TABLE_ROWS: u64 = 10_000;

/// A statement's plan as it was carried out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// The name of the statement's constant.
    pub statement: &'static str,
    /// The outermost node.
    pub top: String,
    /// In the order of the plan, each once.
    pub indexes: Vec<String>,
    /// Tables of ten thousand rows or more of which every row was read.
    pub big_scans: Vec<String>,
    /// Rows that were read from tables and indexes, whether or not they were of use.
    pub rows_read: u64,
    /// Pages of eight KiB.
    pub pages_cached: u64,
    pub pages_read: u64,
    pub planning_milliseconds: f64,
    pub execution_milliseconds: f64,
}

/// The plans of a store's reads, in the order in which they ran. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct PlanLog(Arc<Mutex<Vec<Plan>>>);

impl PlanLog {
    /// What has been noted since this was last asked.
    pub fn take(&self) -> Vec<Plan> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Carries a statement out for its plan alone, and notes that.
    pub(crate) async fn explain(
        &self,
        connection: &mut PgConnection,
        sql: &'static str,
        arguments: PgArguments,
    ) -> Result<(), StoreError> {
        let explaining = AssertSqlSafe(format!("explain (analyze, buffers, format json) {sql}"));
        let query = sqlx::query_scalar_with::<_, Value, _>(explaining, arguments).persistent(false);
        let plan = condense(sql, &query.fetch_one(connection).await?);
        let plan = plan.ok_or_else(|| StoreError::new(ErrorKind::Unavailable, "the server's plan is of an unknown form"))?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(plan);
        Ok(())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.big_scans.iter().map(|table| format!("EVERY ROW OF {table}")).chain(self.indexes.iter().cloned());
        let parts: Vec<String> = parts.collect();
        f.write_str(if parts.is_empty() { &self.top } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

fn condense(sql: &str, explained: &Value) -> Option<Plan> {
    let explained = explained.get(0)?;
    let top = explained.get("Plan")?;
    let number = |name: &str| top.get(name).and_then(Value::as_u64).unwrap_or_default();
    let milliseconds = |name: &str| explained.get(name).and_then(Value::as_f64).unwrap_or_default();
    let mut plan = Plan {
        statement: statements().into_iter().find(|(_, known)| *known == sql).map_or("", |(name, _)| name),
        top: top.get("Node Type")?.as_str()?.to_owned(),
        indexes: Vec::new(),
        big_scans: Vec::new(),
        rows_read: 0,
        // Those of the outermost node contain the others'.
        pages_cached: number("Shared Hit Blocks"),
        pages_read: number("Shared Read Blocks"),
        planning_milliseconds: milliseconds("Planning Time"),
        execution_milliseconds: milliseconds("Execution Time"),
    };
    plan.add(top);
    Some(plan)
}

impl Plan {
    fn add(&mut self, node: &Value) {
        let text = |name: &str| node.get(name).and_then(Value::as_str);
        // Of several loops an average, in newer versions with a fraction.
        let per_loop = |name: &str| node.get(name).and_then(Value::as_f64).unwrap_or_default();
        let filtered = ["Rows Removed by Filter", "Rows Removed by Index Recheck"].into_iter().map(per_loop).sum::<f64>();
        let rows = count((per_loop("Actual Rows") + filtered) * per_loop("Actual Loops"));
        let kind = text("Node Type").unwrap_or_default();
        if let Some(index) = text("Index Name")
            && per_loop("Actual Loops") > 0.0
            && !self.indexes.iter().any(|known| known == index)
        {
            self.indexes.push(index.to_owned());
        }
        // A bitmap's rows are counted where they are read from the table.
        if text("Relation Name").is_some() {
            self.rows_read += rows;
        }
        if kind == "Seq Scan" && rows >= BIG_TABLE_ROWS {
            self.big_scans.extend(text("Relation Name").map(str::to_owned));
        }
        node.get("Plans").and_then(Value::as_array).into_iter().flatten().for_each(|child| self.add(child));
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of rows, never below zero")]
fn count(rows: f64) -> u64 {
    rows.round() as u64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plan_is_condensed_to_what_costs() {
        let index = json!({"Node Type": "Index Scan", "Index Name": "b_pkey", "Relation Name": "b", "Actual Rows": 1,
            "Actual Loops": 50});
        let unused = json!({"Node Type": "Index Scan", "Index Name": "c_pkey", "Relation Name": "c", "Actual Rows": 0,
            "Actual Loops": 0});
        let scan = json!({"Node Type": "Seq Scan", "Relation Name": "a", "Actual Rows": 50, "Actual Loops": 1,
            "Rows Removed by Filter": 9_950});
        let top = json!({"Node Type": "Limit", "Shared Hit Blocks": 7, "Shared Read Blocks": 2, "Actual Rows": 50,
            "Actual Loops": 1, "Plans": [scan, index, unused]});
        let explained = json!([{"Plan": top, "Planning Time": 0.5, "Execution Time": 2.5}]);
        let plan = condense("none of ours", &explained).expect("a plan");
        let (big_scans, indexes) = (vec!["a".to_owned()], vec!["b_pkey".to_owned()]);
        assert_eq!((&plan.big_scans, &plan.indexes, plan.rows_read), (&big_scans, &indexes, 10_050));
        assert_eq!((plan.pages_cached, plan.pages_read, plan.top.as_str()), (7, 2, "Limit"));
        assert_eq!(plan.to_string(), "EVERY ROW OF a, b_pkey");
        for odd in [json!([]), json!({}), json!([{"Plan": {}}]), json!(null)] {
            assert_eq!(condense("", &odd), None);
        }
    }
}
