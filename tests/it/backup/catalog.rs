//! What a database holds, as texts that can be compared with another's: its rows, and all that guards and shapes them.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::AssertSqlSafe;

use crate::support::database::TestDatabase;

const TABLES: &str = "select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace \
    where n.nspname in ('public', 'billsync') and c.relkind = 'r'";

/// One query for each kind of object; `$owner` is the role that owns them.
const OBJECTS: [&str; 13] = [
    "select format('grant %s %s to %s', c.oid::regclass, a.privilege_type, coalesce(r.rolname, 'public')) from ours c, \
        aclexplode(c.relacl) a left join pg_roles r on r.oid = a.grantee where r.rolname is distinct from '$owner'",
    "select format('grant schema %s %s to %s', n.nspname, a.privilege_type, coalesce(r.rolname, 'public')) \
        from pg_namespace n, aclexplode(n.nspacl) a left join pg_roles r on r.oid = a.grantee \
        where n.nspname in ('public', 'billsync') and r.rolname is distinct from '$owner'",
    "select format('grant function %s %s to %s', p.oid::regprocedure, a.privilege_type, coalesce(r.rolname, 'public')) \
        from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a left join pg_roles r on r.oid = a.grantee \
        where p.pronamespace = 'billsync'::regnamespace and r.rolname is distinct from '$owner'",
    "select format('owner %s %s', c.oid::regclass, case pg_get_userbyid(c.relowner) when '$owner' then 'the owner' \
        else pg_get_userbyid(c.relowner) end) from ours c",
    "select format('policy %s %s %s %s %s %s', c.oid::regclass, p.polname, p.polcmd, p.polroles::regrole[], \
        pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) from pg_policy p join ours c on c.oid = p.polrelid",
    "select format('security %s %s %s', c.oid::regclass, c.relrowsecurity, c.relforcerowsecurity) from ours c \
        where c.relkind in ('r', 'p')",
    "select format('options %s %s %s', c.oid::regclass, c.relkind, c.reloptions) from ours c",
    "select format('column %s %s %s not null %s default %s compression %s identity %s storage %s', c.oid::regclass, a.attname, \
        format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attcompression, a.attidentity, a.attstorage) \
        from ours c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped \
        left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum where c.relkind in ('r', 'p', 'v')",
    "select format('constraint %s %s %s', c.oid::regclass, k.conname, pg_get_constraintdef(k.oid)) \
        from pg_constraint k join ours c on c.oid = k.conrelid",
    "select format('index %s %s', pg_get_indexdef(i.indexrelid), i.indisvalid) from pg_index i join ours c on c.oid = i.indrelid",
    "select format('trigger %s', pg_get_triggerdef(t.oid)) from pg_trigger t join ours c on c.oid = t.tgrelid where not t.tgisinternal",
    "select format('function %s', pg_get_functiondef(p.oid)) from pg_proc p where p.pronamespace = 'billsync'::regnamespace",
    "select format('partition %s %s', c.oid::regclass, pg_get_expr(c.relpartbound, c.oid)) from ours c where c.relpartbound is not null",
];

async fn strings(database: &TestDatabase, sql: String) -> Vec<String> {
    let mut connection = database.connect().await;
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap()
}

/// How many rows each table has.
pub async fn counts(database: &TestDatabase) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for table in strings(database, TABLES.to_owned()).await {
        let count = database.ask(&format!("select count(*) from {table}")).await;
        counts.insert(table, count);
    }
    counts
}

/// Every row of every table, with the table's name before it.
pub async fn rows(database: &TestDatabase) -> BTreeSet<String> {
    let mut rows = BTreeSet::new();
    for table in strings(database, TABLES.to_owned()).await {
        // Views are read too, by what they read.
        let found = strings(database, format!("select format('{table} %s', t.*) from {table} t")).await;
        rows.extend(found);
    }
    rows
}

/// A line for everything in the two schemas that is no row.
pub async fn objects(database: &TestDatabase, owner: &str) -> BTreeSet<String> {
    let ours = "with ours as (select c.* from pg_class c join pg_namespace n on n.oid = c.relnamespace \
        where n.nspname in ('public', 'billsync') and c.relkind in ('r', 'p', 'v', 'S', 'i', 'I'))";
    let mut objects = BTreeSet::new();
    for query in OBJECTS {
        let found = strings(database, format!("{ours} {}", query.replace("$owner", owner))).await;
        objects.extend(found.into_iter().map(|line| without_casts(&line)));
    }
    objects
}

/// What Postgres prints of a comparison with several words it reads back as another text of the same meaning.
fn without_casts(line: &str) -> String {
    if !line.starts_with("constraint ") && !line.starts_with("index ") {
        return line.to_owned();
    }
    ["::character varying", "::text", "[]", "(", ")"].iter().fold(line.to_owned(), |line, cast| line.replace(cast, ""))
}
