//! `migrate baseline` and `migrate new`: databases that something else has built, what is said of them, and that they work once
//! they are adopted.

mod adopting;
mod differences;
mod interrupted;
mod naming;

use serde_json::Value;

use crate::cli::{fixture, on, run_on};
use crate::support::database::{TestDatabase, empty_database};

const DRIZZLE: &str = include_str!("baseline/drizzle.sql");
const PRISMA: &str = include_str!("baseline/prisma.sql");
const OLDER_LAYOUT: &str = include_str!("baseline/older_layout.sql");

/// A database made by those statements.
async fn made_by(sql: &str) -> TestDatabase {
    let database = empty_database().await;
    database.execute(sql).await;
    database
}

/// What `migrate baseline --json` says, ending with that exit code.
fn baseline(database: &TestDatabase, exit: i32) -> Value {
    serde_json::from_str(&on(&database.url, &["migrate", "baseline", "--json"], exit)).unwrap()
}

/// Runs the printed SQL as it is, and expects that nothing differs then.
async fn mend(database: &TestDatabase) {
    let (code, script, complaints) = run_on(&database.url, &["migrate", "baseline"]);
    assert_eq!(code, 3, "{script}\n{complaints}");
    let mut connection = database.connect().await;
    if let Err(error) = sqlx::raw_sql(sqlx::AssertSqlSafe(script.clone())).execute(&mut connection).await {
        panic!("{error}\n{script}");
    }
}

/// Mends and adopts.
async fn adopt(database: &TestDatabase) -> Value {
    mend(database).await;
    let (code, printed, complaints) = run_on(&database.url, &["migrate", "baseline", "--json"]);
    assert_eq!(code, 0, "{printed}\n{complaints}");
    serde_json::from_str(&printed).unwrap()
}

fn plans_fixture() -> String {
    fixture("journeys/plans.toml")
}
