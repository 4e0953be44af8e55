//! `subscription_plans`: the catalog. Changing it takes the catalog's lock, which every batch holds shared.

use std::sync::Arc;

use serde_json::Value;
use sqlx::FromRow;

use crate::domain::billing::plan::{Catalog, Plan};
use crate::store::error::StoreError;
use crate::store::locks;
use crate::store::pool::{Store, Tx};

statements! {
    LIST_PLANS = "\
        select plan_key, plan_name, campaigns_limit, creators_limit, features::text as features, price_monthly::text, \
            price_yearly::text, stripe_price_id_monthly, stripe_price_id_yearly, stripe_product_id, clerk_plan_slug, \
            is_active, display_order \
        from public.subscription_plans order by display_order, plan_key";

    /// Where a row's version is and which transaction wrote it: the same text means the same rows.
    CATALOG_VERSION = "\
        select coalesce(string_agg(ctid::text || xmin::text, ' ' order by plan_key), '') from public.subscription_plans";

    /// Plans equal to what is stored are not touched, and not returned.
    UPSERT_PLANS = "\
        insert into public.subscription_plans as p (plan_key, plan_name, campaigns_limit, creators_limit, features, \
            price_monthly, price_yearly, stripe_price_id_monthly, stripe_price_id_yearly, stripe_product_id, \
            clerk_plan_slug, is_active, display_order) \
        select x.plan_key, x.plan_name, x.campaigns_limit, x.creators_limit, x.features::jsonb, x.price_monthly::numeric, \
            x.price_yearly::numeric, x.price_id_monthly, x.price_id_yearly, x.product_id, x.slug, x.is_active, \
            x.display_order \
        from unnest($1::text[], $2::text[], $3::int4[], $4::int4[], $5::text[], $6::text[], $7::text[], $8::text[], \
            $9::text[], $10::text[], $11::text[], $12::bool[], $13::int4[]) \
            as x(plan_key, plan_name, campaigns_limit, creators_limit, features, price_monthly, price_yearly, \
                price_id_monthly, price_id_yearly, product_id, slug, is_active, display_order) \
        on conflict (plan_key) do update set plan_name = excluded.plan_name, campaigns_limit = excluded.campaigns_limit, \
            creators_limit = excluded.creators_limit, features = excluded.features, \
            price_monthly = excluded.price_monthly, price_yearly = excluded.price_yearly, \
            stripe_price_id_monthly = excluded.stripe_price_id_monthly, \
            stripe_price_id_yearly = excluded.stripe_price_id_yearly, stripe_product_id = excluded.stripe_product_id, \
            clerk_plan_slug = excluded.clerk_plan_slug, is_active = excluded.is_active, \
            display_order = excluded.display_order \
            where (p.plan_name, p.campaigns_limit, p.creators_limit, p.features, p.price_monthly, p.price_yearly, \
                p.stripe_price_id_monthly, p.stripe_price_id_yearly, p.stripe_product_id, p.clerk_plan_slug, p.is_active, \
                p.display_order) \
            is distinct from (excluded.plan_name, excluded.campaigns_limit, excluded.creators_limit, excluded.features, \
                excluded.price_monthly, excluded.price_yearly, excluded.stripe_price_id_monthly, \
                excluded.stripe_price_id_yearly, excluded.stripe_product_id, excluded.clerk_plan_slug, \
                excluded.is_active, excluded.display_order) \
        returning p.plan_key, p.xmax::text = '0'";

    LIST_CLERK_USER_IDS = "select user_id from public.users where user_id > $1 order by user_id limit $2";
}

/// What applying did to one plan; a plan that is the same already is not listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanChange {
    pub plan_key: String,
    /// Else it was updated.
    pub inserted: bool,
}

#[derive(Debug, FromRow)]
struct PlanRow {
    plan_key: String,
    plan_name: String,
    campaigns_limit: i32,
    creators_limit: i32,
    features: String,
    price_monthly: Option<String>,
    price_yearly: Option<String>,
    stripe_price_id_monthly: Option<String>,
    stripe_price_id_yearly: Option<String>,
    stripe_product_id: Option<String>,
    clerk_plan_slug: Option<String>,
    is_active: bool,
    display_order: i32,
}

impl From<PlanRow> for Plan {
    fn from(row: PlanRow) -> Plan {
        Plan {
            plan_key: row.plan_key,
            plan_name: row.plan_name,
            campaigns_limit: row.campaigns_limit,
            creators_limit: row.creators_limit,
            features: serde_json::from_str(&row.features).unwrap_or(Value::Null),
            price_monthly: row.price_monthly,
            price_yearly: row.price_yearly,
            stripe_price_id_monthly: row.stripe_price_id_monthly,
            stripe_price_id_yearly: row.stripe_price_id_yearly,
            stripe_product_id: row.stripe_product_id,
            clerk_plan_slug: row.clerk_plan_slug,
            is_active: row.is_active,
            display_order: row.display_order,
        }
    }
}

impl Store {
    /// Every plan, by `display_order`.
    pub async fn list_plans(&self) -> Result<Vec<Plan>, StoreError> {
        let mut tx = self.begin().await?;
        let plans = list(&mut tx).await?;
        tx.commit().await?;
        Ok(plans)
    }

    /// Adds and updates plans; those not named stay. Waits for the batches in work, and none sees half of it.
    pub async fn apply_plans(&self, plans: &[Plan]) -> Result<Vec<PlanChange>, StoreError> {
        let begin = "begin; set local statement_timeout = '30s'; set local lock_timeout = '20s'";
        let mut tx = self.begin_with(&format!("{begin}; {}", locks::catalog_exclusive_sql())).await?;
        let changes = upsert(&mut tx, plans).await?;
        tx.commit().await?;
        Ok(changes)
    }

    /// The Clerk ids of users, ascending, after the given one: for whoever re-projects them all.
    pub async fn list_clerk_user_ids(&self, after: &str, limit: i64) -> Result<Vec<String>, StoreError> {
        let mut tx = self.begin().await?;
        let query = tx.query_as::<(String,)>(LIST_CLERK_USER_IDS).bind(after.to_owned()).bind(limit);
        let ids = query.fetch_all(tx.connection()?).await?;
        tx.commit().await?;
        Ok(ids.into_iter().map(|(id,)| id).collect())
    }

    /// The catalog as the transaction sees it, read anew only when its rows are not those of this version.
    pub(crate) async fn load_catalog(&self, tx: &mut Tx, version: String) -> Result<Arc<Catalog>, StoreError> {
        if let Some(catalog) = self.cached_catalog(&version) {
            return Ok(catalog);
        }
        let plans = list(tx).await?;
        let (after,): (String,) = tx.query_as(CATALOG_VERSION).fetch_one(tx.connection()?).await?;
        let catalog = Arc::new(Catalog::new(plans));
        // Somebody who does not take the catalog's lock may have written in between: then only this batch may use it.
        if after == version {
            self.cache_catalog(version, catalog.clone());
        }
        Ok(catalog)
    }
}

async fn list(tx: &mut Tx) -> Result<Vec<Plan>, StoreError> {
    let rows: Vec<PlanRow> = tx.query_as(LIST_PLANS).fetch_all(tx.connection()?).await?;
    Ok(rows.into_iter().map(Plan::from).collect())
}

async fn upsert(tx: &mut Tx, plans: &[Plan]) -> Result<Vec<PlanChange>, StoreError> {
    let text = |of: fn(&Plan) -> Option<&String>| plans.iter().map(|plan| of(plan).cloned()).collect::<Vec<_>>();
    let query = tx
        .query_as::<(String, bool)>(UPSERT_PLANS)
        .bind(plans.iter().map(|plan| plan.plan_key.as_str()).collect::<Vec<_>>())
        .bind(plans.iter().map(|plan| plan.plan_name.as_str()).collect::<Vec<_>>())
        .bind(plans.iter().map(|plan| plan.campaigns_limit).collect::<Vec<_>>())
        .bind(plans.iter().map(|plan| plan.creators_limit).collect::<Vec<_>>())
        .bind(plans.iter().map(|plan| plan.features.to_string()).collect::<Vec<_>>())
        .bind(text(|plan| plan.price_monthly.as_ref()))
        .bind(text(|plan| plan.price_yearly.as_ref()))
        .bind(text(|plan| plan.stripe_price_id_monthly.as_ref()))
        .bind(text(|plan| plan.stripe_price_id_yearly.as_ref()))
        .bind(text(|plan| plan.stripe_product_id.as_ref()))
        .bind(text(|plan| plan.clerk_plan_slug.as_ref()))
        .bind(plans.iter().map(|plan| plan.is_active).collect::<Vec<_>>())
        .bind(plans.iter().map(|plan| plan.display_order).collect::<Vec<_>>());
    let rows = query.fetch_all(tx.connection()?).await?;
    Ok(rows.into_iter().map(|(plan_key, inserted)| PlanChange { plan_key, inserted }).collect())
}
