//! The people of the demo and the webhooks that tell their stories, compiled in.

/// In which order a story's webhooks are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    AsTheyHappened,
    Reversed,
}

/// A webhook body to be filled in, and the event type that it is named by.
#[derive(Clone, Copy, Debug)]
pub struct Template {
    /// `NN_<event.type>.json`.
    pub file: &'static str,
    pub text: &'static str,
}

/// One person.
#[derive(Clone, Copy, Debug)]
pub struct Story {
    /// The folder's name; the Clerk id is `user_<person>_<run>`.
    pub person: &'static str,
    pub name: &'static str,
    /// What to see in the rows, for people.
    pub lesson: &'static str,
    pub order: Order,
    pub webhooks: &'static [Template],
}

macro_rules! webhooks {
    ($person:literal: $($file:literal),+ $(,)?) => {
        &[$(Template { file: $file, text: include_str!(concat!("../../../fixtures/demo/", $person, "/", $file)) }),+]
    };
}

/// Everybody, in the order in which they are delivered.
pub const STORIES: &[Story] = &[
    Story {
        person: "ada",
        name: "Ada",
        lesson: "In the third day of a 14-day trial of Glow Up. Her checkout names her Clerk id, which links the customer.",
        order: Order::AsTheyHappened,
        webhooks: webhooks![
            "ada":
            "01_user.created.json",
            "02_customer.created.json",
            "03_payment_method.attached.json",
            "04_customer.subscription.created.json",
            "05_invoice.paid.json",
            "06_checkout.session.completed.json",
        ],
    },
    Story {
        person: "ben",
        name: "Ben",
        lesson: "His trial of Viral Surge became a subscription when its first invoice was paid; it has renewed since.",
        order: Order::AsTheyHappened,
        webhooks: webhooks![
            "ben":
            "01_user.created.json",
            "02_customer.created.json",
            "03_payment_method.attached.json",
            "04_customer.subscription.created.json",
            "05_customer.subscription.updated.json",
            "06_invoice.paid.json",
            "07_customer.subscription.updated.json",
            "08_invoice.paid.json",
        ],
    },
    Story {
        person: "cleo",
        name: "Cleo",
        lesson: "Her renewal failed three days ago. She is past_due and keeps Glow Up while Stripe retries the card.",
        order: Order::AsTheyHappened,
        webhooks: webhooks![
            "cleo":
            "01_user.created.json",
            "02_customer.created.json",
            "03_payment_method.attached.json",
            "04_customer.subscription.created.json",
            "05_invoice.paid.json",
            "06_invoice.payment_failed.json",
            "07_customer.subscription.updated.json",
        ],
    },
    Story {
        person: "dan",
        name: "Dan",
        lesson: "Canceled Fame Flex, had it until the period ended, and is back on the free plan.",
        order: Order::AsTheyHappened,
        webhooks: webhooks![
            "dan":
            "01_user.created.json",
            "02_customer.created.json",
            "03_payment_method.attached.json",
            "04_customer.subscription.created.json",
            "05_invoice.paid.json",
            "06_customer.subscription.updated.json",
            "07_customer.subscription.deleted.json",
        ],
    },
    Story {
        person: "eve",
        name: "Eve",
        lesson: "Pays for Glow Up through Clerk Billing: the same columns, and no Stripe customer at all.",
        order: Order::AsTheyHappened,
        webhooks: webhooks![
            "eve":
            "01_user.created.json",
            "02_subscriptionItem.active.json",
            "03_paymentAttempt.updated.json",
        ],
    },
    Story {
        person: "finn",
        name: "Finn",
        lesson: "Everything arrived in reverse order: the cancellation first, the sign-up last. The rows are right all the same.",
        order: Order::Reversed,
        webhooks: webhooks![
            "finn":
            "01_user.created.json",
            "02_customer.created.json",
            "03_payment_method.attached.json",
            "04_customer.subscription.created.json",
            "05_invoice.paid.json",
            "06_customer.subscription.updated.json",
        ],
    },
];

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::cli::demo::template::fill;
    use crate::cli::plans::catalog_file;
    use crate::domain::billing::accounts::{Accounts, Context};
    use crate::domain::billing::plan::Catalog;
    use crate::domain::event::{Outcome, Source};
    use crate::domain::rules::Rules;
    use crate::domain::signature::VerifiedBody;
    use crate::domain::{clerk, stripe};

    #[test]
    fn every_file_of_the_folder_is_told_and_is_json() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/demo");
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("valid");
        let mut people: Vec<String> = std::fs::read_dir(folder).expect("exists").map(|e| name_of(&e.expect("entry"))).collect();
        people.sort();
        assert_eq!(people, STORIES.iter().map(|s| s.person).collect::<Vec<_>>());
        for story in STORIES {
            let entries = std::fs::read_dir(format!("{folder}/{}", story.person)).expect("exists");
            let mut files: Vec<String> = entries.map(|e| name_of(&e.expect("entry"))).collect();
            files.sort();
            assert_eq!(files, story.webhooks.iter().map(|w| w.file).collect::<Vec<_>>());
            for webhook in story.webhooks {
                let body = fill(webhook.text, now, "r1").expect("fills");
                let value: serde_json::Value = serde_json::from_str(&body).expect("is JSON");
                assert_eq!(format!("{}.json", value["type"].as_str().expect("a type")), webhook.file[3..]);
            }
        }
    }

    #[test]
    fn every_story_ends_as_its_lesson_says() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("valid");
        let catalog = Catalog::new(catalog_file::parse(catalog_file::BUILT_IN).expect("is valid"));
        let rules = Rules::default();
        let mut accounts = Accounts::default();
        for story in STORIES {
            let mut bodies: Vec<String> = story.webhooks.iter().map(|w| fill(w.text, now, "r1").expect("fills")).collect();
            if story.order == Order::Reversed {
                bodies.reverse();
            }
            for (number, body) in bodies.into_iter().enumerate() {
                let is_stripe = body.contains("\"api_version\"");
                let verified = VerifiedBody::from_operator(body.into());
                let event = if is_stripe {
                    stripe::decode_event(&verified, Source::Webhook, &rules)
                } else {
                    clerk::decode_event(&verified, &format!("msg_{}_{number}", story.person), Source::Webhook, &rules)
                };
                let applied = accounts.apply(&event.expect("decodes"), Context { catalog: &catalog, rules: &rules, now });
                assert!(
                    matches!(applied.outcome, Outcome::Applied | Outcome::Unlinked | Outcome::Stale),
                    "{}: {applied:?}",
                    story.person
                );
            }
        }
        let shown: Vec<String> = STORIES
            .iter()
            .map(|story| {
                let rows = accounts.rows(&format!("user_{}_r1", story.person)).expect("has rows");
                let (subscription, card) = (&rows.subscription, &rows.billing.card);
                format!(
                    "{}: {}, {}, trial {}, next {:?}, {}, card {:?}, {} campaigns",
                    story.person,
                    subscription.current_plan,
                    subscription.subscription_status,
                    subscription.trial_status,
                    subscription.intended_plan,
                    subscription.billing_sync_status,
                    card.last_4,
                    rows.usage.plan_campaigns_limit,
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                "ada: glow_up, trialing, trial active, next None, synced, card Some(\"4242\"), 3 campaigns",
                "ben: viral_surge, active, trial converted, next None, synced, card Some(\"4444\"), 10 campaigns",
                "cleo: glow_up, past_due, trial pending, next None, synced, card Some(\"0005\"), 3 campaigns",
                "dan: free, canceled, trial pending, next None, synced, card Some(\"1881\"), 0 campaigns",
                "eve: glow_up, active, trial pending, next None, synced, card None, 3 campaigns",
                "finn: viral_surge, active, trial pending, next Some(\"free\"), synced, card Some(\"4242\"), 10 campaigns",
            ]
        );
    }

    fn name_of(entry: &std::fs::DirEntry) -> String {
        entry.file_name().to_string_lossy().into_owned()
    }
}
