//! A row of the deprecated `user_profiles` table: which of its columns is what, and what its values say. Whatever cannot be
//! read is told with its reason and left out; nothing here fails.

mod columns;
mod values;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::domain::billing::facts::{Address, Card, Import};

pub use columns::Mapping;

use values::Reader;

/// What the application owns of a user's rows: written where the application has not written since.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OwnColumns {
    pub business_name: Option<String>,
    pub brand_description: Option<String>,
    pub industry: Option<String>,
    pub onboarding_step: Option<String>,
    pub is_admin: bool,
    pub usage_campaigns_current: i32,
    pub usage_creators_current_month: i32,
    pub enrichments_current_month: i32,
    /// Entries that the mailer has sent, or that are none of ours.
    pub email_schedule: Map<String, Value>,
    pub created_at: Option<DateTime<Utc>>,
}

/// A value that could not be taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub column: String,
    pub reason: String,
}

/// One user, as the old table has them.
#[derive(Clone, Debug, PartialEq)]
pub struct UserProfile {
    pub user_id: String,
    pub import: Import,
    pub own: OwnColumns,
    /// Which of two rows of a user is the newer one.
    pub updated_at: Option<DateTime<Utc>>,
    pub problems: Vec<Problem>,
}

/// Reads a row. `plan_keys` are those of the catalog. An error says why the row is nobody's.
pub fn read(mapping: &Mapping, row: &Map<String, Value>, plan_keys: &[String]) -> Result<UserProfile, Problem> {
    let mut reader = Reader::new(mapping, row);
    let user_id = reader.user_id()?;
    let created_at = reader.instant("created_at");
    let import = Import {
        imported_at: None,
        email: reader.email("email"),
        full_name: reader.full_name(),
        signup_timestamp: reader.instant("signup_timestamp").or(created_at),
        current_plan: reader.plan("current_plan", plan_keys),
        intended_plan: reader.plan("intended_plan", plan_keys),
        subscription_status: reader.subscription_status(),
        trial_status: reader.trial_status(),
        trial_start_date: reader.instant("trial_start_date"),
        trial_end_date: reader.instant("trial_end_date"),
        trial_conversion_date: reader.instant("trial_conversion_date"),
        subscription_cancel_date: reader.instant("subscription_cancel_date"),
        subscription_renewal_date: reader.instant("subscription_renewal_date"),
        stripe_customer_id: reader.id("stripe_customer_id", &["cus_", "acct_"]),
        stripe_subscription_id: reader.id("stripe_subscription_id", &["sub_"]),
        payment_method_id: reader.id("payment_method_id", &["pm_", "card_", "src_", "ba_"]),
        card: Card {
            last_4: reader.short_text("card_last_4", 4),
            brand: reader.short_text("card_brand", 20).map(|brand| brand.to_lowercase()),
            exp_month: reader.whole("card_exp_month", 1..=12),
            exp_year: reader.whole("card_exp_year", 0..=9999).map(|year| if year < 100 { year + 2000 } else { year }),
        },
        address: Address {
            city: reader.text("billing_address_city"),
            country: reader.short_text("billing_address_country", 2).map(|country| country.to_uppercase()),
            postal_code: reader.short_text("billing_address_postal_code", 20),
        },
    };
    let own = OwnColumns {
        business_name: reader.text("business_name"),
        brand_description: reader.text("brand_description"),
        industry: reader.text("industry"),
        onboarding_step: reader.onboarding_step(),
        is_admin: reader.truth("is_admin").unwrap_or_default(),
        usage_campaigns_current: reader.whole("usage_campaigns_current", 0..=i32::MAX).unwrap_or_default(),
        usage_creators_current_month: reader.whole("usage_creators_current_month", 0..=i32::MAX).unwrap_or_default(),
        enrichments_current_month: reader.whole("enrichments_current_month", 0..=i32::MAX).unwrap_or_default(),
        email_schedule: reader.email_schedule(),
        created_at,
    };
    let updated_at = reader.instant("updated_at").or(created_at);
    Ok(UserProfile { user_id, import, own, updated_at, problems: reader.into_problems() })
}

#[cfg(test)]
mod tests;
