//! What is asked for of the data set: other rows in every run, so that no run finds what the one before has just read.

use anyhow::Context;
use chrono::{DateTime, Datelike, NaiveTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::store::{CampaignFilter, CreatorListFilter, JobFilter, SampleSet, Store};

/// Noon of 15 January 2026: the time that data sets live at, the same in every run.
const AT_SECONDS: i64 = 1_768_478_400;

/// How many rows of the end of a list are on its last page.
const LAST_PAGE: i64 = 60;

/// Rows that queries are about.
#[derive(Clone, Debug)]
pub struct Subjects {
    users: i64,
    pub at: DateTime<Utc>,
    campaigns: Vec<Uuid>,
    jobs: Vec<Uuid>,
    lists: Vec<Uuid>,
    /// That a hundredth of all results belong to.
    pub largest_job: Uuid,
    /// That a hundredth of all items are on.
    pub largest_list: Uuid,
}

/// When data sets live.
pub fn at() -> DateTime<Utc> {
    DateTime::from_timestamp(AT_SECONDS, 0).unwrap_or_default()
}

impl Subjects {
    /// Looks up what the names of rows do not tell.
    pub async fn find(store: &Store, set: &SampleSet) -> anyhow::Result<Subjects> {
        let users = i64::from(set.users);
        // By less than a millisecond a time is known.
        let before = |days, total, row| Some(row_at(set.at, days, total, row) - TimeDelta::milliseconds(1));
        let campaigns = store.list_campaigns(&CampaignFilter { limit: 200, ..CampaignFilter::default() }).await?;
        let jobs = store.list_jobs(&JobFilter { limit: 200, ..JobFilter::default() }).await?;
        let lists = store.list_creator_lists(&CreatorListFilter { limit: 200, ..CreatorListFilter::default() }).await?;
        let first_user = Some(user_id(1));
        // The hundredth job, made a minute after its campaign, and the first list have most.
        let job_before = before(365, users * 10, 101).map(|at| at + TimeDelta::minutes(1));
        let job = JobFilter { user_id: first_user, created_before: job_before, limit: 1, ..JobFilter::default() };
        let list = CreatorListFilter { created_before: before(365, users * 2, 2), limit: 1, ..CreatorListFilter::default() };
        Ok(Subjects {
            users,
            at: set.at,
            campaigns: campaigns.into_iter().map(|campaign| campaign.id).collect(),
            jobs: jobs.into_iter().map(|job| job.id).collect(),
            lists: lists.into_iter().map(|list| list.id).collect(),
            largest_job: store.list_jobs(&job).await?.pop().context("there is no job")?.id,
            largest_list: store.list_creator_lists(&list).await?.pop().context("there is no list")?.id,
        })
    }

    /// The Clerk id of some user.
    pub fn user(&self, run: u32) -> String {
        user_id(self.spread(run, self.users))
    }

    /// The one whom a hundredth of everything belongs to.
    pub fn largest_user(&self) -> String {
        user_id(1)
    }

    /// Their address.
    pub fn email(&self, run: u32) -> String {
        // Other letters than it is stored in.
        format!("Bench.{}@Example.com", self.payer(run))
    }

    pub fn customer(&self, run: u32) -> String {
        format!("cus_bench_{}", self.payer(run))
    }

    pub fn subscription(&self, run: u32) -> String {
        format!("sub_bench_{}", self.payer(run))
    }

    pub fn event(&self, run: u32) -> String {
        format!("evt_bench_{}", self.spread(run, self.users * 10))
    }

    /// Some rows by id.
    pub fn campaign(&self, run: u32) -> Uuid {
        pick(&self.campaigns, run)
    }

    pub fn job(&self, run: u32) -> Uuid {
        pick(&self.jobs, run)
    }

    pub fn list(&self, run: u32) -> Uuid {
        pick(&self.lists, run)
    }

    /// Where the last page of a list begins that reaches so many days back and has so many rows a user.
    pub fn last_page(&self, days: i64, rows_per_user: i64) -> Option<(DateTime<Utc>, Uuid)> {
        Some((row_at(self.at, days, self.users * rows_per_user, LAST_PAGE), Uuid::max()))
    }

    /// The same of the largest user, who has every hundredth row.
    pub fn last_page_of_largest(&self, days: i64, rows_per_user: i64) -> Option<(DateTime<Utc>, Uuid)> {
        Some((row_at(self.at, days, self.users * rows_per_user, LAST_PAGE * 100), Uuid::max()))
    }

    /// Before few of the results that came last.
    pub fn lately(&self) -> DateTime<Utc> {
        let rows = self.users * 10;
        row_at(self.at, 365, rows, rows - LAST_PAGE * 100)
    }

    /// Ten months ago, and a month later.
    pub fn old_month(&self) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
        let from = self.at - TimeDelta::days(300);
        (Some(from), Some(from + TimeDelta::days(30)))
    }

    /// Two months ago, and a week later.
    pub fn old_week(&self) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
        let from = self.at - TimeDelta::days(60);
        (Some(from), Some(from + TimeDelta::days(7)))
    }

    /// The first of the month.
    pub fn month_start(&self) -> DateTime<Utc> {
        self.at.with_day0(0).unwrap_or(self.at) - self.at.time().signed_duration_since(NaiveTime::MIN)
    }

    /// The Clerk id of one who pays.
    pub fn payer_id(&self, run: u32) -> String {
        user_id(self.payer(run))
    }

    /// A user who has used a key an hour ago, and the key.
    pub fn used_key(&self, run: u32) -> (String, String) {
        let number = self.spread(run, self.users);
        (user_id(number), format!("key_{number}"))
    }

    /// Behind most items of the largest list, whose positions are multiples of a hundred.
    pub fn last_position(&self) -> i32 {
        i32::try_from((self.users * 10 - LAST_PAGE * 100).max(0)).unwrap_or(i32::MAX)
    }

    /// One who pays: of each hundred users those from the fortieth on.
    fn payer(&self, run: u32) -> i64 {
        let number = self.spread(run, (self.users / 100).max(1)) * 100 - 60 + i64::from(run % 50);
        // No bigger, not one of those who were deleted, and if there is none, the first, who pays too.
        if number > self.users || number % 50 == 49 { 1 } else { number }
    }

    /// A number from 1 to `most` that is far from those of the runs before.
    fn spread(&self, run: u32, most: i64) -> i64 {
        1 + i64::from(run) * 2_147_483_647 % most
    }
}

fn user_id(number: i64) -> String {
    format!("user_bench_{number}")
}

fn pick(ids: &[Uuid], run: u32) -> Uuid {
    let index = usize::try_from(run).unwrap_or_default() % ids.len().max(1);
    ids.get(index).copied().unwrap_or_default()
}

/// When a row was made of so many that are spread over so many days, the last of them now.
fn row_at(at: DateTime<Utc>, days: i64, total: i64, row: i64) -> DateTime<Utc> {
    let milliseconds = (days * 86_400_000) as i128 * i128::from((total - row).max(0)) / i128::from(total.max(1));
    at - TimeDelta::milliseconds(i64::try_from(milliseconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_whatever_the_number_of_users() {
        for users in [1, 7, 50, 200, 100_000] {
            let (campaigns, jobs, lists) = (vec![Uuid::max()], vec![Uuid::max()], vec![Uuid::max()]);
            let (largest_job, largest_list) = (Uuid::max(), Uuid::max());
            let subjects = Subjects { users, at: at(), campaigns, jobs, lists, largest_job, largest_list };
            for run in 0..500 {
                let payer = subjects.payer(run);
                assert!(payer == 1 || (payer <= users && payer % 100 >= 40 && payer % 50 != 49), "{users}: {payer}");
                assert!((1..=users).contains(&subjects.spread(run, users)));
                assert_eq!(subjects.job(run), Uuid::max());
            }
            assert!(subjects.last_page(365, 10).is_some_and(|(last, _)| last <= at()));
        }
        assert_eq!(row_at(at(), 365, 10, 10), at());
        assert_eq!(at() - row_at(at(), 365, 10, 0), TimeDelta::days(365));
    }
}
