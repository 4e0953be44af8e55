//! The settings that change what an event means. Everything else a deployment can set is the shell's.

/// Which of Stripe's modes this deployment accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Livemode {
    Live,
    Test,
    Any,
}

impl Livemode {
    /// Whether an event of that mode is ours. An event that does not say is.
    pub fn accepts(self, livemode: Option<bool>) -> bool {
        match (self, livemode) {
            (Livemode::Any, _) | (_, None) => true,
            (Livemode::Live, Some(live)) => live,
            (Livemode::Test, Some(live)) => !live,
        }
    }
}

/// See the settings of the same names in the README.
#[derive(Clone, Debug)]
pub struct Rules {
    pub livemode: Livemode,
    /// Whether a Payment Link's session may link: anyone can put a `client_reference_id` into its URL.
    pub link_by_payment_link: bool,
    pub link_by_verified_email: bool,
    /// Metadata keys that hold a Clerk user id, in order of preference.
    pub link_metadata_keys: Vec<String>,
    /// The plan of a live subscription whose price the catalog does not know.
    pub unmapped_plan: String,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            livemode: Livemode::Any,
            link_by_payment_link: false,
            link_by_verified_email: false,
            link_metadata_keys: vec!["clerk_user_id".into(), "clerkUserId".into()],
            unmapped_plan: "free".into(),
        }
    }
}
