//! What a user's start page shows, in one statement.

use chrono::{DateTime, Utc};
use sqlx::FromRow;

use crate::store::consume::UsageRow;
use crate::store::error::StoreError;
use crate::store::pool::{RowQuery, Store};
use crate::store::raw_json::RawJson;
use crate::store::usage::{enrichments_limit, on_test_clocks};

statements! {
    /// $2 is now, $3 the beginning of the calendar month. A period that is over ends when its results are counted.
    FIND_DASHBOARD = concat!("\
        select g.usage_campaigns_current as campaigns, g.usage_creators_current_month as creators, \
            g.enrichments_current_month as enrichments, g.plan_campaigns_limit as campaigns_limit, \
            g.plan_creators_limit as creators_limit, ", enrichments_limit!(), " as enrichments_limit, g.usage_anchor, \
            g.usage_period_start, g.usage_reset_date, g.reset_held, \
            exists (select from (", on_test_clocks!(), " and o.clerk_user_id = u.user_id) t) as has_test_clock, \
            (select coalesce(jsonb_object_agg(c.status, c.n), '{}') from ( \
                select status, count(*) as n from public.campaigns where user_id = u.user_id group by status) c) \
                as campaigns_by_status, \
            (select count(*) from public.campaigns c where c.user_id = u.user_id and c.created_at >= $3) \
                as campaigns_this_month, \
            (select coalesce(jsonb_object_agg(j.status, j.n), '{}') from ( \
                select status, count(*) as n from public.scraping_jobs where user_id = u.user_id group by status) j) \
                as jobs_by_status, \
            (select coalesce(jsonb_object_agg(j.platform, j.n), '{}') from ( \
                select coalesce(platform, 'none') as platform, count(*) as n from public.scraping_jobs \
                where user_id = u.user_id group by 1) j) as jobs_by_platform, \
            (select count(*) from public.scraping_results r join public.scraping_jobs j on j.id = r.job_id \
                where j.user_id = u.user_id and r.created_at >= p.start) as results_this_period, \
            (select coalesce(sum(case jsonb_typeof(r.creators) when 'array' then jsonb_array_length(r.creators) else 0 end), 0) \
                from public.scraping_results r join public.scraping_jobs j on j.id = r.job_id \
                where j.user_id = u.user_id and r.created_at >= p.start)::int8 as creators_found_this_period \
        from public.users u join public.user_usage g on g.user_id = u.id \
        cross join lateral (select case when not g.reset_held and g.usage_reset_date <= $2 then g.usage_reset_date \
            else coalesce(g.usage_period_start, u.created_at) end as start) p \
        where u.user_id = $1");
}

/// A user's numbers.
#[derive(Clone, Debug, FromRow)]
pub struct DashboardRow {
    #[sqlx(flatten)]
    pub usage: UsageRow,
    /// An object: status to number.
    pub campaigns_by_status: RawJson,
    pub campaigns_this_month: i64,
    /// An object: status to number.
    pub jobs_by_status: RawJson,
    /// An object: platform, or `none`, to number.
    pub jobs_by_platform: RawJson,
    pub results_this_period: i64,
    pub creators_found_this_period: i64,
}

impl Store {
    /// A user's numbers; `None` when there is no such user.
    pub async fn find_dashboard(
        &self,
        clerk_id: &str,
        now: DateTime<Utc>,
        month_start: DateTime<Utc>,
    ) -> Result<Option<DashboardRow>, StoreError> {
        let bind = |query: RowQuery<DashboardRow>| query.bind(clerk_id.to_owned()).bind(now).bind(month_start);
        Ok(self.read(FIND_DASHBOARD, bind).await?.pop())
    }
}
