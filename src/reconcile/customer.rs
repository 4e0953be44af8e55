//! One customer in full: everything of it that a user's rows can depend on.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use crate::reconcile::absorb::Scope;
use crate::reconcile::{Mode, ReconcileError, Reconciler, Report};
use crate::stripe_api::{ApiError, Filter, Read, Resource};

impl Reconciler {
    /// Compares all that Stripe has of these customers with ours.
    pub async fn reconcile_customers(&self, customers: &[String], mode: Mode) -> Result<Report, ReconcileError> {
        let mut report = Report::default();
        for customer_id in customers {
            self.read_customer(customer_id, None, mode, &mut report).await?;
        }
        self.finish(mode, &mut report).await?;
        Ok(report)
    }

    /// Everything of a customer; of what soon stops changing only what was created since that time, and open invoices.
    pub(super) async fn read_customer(
        &self,
        customer_id: &str,
        recent_since: Option<DateTime<Utc>>,
        mode: Mode,
        report: &mut Report,
    ) -> Result<(), ReconcileError> {
        let Some(customer) = self.stripe()?.fetch(Resource::Customers, customer_id).await? else {
            report.problem(format!("Stripe does not know {customer_id}"));
            return Ok(());
        };
        self.absorb(vec![customer], mode, Scope::Everything, report).await?;
        for resource in [Resource::Subscriptions, Resource::PaymentMethods] {
            let reads = self.list_of_customer(resource, customer_id).await?;
            self.absorb_list(resource, &[customer_id.to_owned()], reads, mode, Scope::Everything, report).await?;
        }
        for (resource, filter) in further(customer_id, recent_since) {
            match self.stripe()?.fetch_all(resource, &filter).await {
                Ok(reads) => self.absorb(reads, mode, Scope::Everything, report).await?,
                // The rows can do without them in most cases; whoever gave the key may have meant it so.
                Err(error @ ApiError::MissingScope { .. }) => report.problem(error.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// A customer's objects; none of a deleted customer, whose payment methods Stripe does not list.
    pub(super) async fn list_of_customer(&self, resource: Resource, customer_id: &str) -> Result<Vec<Read>, ReconcileError> {
        match self.stripe()?.fetch_all(resource, &Filter::of_customer(customer_id)).await {
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            listed => Ok(listed?),
        }
    }

    /// Absorbs what was listed of these customers, and asks one by one for what we hold as current and the list lacks.
    pub(super) async fn absorb_list(
        &self,
        resource: Resource,
        customers: &[String],
        mut reads: Vec<Read>,
        mode: Mode,
        scope: Scope,
        report: &mut Report,
    ) -> Result<(), ReconcileError> {
        let listed: BTreeSet<String> = reads.iter().filter_map(id_of).collect();
        let missing = self.find_unlisted(resource, customers, &listed).await?;
        reads.extend(self.fetch_each(resource, &missing, report).await?);
        self.absorb(reads, mode, scope, report).await
    }

    /// What we hold as current of these customers, but for what is listed.
    pub(super) async fn find_unlisted(
        &self,
        resource: Resource,
        customers: &[String],
        listed: &BTreeSet<String>,
    ) -> Result<Vec<String>, ReconcileError> {
        let object_type = match resource {
            Resource::Subscriptions => "subscription",
            Resource::PaymentMethods => "payment_method",
            _ => return Ok(Vec::new()),
        };
        let held = self.store.list_current_objects(customers, object_type).await?;
        Ok(held.into_iter().map(|(id, _customer)| id).filter(|id| !listed.contains(id)).collect())
    }

    /// Objects one by one; those that Stripe does not know are told of.
    pub(super) async fn fetch_each(
        &self,
        resource: Resource,
        ids: &[String],
        report: &mut Report,
    ) -> Result<Vec<Read>, ReconcileError> {
        let api = self.stripe()?;
        let asks = ids.iter().map(|id| async move { api.fetch(resource, id).await.map(|read| (id, read)) });
        let mut reads = Vec::new();
        for (id, read) in futures_util::future::try_join_all(asks).await? {
            match read {
                Some(read) => reads.push(read),
                None => report.problem(format!("Stripe does not know {id}")),
            }
        }
        Ok(reads)
    }

    /// What is left once everything is read: the questions that the facts have raised, and which events never came.
    pub(super) async fn finish(&self, mode: Mode, report: &mut Report) -> Result<(), ReconcileError> {
        self.find_missed_events(mode, report).await?;
        if mode == Mode::Apply {
            let drained = self.drain_refetches().await?;
            report.drift.extend(drained.report.drift);
            report.problems.extend(drained.report.problems);
        }
        Ok(())
    }
}

/// What is listed of a customer, beside its subscriptions and payment methods.
fn further(customer_id: &str, recent_since: Option<DateTime<Utc>>) -> Vec<(Resource, Filter)> {
    let all = Filter::of_customer(customer_id);
    let Some(since) = recent_since else {
        let resources =
            [Resource::SubscriptionSchedules, Resource::Invoices, Resource::CheckoutSessions, Resource::PaymentIntents];
        return resources.map(|resource| (resource, all.clone())).into();
    };
    let recent = Filter { created_since: Some(since.timestamp()), ..all.clone() };
    let open = Filter { status: Some("open"), ..all.clone() };
    vec![
        (Resource::SubscriptionSchedules, all),
        (Resource::Invoices, recent.clone()),
        (Resource::Invoices, open),
        (Resource::CheckoutSessions, recent),
    ]
}

/// The id of an object.
pub(super) fn id_of(read: &Read) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Identified {
        id: String,
    }
    serde_json::from_str::<Identified>(&read.text).ok().map(|object| object.id)
}
