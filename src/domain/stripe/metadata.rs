//! The Clerk user id that an object's metadata may hold.

use crate::domain::json_text::Value;
use crate::domain::rules::Rules;

/// The Clerk user that `metadata` names: under a configured key or `clerkUserId`; under the ambiguous `user_id` and
/// `userId` only what looks like a Clerk id.
pub fn clerk_user_id(metadata: Option<Value<'_>>, rules: &Rules) -> Option<String> {
    let metadata = metadata?;
    metadata.members().next()?;
    let mut keys = rules.link_metadata_keys.iter().map(String::as_str).chain(["clerkUserId"]);
    let named = keys.find_map(|key| metadata.get(key)?.as_id());
    named.or_else(|| {
        let mut candidates = ["user_id", "userId"].into_iter().filter_map(|key| metadata.get(key)?.as_id());
        candidates.find(|id| id.starts_with("user_"))
    })
}
