//! Every read and write of a batch finds its rows by index, however large the tables are.

use billsync::store::{BEGIN_BATCH, statements};
use sqlx::{AssertSqlSafe, Connection, Executor, Row};

use super::bench;

/// What a batch may scan: a handful of plans.
const SMALL: [&str; 1] = ["subscription_plans"];

/// The statements of a batch; the others are a person's questions.
const OF_A_BATCH: [&str; 9] = [
    "LOAD_FIRST",
    "LOAD_OWNERS_BY_EMAIL",
    "LOAD_SECOND",
    "INSERT_USERS",
    "INSERT_SUBSCRIPTIONS",
    "INSERT_BILLING",
    "INSERT_USAGE",
    "INSERT_SYSTEM_DATA",
    "WRITE_BATCH",
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
        let parameters = (1..=200).take_while(|n| sql.contains(&format!("${n}"))).count();
        let nulls = vec!["null"; parameters].join(", ");
        transaction.execute(AssertSqlSafe(format!("prepare {name} as {sql}"))).await.unwrap();
        let explain = format!("explain execute {name}({nulls})");
        let rows = transaction.fetch_all(AssertSqlSafe(explain)).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.get::<String, _>(0)).collect();
        let scanned = plan.iter().find(|line| line.contains("Seq Scan") && !is_of_a_small_table(line));
        assert_eq!(scanned, None, "{name}\n{}", plan.join("\n"));
        assert!(plan.iter().any(|line| line.contains("Index") || line.contains("Insert")), "{name}\n{}", plan.join("\n"));
        assert_eq!(index_read_from_end_to_end(&plan), None, "{name}\n{}", plan.join("\n"));
    }
}

fn is_of_a_small_table(line: &str) -> bool {
    SMALL.iter().any(|small| line.contains(small))
}

/// An index that is read for its order rather than to find something in it: as bad as scanning the table.
fn index_read_from_end_to_end(plan: &[String]) -> Option<&String> {
    let is_node = |line: &str| line.contains("->") || !line.starts_with(' ');
    let reads_index =
        |line: &str| (line.contains("Index Scan") || line.contains("Index Only Scan")) && !is_of_a_small_table(line);
    plan.iter().enumerate().filter(|(_, line)| is_node(line) && reads_index(line)).map(|(number, _)| number).find_map(|number| {
        let details = plan[number + 1..].iter().take_while(|line| !is_node(line));
        let has_condition = details.into_iter().any(|line| line.contains("Index Cond"));
        (!has_condition).then(|| &plan[number])
    })
}
