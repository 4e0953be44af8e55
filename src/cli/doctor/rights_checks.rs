//! What our role may do, and what others may: privileges, row-level security, Supabase's published roles.

use crate::cli::doctor::database_checks::cannot_tell;
use crate::cli::doctor::finding::Findings;
use crate::store::{ExpectedSchema, PrivilegeGap, Store, schema_of_migrations};

/// From so many tables on a grant names the schema.
const MANY_TABLES: usize = 5;

/// Privileges of the role, then row-level security.
pub async fn check(store: &Store, findings: &mut Findings) {
    let expected = schema_of_migrations();
    check_role(store, &expected, findings).await;
    check_row_security(store, &expected, findings).await;
    check_exposure(store, &expected, findings).await;
}

async fn check_role(store: &Store, expected: &ExpectedSchema, findings: &mut Findings) {
    let role = match store.describe_server().await {
        Ok(server) => server.role,
        Err(error) => return cannot_tell("rights", "who we are", &error, findings),
    };
    match store.list_privilege_gaps(expected).await {
        Ok(gaps) => report_gaps(&gaps, &role, findings),
        Err(error) => cannot_tell("rights", "the privileges of the role", &error, findings),
    }
    if let Err(error) = store.verify_role().await {
        findings.error("rights", error.to_string(), format!("alter role {role} bypassrls;   -- or connect as the tables' owner"));
    }
    if !findings.has_trouble("rights") {
        findings.ok("rights", format!("the role {role} has every privilege that it needs, and sees every row"));
    }
}

fn report_gaps(gaps: &[PrivilegeGap], role: &str, findings: &mut Findings) {
    let (tables, others): (Vec<&PrivilegeGap>, Vec<&PrivilegeGap>) = gaps.iter().partition(|gap| gap.kind == "table");
    for PrivilegeGap { kind, object, privileges } in others {
        let (privilege, what) = (privileges.join(", "), format!("{kind} {object}"));
        match kind.as_str() {
            "owner" => findings.warn(
                "rights",
                format!("the role {role} does not own {object}, and so cannot make next month's partition of it"),
                format!("alter table {object} owner to {role};"),
            ),
            "function" => findings.error(
                "rights",
                format!("the role {role} has no {privilege} on {what}"),
                format!("grant execute on function {object} to {role};"),
            ),
            _ => findings.error(
                "rights",
                format!("the role {role} has no {privilege} on {what}"),
                format!("grant {privilege} on {what} to {role};"),
            ),
        }
    }
    if tables.len() < MANY_TABLES {
        for PrivilegeGap { object, privileges, .. } in tables {
            let privilege = privileges.join(", ");
            findings.error(
                "rights",
                format!("the role {role} has no {privilege} on {object}"),
                format!("grant {privilege} on {object} to {role};"),
            );
        }
        return;
    }
    for schema in ["public", "billsync"] {
        let lacking: Vec<&str> =
            tables.iter().map(|gap| gap.object.as_str()).filter(|object| object.starts_with(&format!("{schema}."))).collect();
        if !lacking.is_empty() {
            findings.error(
                "rights",
                format!("the role {role} lacks privileges on {} tables: {}", lacking.len(), lacking.join(", ")),
                format!("grant select, insert, update, delete on all tables in schema {schema} to {role};"),
            );
        }
    }
}

async fn check_row_security(store: &Store, expected: &ExpectedSchema, findings: &mut Findings) {
    let tables = match store.list_unprotected_tables(expected).await {
        Ok(tables) => tables,
        Err(error) => return cannot_tell("security", "which tables have row-level security", &error, findings),
    };
    for table in &tables {
        let fix = format!("alter table {} enable row level security;", table.name);
        let whose = if table.is_ours { "" } else { " (not one of billsync's)" };
        let what = format!("row-level security is off on {}{whose}", table.name);
        if table.open_to.is_empty() {
            findings.warn("security", what, fix);
        } else {
            let gets = if table.open_to.len() == 1 { "gets" } else { "get" };
            findings.error("security", format!("{what}, and {} {gets} at every row of it", table.open_to.join(" and ")), fix);
        }
    }
    if tables.is_empty() {
        findings.ok("security", "row-level security is on for every table of public and billsync");
    }
}

async fn check_exposure(store: &Store, expected: &ExpectedSchema, findings: &mut Findings) {
    match store.list_exposed_tables(expected).await {
        Ok(exposed) => {
            for table in &exposed {
                let fix =
                    format!("select billsync.unpublish('{}'), billsync.publish_own_rows();", table.name.replace('\'', "''"));
                let what = format!("{} may {} {}", table.role, table.privileges.join(", "), table.name);
                findings.error("security", what, fix);
            }
            if exposed.is_empty() {
                findings.ok("security", "nothing is published to anon, and to authenticated its own rows alone");
            }
        }
        Err(error) => cannot_tell("security", "what anon and authenticated may do", &error, findings),
    }
}
