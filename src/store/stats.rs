//! What a user's start page shows, in one statement.

use chrono::{DateTime, Utc};
use sqlx::FromRow;

use crate::store::consume::UsageRow;
use crate::store::error::StoreError;
use crate::store::pool::{RowQuery, Store};
use crate::store::raw_json::RawJson;
use crate::store::usage::{enrichments_limit, on_test_clocks};

statements! {
    /// $2 is now, $3 the beginning of the calendar month. A period that is over ends when its results are counted. Each table is read once, however
    /// many numbers come of it.
    FIND_DASHBOARD = concat!("\
        select g.usage_campaigns_current as campaigns, g.usage_creators_current_month as creators, \
            g.enrichments_current_month as enrichments, g.plan_campaigns_limit as campaigns_limit, \
            g.plan_creators_limit as creators_limit, ", enrichments_limit!(), " as enrichments_limit, g.usage_anchor, \
            g.usage_period_start, g.usage_reset_date, g.reset_held, \
            exists (select from (", on_test_clocks!(), " and o.clerk_user_id = u.user_id) t) as has_test_clock, \
            c.by_status as campaigns_by_status, c.this_month as campaigns_this_month, \
            j.by_status as jobs_by_status, j.by_platform as jobs_by_platform, j.without_platform as jobs_without_platform, \
            r.results as results_this_period, r.creators as creators_found_this_period \
        from public.users u join public.user_usage g on g.user_id = u.id \
        cross join lateral (select case when not g.reset_held and g.usage_reset_date <= $2 then g.usage_reset_date \
            else coalesce(g.usage_period_start, u.created_at) end as start) p \
        cross join lateral ( \
            select coalesce(jsonb_object_agg(n.status, n.number), '{}') as by_status, \
                coalesce(sum(n.this_month), 0)::int8 as this_month \
            from (select status, count(*) as number, count(*) filter (where created_at >= $3) as this_month \
                from public.campaigns where user_id = u.user_id group by status) n) c \
        cross join lateral ( \
            with n as materialized ( \
                select status, platform, count(*) as number from public.scraping_jobs \
                where user_id = u.user_id group by status, platform) \
            select (select coalesce(jsonb_object_agg(s.status, s.number), '{}') \
                    from (select status, sum(number) as number from n group by status) s) as by_status, \
                (select coalesce(jsonb_object_agg(s.platform, s.number), '{}') from ( \
                    select platform, sum(number) as number from n where platform is not null group by platform) s) as by_platform, \
                (select coalesce(sum(number), 0)::int8 from n where platform is null) as without_platform) j \
        cross join lateral ( \
            select count(*) as results, coalesce(sum(case jsonb_typeof(f.creators) \
                when 'array' then jsonb_array_length(f.creators) else 0 end), 0)::int8 as creators \
            from public.scraping_jobs o join public.scraping_results f on f.job_id = o.id \
            where o.user_id = u.user_id and f.created_at >= p.start) r \
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
    /// An object: platform to number.
    pub jobs_by_platform: RawJson,
    pub jobs_without_platform: i64,
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
