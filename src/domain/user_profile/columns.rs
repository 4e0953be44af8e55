//! By which names the old table's columns are known. Names are compared without case and underscores, so that `cardLast4`,
//! `card_last_4` and `CardLast4` are one.

use std::collections::BTreeMap;

/// A column of ours, and what else it has been called; the first that the table has is read. Our own name goes first.
const COLUMNS: &[(&str, &[&str])] = &[
    ("user_id", &["clerk_user_id", "clerk_id", "external_id", "id"]),
    ("email", &["email_address", "primary_email", "user_email"]),
    ("full_name", &["name", "display_name", "user_name"]),
    ("first_name", &[]),
    ("last_name", &[]),
    ("business_name", &["company_name", "company", "business", "brand_name"]),
    ("brand_description", &["business_description", "description"]),
    ("industry", &["business_industry", "niche"]),
    ("onboarding_step", &["onboarding_status", "onboarding"]),
    ("onboarding_completed", &["onboarding_complete", "is_onboarded", "onboarded"]),
    ("is_admin", &["admin"]),
    ("signup_timestamp", &["signup_date", "signed_up_at", "signup_at", "registered_at"]),
    ("created_at", &["inserted_at"]),
    ("updated_at", &["modified_at"]),
    ("current_plan", &["plan", "plan_key", "plan_id", "subscription_plan", "plan_type", "tier"]),
    ("intended_plan", &["selected_plan", "pending_plan"]),
    ("subscription_status", &["stripe_subscription_status", "stripe_status", "plan_status", "billing_status"]),
    ("trial_status", &[]),
    ("trial_start_date", &["trial_start", "trial_started_at", "trial_starts_at", "trial_start_at"]),
    ("trial_end_date", &["trial_end", "trial_ends_at", "trial_end_at", "trial_ended_at", "trial_expires_at"]),
    ("trial_conversion_date", &["trial_converted_at", "converted_at", "conversion_date"]),
    ("subscription_cancel_date", &["cancel_date", "cancel_at", "canceled_at", "cancelled_at", "subscription_canceled_at"]),
    (
        "subscription_renewal_date",
        &["renewal_date", "current_period_end", "subscription_current_period_end", "renews_at", "next_billing_date"],
    ),
    ("stripe_customer_id", &["stripe_customer", "customer_id", "stripe_id"]),
    ("stripe_subscription_id", &["stripe_subscription", "subscription_id"]),
    ("payment_method_id", &["stripe_payment_method_id", "default_payment_method", "stripe_payment_method"]),
    ("card_last_4", &["last_4", "payment_method_last_4"]),
    ("card_brand", &["payment_method_brand"]),
    ("card_exp_month", &["exp_month", "card_expiry_month"]),
    ("card_exp_year", &["exp_year", "card_expiry_year"]),
    ("billing_address_city", &["billing_city", "city"]),
    ("billing_address_country", &["billing_country", "country"]),
    ("billing_address_postal_code", &["billing_postal_code", "billing_zip", "postal_code", "zip_code", "zip"]),
    ("usage_campaigns_current", &["campaigns_current", "campaigns_used", "campaigns_count", "campaign_count"]),
    ("usage_creators_current_month", &["creators_current_month", "creators_used", "creators_this_month"]),
    ("enrichments_current_month", &["usage_enrichments_current_month", "enrichments_used", "enrichments_this_month"]),
    ("email_schedule_status", &["email_schedule"]),
];

/// Columns that are known and not taken over, and why.
const LEFT: &[(&str, &str)] = &[
    ("plan_campaigns_limit", "limits follow from the plan catalog"),
    ("plan_creators_limit", "limits follow from the plan catalog"),
    ("plan_enrichments_limit", "limits follow from the plan catalog"),
    ("plan_features", "features follow from the plan catalog"),
    ("usage_reset_date", "usage periods follow from the anchor"),
    ("billing_sync_status", "it is worked out from the facts"),
    ("last_webhook_event", "it follows from the ledger"),
    ("last_webhook_timestamp", "it follows from the ledger"),
    ("requested_plan", "the intended plan is taken instead"),
    ("requested_at", "the intended plan is taken instead"),
    ("id", "the rows have ids of their own"),
];

/// A name without case and underscores.
fn fold(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Which column of a table is which of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    columns: BTreeMap<&'static str, String>,
    unmapped: Vec<(String, &'static str)>,
}

impl Mapping {
    /// Finds out, given the names of the table's columns.
    pub fn of(names: &[String]) -> Mapping {
        let mut mapping = Mapping::default();
        for (ours, others) in COLUMNS {
            let candidates = std::iter::once(ours).chain(*others).map(|name| fold(name));
            let found = candidates.into_iter().find_map(|candidate| names.iter().find(|name| fold(name) == candidate));
            if let Some(name) = found {
                mapping.columns.insert(ours, name.clone());
            }
        }
        for name in names.iter().filter(|name| !mapping.columns.values().any(|used| used == *name)) {
            let reason = LEFT.iter().find(|(left, _)| fold(left) == fold(name)).map(|(_, reason)| *reason);
            mapping.unmapped.push((name.clone(), reason.unwrap_or("no column of the five tables is known to be it")));
        }
        mapping
    }

    /// The table's name for a column of ours.
    pub fn column(&self, ours: &str) -> Option<&str> {
        self.columns.get(ours).map(String::as_str)
    }

    /// Each column of ours that the table has, with the table's name for it.
    pub fn columns(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.columns.iter().map(|(ours, theirs)| (*ours, theirs.as_str()))
    }

    /// The table's columns that are not read, each with the reason.
    pub fn unmapped(&self) -> &[(String, &'static str)] {
        &self.unmapped
    }
}
