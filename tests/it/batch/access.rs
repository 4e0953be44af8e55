//! Every read and write of a batch finds its rows by index, however large the tables are.

use billsync::store::{BEGIN_BATCH, statements};
use sqlx::{AssertSqlSafe, Connection, Executor, Row};

use super::bench;

/// What a batch may scan: a handful of plans.
const SMALL: [&str; 1] = ["subscription_plans"];

/// The statements of a batch; the others are a person's questions.
const OF_A_BATCH: [&str; 23] = [
    "FIND_KNOWN_EVENTS",
    "RECORD_EVENTS",
    "LOAD_OBJECTS_BY_KEY",
    "LOAD_FACTS_OF_CUSTOMERS",
    "LOAD_FACTS_OF_CLERK_USERS",
    "SUMMARISE_INVOICES",
    "UPSERT_OBJECTS",
    "LOAD_RELATED_OWNERS",
    "LOAD_OWNERS_OF_CLERK_USERS",
    "LOAD_OWNERS_BY_EMAIL",
    "LOAD_OPERATOR_LINKS",
    "UPSERT_OWNERS",
    "LOCK_USERS",
    "INSERT_USERS",
    "UPDATE_USERS",
    "INSERT_SUBSCRIPTIONS",
    "UPDATE_SUBSCRIPTIONS",
    "INSERT_BILLING",
    "UPDATE_BILLING",
    "INSERT_USAGE",
    "UPDATE_USAGE",
    "UPDATE_SYSTEM_DATA",
    "ENQUEUE_REFETCHES",
];

#[tokio::test]
async fn no_statement_of_a_batch_scans_a_table() {
    let bench = bench().await;
    let mut connection = bench.database.connect().await;
    let mut transaction = connection.begin().await.unwrap();
    // The settings alone: the transaction has begun.
    let settings = BEGIN_BATCH.split_once(';').unwrap().1;
    transaction.execute(AssertSqlSafe(settings)).await.unwrap();
    let all = statements();
    for name in OF_A_BATCH {
        let sql = all.iter().find(|(known, _)| *known == name).unwrap().1;
        let parameters = (1..=30).take_while(|n| sql.contains(&format!("${n}"))).count();
        let nulls = vec!["null"; parameters].join(", ");
        transaction.execute(AssertSqlSafe(format!("prepare {name} as {sql}"))).await.unwrap();
        let explain = format!("explain execute {name}({nulls})");
        let rows = transaction.fetch_all(AssertSqlSafe(explain)).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.get::<String, _>(0)).collect();
        let scanned = plan.iter().find(|line| line.contains("Seq Scan") && !SMALL.iter().any(|small| line.contains(small)));
        assert_eq!(scanned, None, "{name}\n{}", plan.join("\n"));
        assert!(plan.iter().any(|line| line.contains("Index") || line.contains("Insert")), "{name}\n{}", plan.join("\n"));
    }
}
