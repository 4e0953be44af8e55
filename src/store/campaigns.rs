//! `public.campaigns`. A live campaign counts against its owner's limit: it is counted, and given back, in the transaction
//! that makes it live or ends it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::FromRow;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::discovery::CampaignStatus;
use crate::store::consume::{Counted, Meter, Reading, Step, consume_within};
use crate::store::error::StoreError;
use crate::store::instants::{At, Place};
use crate::store::pool::{RowQuery, Store, Tx};
use crate::store::profile_update::Change;

macro_rules! columns {
    () => {
        "c.id, c.user_id, c.name, c.description, c.search_type, c.status, c.created_at, c.updated_at"
    };
}

statements! {
    /// Newest first. Every filter may be absent.
    LIST_CAMPAIGNS = concat!("select ", columns!(), " from public.campaigns c \
        where ($1::text is null or c.user_id = $1) \
          and ($2::text is null or c.status = $2) \
          and ($3::text is null or c.search_type = $3) \
          and ($4::timestamptz is null or c.created_at >= $4) \
          and ($5::timestamptz is null or c.created_at < $5) \
          and ($6::timestamptz is null or (c.created_at, c.id) < ($6, $7)) \
        order by c.created_at desc, c.id desc limit $8");

    FIND_CAMPAIGN = concat!("select ", columns!(), " from public.campaigns c \
        where c.id = $1 and ($2::text is null or c.user_id = $2)");

    LOCK_CAMPAIGN = concat!("select ", columns!(), " from public.campaigns c where c.id = $1 for update");

    /// None when there is no such user.
    INSERT_CAMPAIGN = concat!("\
        insert into public.campaigns as c (user_id, name, description, search_type, status, created_at) \
        select u.user_id, $2, $3, $4, $5, $6 from public.users u where u.user_id = $1 for key share returning ", columns!());

    UPDATE_CAMPAIGN = concat!("\
        update public.campaigns c set name = coalesce($2, c.name), \
            description = case when $3 then $4 else c.description end, \
            search_type = case when $5 then $6 else c.search_type end, status = coalesce($7, c.status) \
        where c.id = $1 returning ", columns!());

    DELETE_CAMPAIGN = "delete from public.campaigns where id = $1";
}

/// A row of `campaigns`.
#[derive(Clone, Debug, FromRow, Serialize, ToSchema)]
pub struct Campaign {
    pub id: Uuid,
    /// The Clerk id of its owner.
    pub user_id: String,
    pub name: String,
    pub description: Option<String>,
    pub search_type: Option<String>,
    /// `draft`, `active`, `completed` or `archived`.
    pub status: String,
    #[sqlx(try_from = "At")]
    pub created_at: DateTime<Utc>,
    #[sqlx(try_from = "At")]
    pub updated_at: DateTime<Utc>,
}

impl Campaign {
    fn is_live(&self) -> bool {
        self.status != CampaignStatus::Archived.as_str()
    }
}

/// Which campaigns to list.
#[derive(Clone, Debug, Default)]
pub struct CampaignFilter {
    pub user_id: Option<String>,
    pub status: Option<CampaignStatus>,
    pub search_type: Option<String>,
    pub created_from: Option<DateTime<Utc>>,
    pub created_before: Option<DateTime<Utc>>,
    /// (created_at, id) of the last one seen.
    pub after: Option<(DateTime<Utc>, Uuid)>,
    pub limit: i64,
}

/// A campaign to make.
#[derive(Clone, Debug)]
pub struct NewCampaign {
    pub user_id: String,
    pub name: String,
    pub description: Option<String>,
    pub search_type: Option<String>,
    pub status: CampaignStatus,
}

/// What becomes of a campaign's columns.
#[derive(Clone, Debug, Default)]
pub struct CampaignUpdate {
    pub name: Option<String>,
    pub description: Change<String>,
    pub search_type: Change<String>,
    pub status: Option<CampaignStatus>,
}

/// What became of making or changing a campaign.
#[derive(Clone, Debug)]
pub enum CampaignOutcome {
    Done(Campaign),
    NotFound,
    UnknownUser,
    /// The owner has as many live ones as the plan allows.
    LimitReached(Reading),
}

impl Store {
    /// Campaigns that pass the filter, newest first.
    pub async fn list_campaigns(&self, filter: &CampaignFilter) -> Result<Vec<Campaign>, StoreError> {
        let (after_at, after_id) = filter.after.unzip();
        let bind = |query: RowQuery<Campaign>| {
            query
                .bind(filter.user_id.clone())
                .bind(filter.status.map(CampaignStatus::as_str))
                .bind(filter.search_type.clone())
                .bind(filter.created_from)
                .bind(filter.created_before)
                .bind(after_at.map(Place::Before))
                .bind(after_id)
                .bind(filter.limit)
        };
        self.read_planned(LIST_CAMPAIGNS, bind).await
    }

    /// A campaign, of that owner if one is given.
    pub async fn find_campaign(&self, id: Uuid, owner: Option<&str>) -> Result<Option<Campaign>, StoreError> {
        let bind = |query: RowQuery<Campaign>| query.bind(id).bind(owner.map(str::to_owned));
        Ok(self.read(FIND_CAMPAIGN, bind).await?.pop())
    }

    /// Makes a campaign and counts it, or does neither.
    pub async fn create_campaign(&self, new: &NewCampaign, now: DateTime<Utc>) -> Result<CampaignOutcome, StoreError> {
        self.metered(now, async |tx| {
            if let Some(step) = count(tx, &new.user_id, if new.status.is_live() { 1 } else { 0 }, now).await? {
                return Ok(step);
            }
            let query = tx
                .query_as::<Campaign>(INSERT_CAMPAIGN)
                .bind(new.user_id.clone())
                .bind(new.name.clone())
                .bind(new.description.clone())
                .bind(new.search_type.clone())
                .bind(new.status.as_str())
                .bind(now);
            let made = query.fetch_optional(tx.connection()?).await?;
            Ok(made.map_or(Step::Refused(CampaignOutcome::UnknownUser), |campaign| Step::Done(CampaignOutcome::Done(campaign))))
        })
        .await
    }

    /// Changes a campaign. Archiving gives it back to the meter; taking it out of the archive counts it again.
    pub async fn update_campaign(
        &self,
        id: Uuid,
        update: &CampaignUpdate,
        now: DateTime<Utc>,
    ) -> Result<CampaignOutcome, StoreError> {
        self.metered(now, async |tx| {
            let Some(campaign) = lock(tx, id).await? else { return Ok(Step::Refused(CampaignOutcome::NotFound)) };
            let becomes_live = update.status.map_or(campaign.is_live(), CampaignStatus::is_live);
            let amount = i32::from(becomes_live) - i32::from(campaign.is_live());
            if let Some(step) = count(tx, &campaign.user_id, amount, now).await? {
                return Ok(step);
            }
            let query = tx
                .query_as::<Campaign>(UPDATE_CAMPAIGN)
                .bind(id)
                .bind(update.name.clone())
                .bind(update.description.is_some())
                .bind(update.description.clone().flatten())
                .bind(update.search_type.is_some())
                .bind(update.search_type.clone().flatten())
                .bind(update.status.map(CampaignStatus::as_str));
            Ok(Step::Done(CampaignOutcome::Done(query.fetch_one(tx.connection()?).await?)))
        })
        .await
    }

    /// Deletes a campaign with its jobs and their results, and gives a live one back to the meter. False when there was none.
    pub async fn delete_campaign(&self, id: Uuid, now: DateTime<Utc>) -> Result<bool, StoreError> {
        let deleted = self.metered(now, async |tx| {
            let Some(campaign) = lock(tx, id).await? else { return Ok(Step::Refused(CampaignOutcome::NotFound)) };
            if let Some(step) = count(tx, &campaign.user_id, -i32::from(campaign.is_live()), now).await? {
                return Ok(step);
            }
            tx.query(DELETE_CAMPAIGN).bind(id).execute(tx.connection()?).await?;
            Ok(Step::Done(CampaignOutcome::Done(campaign)))
        });
        Ok(matches!(deleted.await?, CampaignOutcome::Done(_)))
    }
}

async fn lock(tx: &mut Tx, id: Uuid) -> Result<Option<Campaign>, StoreError> {
    Ok(tx.query_as::<Campaign>(LOCK_CAMPAIGN).bind(id).fetch_optional(tx.connection()?).await?)
}

/// Moves the meter, if there is anything to move; `None` when the work may go on.
async fn count(
    tx: &mut Tx,
    clerk_id: &str,
    amount: i32,
    now: DateTime<Utc>,
) -> Result<Option<Step<CampaignOutcome>>, StoreError> {
    if amount == 0 {
        return Ok(None);
    }
    Ok(match consume_within(tx, clerk_id, Meter::Campaigns, amount, now).await? {
        Counted::Allowed => None,
        Counted::Due(id) => Some(Step::Due(id)),
        Counted::Denied(reading) => Some(Step::Refused(CampaignOutcome::LimitReached(reading))),
        Counted::UnknownUser => Some(Step::Refused(CampaignOutcome::UnknownUser)),
    })
}
