//! What a schema's tables look like, read from Postgres's own catalogs. Definitions come from the server that holds both the
//! schema that is compared and the one that it is compared with, so that two equal things read the same.

use std::collections::BTreeMap;

use sqlx::{FromRow, PgConnection};

use crate::store::baseline::conversion::quote;
use crate::store::error::StoreError;

statements! {
    READ_RELATIONS = "\
        select c.relname::text as name, c.relkind::text as kind, pg_catalog.pg_get_userbyid(c.relowner)::text as owner, \
            pg_catalog.pg_has_role(c.relowner, 'USAGE') as is_ours, \
            exists (select from pg_catalog.pg_depend d where d.objid = c.oid and d.deptype = 'e') as of_extension \
        from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
        where n.nspname = $1 and c.relkind in ('r', 'p', 'v', 'm', 'f') order by 1";

    READ_COLUMNS = "\
        select c.relname::text as relation, a.attname::text as name, \
            pg_catalog.format_type(a.atttypid, a.atttypmod) as type_name, a.attnotnull as not_null, \
            pg_catalog.pg_get_expr(d.adbin, d.adrelid) as default_value, a.attidentity <> '' as is_identity, \
            a.attgenerated <> '' as is_generated \
        from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
        join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped \
        left join pg_catalog.pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum \
        where n.nspname = $1 and c.relkind in ('r', 'p') order by 1, a.attnum";

    /// Also of other schemas, where they refer to this one.
    READ_CONSTRAINTS = "\
        select n.nspname::text as schema_name, c.relname::text as relation, k.conname::text as name, k.contype::text as kind, \
            array(select a.attname::text from unnest(k.conkey) with ordinality as x(attnum, position) \
                join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = x.attnum order by position) as columns, \
            pg_catalog.pg_get_constraintdef(k.oid) as definition, k.convalidated as is_valid, \
            f.relname::text as refers_to, \
            array(select a.attname::text from unnest(k.confkey) with ordinality as x(attnum, position) \
                join pg_catalog.pg_attribute a on a.attrelid = k.confrelid and a.attnum = x.attnum order by position) \
                as refers_to_columns, \
            (select i.relname::text from pg_catalog.pg_class i where i.oid = k.conindid) as index_name \
        from pg_catalog.pg_constraint k \
        join pg_catalog.pg_class c on c.oid = k.conrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
        left join pg_catalog.pg_class f on f.oid = k.confrelid left join pg_catalog.pg_namespace m on m.oid = f.relnamespace \
        where k.contype in ('p', 'u', 'c', 'f', 'x') and k.conparentid = 0 and (n.nspname = $1 or m.nspname = $1) \
        order by 1, 2, 3";

    READ_INDEXES = "\
        select t.relname::text as relation, c.relname::text as name, pg_catalog.pg_get_indexdef(i.indexrelid) as definition, \
            i.indisunique as is_unique, i.indisvalid as is_valid, i.indpred is null and i.indexprs is null as is_plain, \
            array(select a.attname::text from pg_catalog.generate_series(0, i.indnkeyatts - 1) as p \
                join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[p] order by p) as columns, \
            exists (select from pg_catalog.pg_constraint k where k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x')) \
                as of_constraint \
        from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid \
        join pg_catalog.pg_class t on t.oid = i.indrelid join pg_catalog.pg_namespace n on n.oid = t.relnamespace \
        where n.nspname = $1 and t.relkind in ('r', 'p') order by 1, 2";

    /// Views and policies that name a column, so that its type cannot be changed while they are there.
    READ_DEPENDENTS = "\
        select c.relname::text as relation, a.attname::text as column_name, 'view' as kind, \
            pg_catalog.format('%I.%I', vn.nspname, v.relname) as name, \
            pg_catalog.format('drop %s %I.%I;', case v.relkind when 'm' then 'materialized view' else 'view' end, \
                vn.nspname, v.relname) as drop_sql, \
            pg_catalog.format('create %s %I.%I%s as %s', case v.relkind when 'm' then 'materialized view' else 'view' end, \
                vn.nspname, v.relname, coalesce(' with (' || pg_catalog.array_to_string(v.reloptions, ', ') || ')', ''), \
                pg_catalog.pg_get_viewdef(v.oid)) as create_sql \
        from pg_catalog.pg_depend d \
        join pg_catalog.pg_rewrite r on r.oid = d.objid and d.classid = 'pg_catalog.pg_rewrite'::regclass \
        join pg_catalog.pg_class v on v.oid = r.ev_class and v.relkind in ('v', 'm') \
        join pg_catalog.pg_namespace vn on vn.oid = v.relnamespace \
        join pg_catalog.pg_class c on c.oid = d.refobjid join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
        join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = d.refobjsubid \
        where n.nspname = $1 and c.relkind in ('r', 'p') \
        union all \
        select c.relname::text, a.attname::text, 'policy', p.policyname::text, \
            pg_catalog.format('drop policy %I on %I.%I;', p.policyname, p.schemaname, p.tablename), \
            pg_catalog.format('create policy %I on %I.%I as %s for %s to %s%s%s;', p.policyname, p.schemaname, p.tablename, \
                p.permissive, p.cmd, (select pg_catalog.string_agg(case r when 'public' then 'public' \
                    else pg_catalog.quote_ident(r) end, ', ') from unnest(p.roles) as r), \
                coalesce(' using (' || p.qual || ')', ''), coalesce(' with check (' || p.with_check || ')', '')) \
        from pg_catalog.pg_depend d \
        join pg_catalog.pg_policy o on o.oid = d.objid and d.classid = 'pg_catalog.pg_policy'::regclass \
        join pg_catalog.pg_class t on t.oid = o.polrelid join pg_catalog.pg_namespace tn on tn.oid = t.relnamespace \
        join pg_catalog.pg_policies p on p.policyname = o.polname and p.schemaname = tn.nspname and p.tablename = t.relname \
        join pg_catalog.pg_class c on c.oid = d.refobjid join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
        join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = d.refobjsubid \
        where n.nspname = $1 and c.relkind in ('r', 'p') order by 1, 2, 3, 4";
}

/// A table, or another relation in its place.
#[derive(Clone, Debug)]
pub(super) struct Relation {
    /// `r` and `p` are tables; `v`, `m` and `f` stand where a table should.
    pub kind: String,
    pub owner: String,
    /// Whether our role may alter it.
    pub is_ours: bool,
    pub of_extension: bool,
    pub columns: Vec<Column>,
    pub constraints: Vec<Constraint>,
    pub indexes: Vec<Index>,
}

impl Relation {
    pub(super) fn is_table(&self) -> bool {
        matches!(self.kind.as_str(), "r" | "p")
    }

    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(super) struct Column {
    pub relation: String,
    pub name: String,
    /// As `format_type` writes it.
    pub type_name: String,
    pub not_null: bool,
    pub default_value: Option<String>,
    pub is_identity: bool,
    pub is_generated: bool,
}

impl Column {
    /// Whether a row may be inserted that does not name it.
    pub(super) fn may_be_left_out(&self) -> bool {
        !self.not_null || self.default_value.is_some() || self.is_identity || self.is_generated
    }
}

#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(super) struct Constraint {
    pub schema_name: String,
    pub relation: String,
    pub name: String,
    /// `p`, `u`, `c`, `f` or `x`.
    pub kind: String,
    pub columns: Vec<String>,
    pub definition: String,
    pub is_valid: bool,
    pub refers_to: Option<String>,
    pub refers_to_columns: Vec<String>,
    /// The index that a foreign key relies on, or that keeps the constraint itself.
    pub index_name: Option<String>,
}

impl Constraint {
    pub(super) fn is_deferrable(&self) -> bool {
        self.definition.contains("DEFERRABLE")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(super) struct Index {
    pub relation: String,
    pub name: String,
    pub definition: String,
    pub is_unique: bool,
    pub is_valid: bool,
    /// Neither partial nor on an expression.
    pub is_plain: bool,
    pub columns: Vec<String>,
    pub of_constraint: bool,
}

impl Index {
    /// What it is, whatever it is called: everything from `USING` on.
    pub(super) fn shape(&self) -> (bool, &str) {
        (self.is_unique, self.definition.find(" USING ").and_then(|at| self.definition.get(at..)).unwrap_or(&self.definition))
    }
}

/// A view or a policy that names a column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, FromRow)]
pub(super) struct Dependent {
    pub relation: String,
    pub column_name: String,
    pub kind: String,
    pub name: String,
    pub drop_sql: String,
    pub create_sql: String,
}

#[derive(FromRow)]
struct RelationRow {
    name: String,
    kind: String,
    owner: String,
    is_ours: bool,
    of_extension: bool,
}

/// A schema's tables.
#[derive(Clone, Debug, Default)]
pub(super) struct Schema {
    pub relations: BTreeMap<String, Relation>,
    /// Foreign keys of other schemas' tables that refer to this one.
    pub from_outside: Vec<Constraint>,
    pub dependents: Vec<Dependent>,
}

impl Schema {
    /// Reads the schema of that name. Names are told in full only if nothing but `pg_catalog` is in the search path.
    pub(super) async fn read(connection: &mut PgConnection, name: &str) -> Result<Schema, StoreError> {
        sqlx::raw_sql("set local search_path = ''").execute(&mut *connection).await?;
        let mut schema = Schema::default();
        for row in sqlx::query_as::<_, RelationRow>(READ_RELATIONS).bind(name).fetch_all(&mut *connection).await? {
            let relation = Relation {
                kind: row.kind,
                owner: row.owner,
                is_ours: row.is_ours,
                of_extension: row.of_extension,
                columns: Vec::new(),
                constraints: Vec::new(),
                indexes: Vec::new(),
            };
            schema.relations.insert(row.name, relation);
        }
        for column in sqlx::query_as::<_, Column>(READ_COLUMNS).bind(name).fetch_all(&mut *connection).await? {
            if let Some(relation) = schema.relations.get_mut(&column.relation) {
                relation.columns.push(column);
            }
        }
        for constraint in sqlx::query_as::<_, Constraint>(READ_CONSTRAINTS).bind(name).fetch_all(&mut *connection).await? {
            match schema.relations.get_mut(&constraint.relation) {
                Some(relation) if constraint.schema_name == name => relation.constraints.push(constraint),
                _ => schema.from_outside.push(constraint),
            }
        }
        for index in sqlx::query_as::<_, Index>(READ_INDEXES).bind(name).fetch_all(&mut *connection).await? {
            if let Some(relation) = schema.relations.get_mut(&index.relation) {
                relation.indexes.push(index);
            }
        }
        schema.dependents = sqlx::query_as(READ_DEPENDENTS).bind(name).fetch_all(&mut *connection).await?;
        Ok(schema)
    }

    /// Takes a table to be called otherwise, with whatever refers to it.
    pub(super) fn rename(&mut self, old: &str, new: &str) {
        if let Some(relation) = self.relations.remove(old) {
            self.relations.insert(new.to_owned(), relation);
        }
        let (quoted, new_quoted) = (format!(" public.{}(", quote(old)), format!(" public.{}(", quote(new)));
        let own = self.relations.values_mut().flat_map(|relation| &mut relation.constraints);
        for constraint in own.chain(&mut self.from_outside) {
            if constraint.relation == old {
                new.clone_into(&mut constraint.relation);
            }
            if constraint.refers_to.as_deref() == Some(old) {
                constraint.refers_to = Some(new.to_owned());
                constraint.definition = constraint.definition.replace(&quoted, &new_quoted);
            }
        }
        for dependent in self.dependents.iter_mut().filter(|dependent| dependent.relation == old) {
            new.clone_into(&mut dependent.relation);
        }
    }

    /// Every foreign key that refers to a table of the schema.
    pub(super) fn foreign_keys(&self) -> impl Iterator<Item = &Constraint> {
        let own = self.relations.values().flat_map(|relation| &relation.constraints);
        own.chain(&self.from_outside).filter(|constraint| constraint.kind == "f")
    }
}
