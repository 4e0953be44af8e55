//! The states of campaigns and scraping jobs, and which may follow which.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a campaign stands. Every one but an archived one counts as live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CampaignStatus {
    Draft,
    Active,
    Completed,
    Archived,
}

impl CampaignStatus {
    /// The text that the database keeps.
    pub fn as_str(self) -> &'static str {
        match self {
            CampaignStatus::Draft => "draft",
            CampaignStatus::Active => "active",
            CampaignStatus::Completed => "completed",
            CampaignStatus::Archived => "archived",
        }
    }

    /// Whether it counts against the limit of campaigns.
    pub fn is_live(self) -> bool {
        self != CampaignStatus::Archived
    }
}

/// Where a scraping job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    Pending,
    Processing,
    Completed,
    Error,
    Timeout,
}

impl JobStatus {
    /// Every status.
    pub const ALL: [JobStatus; 5] =
        [JobStatus::Pending, JobStatus::Processing, JobStatus::Completed, JobStatus::Error, JobStatus::Timeout];

    /// The text that the database keeps.
    pub fn as_str(self) -> &'static str {
        match self {
            JobStatus::Pending => "pending",
            JobStatus::Processing => "processing",
            JobStatus::Completed => "completed",
            JobStatus::Error => "error",
            JobStatus::Timeout => "timeout",
        }
    }

    /// The inverse of [`JobStatus::as_str`].
    pub fn parse(text: &str) -> Option<JobStatus> {
        JobStatus::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Whether nothing follows.
    pub fn is_final(self) -> bool {
        !matches!(self, JobStatus::Pending | JobStatus::Processing)
    }

    /// Whether a job of this status may get the other one. To stay is always allowed; only what was begun completes.
    pub fn may_become(self, next: JobStatus) -> bool {
        self == next
            || match self {
                JobStatus::Pending => next != JobStatus::Completed,
                JobStatus::Processing => next.is_final(),
                JobStatus::Completed | JobStatus::Error | JobStatus::Timeout => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_goes_forward_and_ends_once() {
        use JobStatus::{Completed, Error, Pending, Processing, Timeout};
        let allowed = [
            (Pending, vec![Pending, Processing, Error, Timeout]),
            (Processing, vec![Processing, Completed, Error, Timeout]),
            (Completed, vec![Completed]),
            (Error, vec![Error]),
            (Timeout, vec![Timeout]),
        ];
        for (from, expected) in allowed {
            let may: Vec<JobStatus> = JobStatus::ALL.into_iter().filter(|next| from.may_become(*next)).collect();
            assert_eq!(may, expected, "{from:?}");
            assert_eq!(JobStatus::parse(from.as_str()), Some(from));
        }
    }
}
