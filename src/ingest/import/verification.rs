//! The second reading: whether every user has five rows, and in them what was imported. What is otherwise for a reason is told
//! with it; the rest is wrong.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{Finding, ImportError, Run, own_values};
use crate::domain::billing::card::{fit_address, fit_card};
use crate::domain::billing::facts::Import;
use crate::domain::import::is_same;
use crate::domain::user_profile::UserProfile;
use crate::store::ImportedRows;

/// What an import leads to in the projected columns, as long as nobody else has spoken.
fn projected(import: &Import, is_linked: bool) -> Vec<(&'static str, Value)> {
    let (card, address) = (fit_card(&import.card), fit_address(&import.address));
    let mut columns = vec![
        ("current_plan", json!(import.current_plan.as_deref().unwrap_or("free"))),
        ("intended_plan", json!(import.intended_plan)),
        ("subscription_status", json!(import.subscription_status.as_deref().unwrap_or("none"))),
        ("trial_status", json!(import.trial_status.as_deref().unwrap_or("pending"))),
        ("trial_start_date", json!(import.trial_start_date)),
        ("trial_end_date", json!(import.trial_end_date)),
        ("trial_conversion_date", json!(import.trial_conversion_date)),
        ("subscription_cancel_date", json!(import.subscription_cancel_date)),
        ("subscription_renewal_date", json!(import.subscription_renewal_date)),
        ("payment_method_id", json!(import.payment_method_id)),
        ("card_last_4", json!(card.last_4)),
        ("card_brand", json!(card.brand)),
        ("card_exp_month", json!(card.exp_month)),
        ("card_exp_year", json!(card.exp_year)),
        ("billing_address_city", json!(address.city)),
        ("billing_address_country", json!(address.country)),
        ("billing_address_postal_code", json!(address.postal_code)),
    ];
    if is_linked {
        columns.push(("stripe_customer_id", json!(import.stripe_customer_id)));
        columns.push(("stripe_subscription_id", json!(import.stripe_subscription_id)));
    }
    columns
}

/// Equal, or the same instant in two spellings.
fn is_equal(one: &Value, other: &Value) -> bool {
    let instant = |value: &Value| DateTime::parse_from_rfc3339(value.as_str()?).ok().map(|at| at.with_timezone(&Utc));
    one == other || (one.is_string() && instant(one).is_some_and(|at| instant(other) == Some(at)))
}

impl Run<'_> {
    /// Compares the users of a batch with their rows.
    pub(super) async fn verify(&mut self, profiles: &[UserProfile]) -> Result<(), ImportError> {
        let ids: Vec<String> = profiles.iter().map(|profile| profile.user_id.clone()).collect();
        let rows = self.settings.store.read_imported(&ids).await?;
        for profile in profiles {
            let found = rows.iter().find(|row| row.user_id == profile.user_id);
            if !found.is_some_and(|row| row.is_erased) {
                self.verify_user(profile, found);
            }
        }
        Ok(())
    }

    fn verify_user(&mut self, profile: &UserProfile, found: Option<&ImportedRows>) {
        let finding = |column: Option<&str>, reason: String| Finding {
            row: profile.user_id.clone(),
            column: column.map(str::to_owned),
            reason,
        };
        let is_left = self.report.left.iter().any(|left| left.row == profile.user_id);
        let verified = &mut self.report.verified;
        verified.expected += 1;
        let Some((row, columns)) = found.and_then(|row| Some((row, row.columns.as_ref()?))) else {
            if !is_left {
                verified.wrong.push(finding(None, "does not have all five rows".to_owned()));
            }
            return;
        };
        verified.found += 1;
        if is_left || row.object.get("source").and_then(Value::as_str) == Some("baseline") {
            return;
        }
        let Some(import) = row.import.as_ref().filter(|import| is_same(import, &profile.import)) else {
            return verified.wrong.push(finding(None, "is not imported as the table has it".to_owned()));
        };
        let value = |column: &str| columns.get(column).unwrap_or(&Value::Null);
        let mut expected = Vec::new();
        if !row.knows_person {
            expected.extend([("email", json!(import.email)), ("full_name", json!(import.full_name))]);
        }
        let is_linked = row.customer_of.as_deref() == Some(profile.user_id.as_str());
        if row.has_spoken {
            verified.superseded += 1;
        } else {
            expected.extend(projected(import, is_linked));
        }
        if import.stripe_customer_id.is_some() && !is_linked {
            let owner = row.customer_of.as_deref().unwrap_or("nobody");
            let why = row.customer_by.as_deref().unwrap_or("nothing");
            verified.explained.push(finding(Some("stripe_customer_id"), format!("the customer is linked to {owner}, by {why}")));
        }
        for (column, expected) in expected {
            verified.values += 1;
            if !is_equal(&expected, value(column)) {
                verified.wrong.push(finding(Some(column), "is not what was imported".to_owned()));
            }
        }
        for (column, expected) in own_values(&profile.own) {
            verified.values += 1;
            if !is_equal(&expected, value(column)) {
                let reason = "the application has written it since, or had before: its value stays".to_owned();
                verified.explained.push(finding(Some(column), reason));
            }
        }
    }
}
