//! How a module names its SQL, and how the writes of several modules become one statement: a round trip costs more than
//! what most of them do.

use std::fmt::Write;

/// Defines `pub(crate)` constants and `ALL`, the list of them, so that no statement escapes the test that prepares each.
macro_rules! statements {
    ($($(#[$meta:meta])* $name:ident = $sql:expr;)*) => {
        $($(#[$meta])* pub(crate) const $name: &str = $sql;)*
        /// Every statement of this module, by name.
        pub(crate) const ALL: &[(&str, &str)] = &[$((stringify!($name), $name)),*];
    };
}

/// Defines `pub(crate)` constants that are parts of the one write of a batch, see [`compose`]. Their parameters are counted
/// from `$1` in each.
macro_rules! parts {
    ($($(#[$meta:meta])* $name:ident = $sql:expr;)*) => {
        $($(#[$meta])* pub(crate) const $name: &str = $sql;)*
    };
}

/// One statement of common table expressions. The parameters of each part follow those of the parts before it.
pub(crate) fn compose(parts: &[&str]) -> String {
    let mut sql = String::from("with ");
    let mut taken = 0;
    for (position, part) in parts.iter().enumerate() {
        if position > 0 {
            sql.push_str(", ");
        }
        taken += push_shifted(&mut sql, part, taken);
    }
    sql.push_str(" select");
    sql
}

/// Appends the part with its parameters moved up. Returns how many it has.
fn push_shifted(sql: &mut String, part: &str, by: usize) -> usize {
    let mut pieces = part.split('$');
    sql.push_str(pieces.next().unwrap_or_default());
    let mut most = 0;
    for piece in pieces {
        let digits = piece.len() - piece.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, rest) = piece.split_at(digits);
        let number: usize = number.parse().unwrap_or_default();
        most = most.max(number);
        // Writing to a string cannot fail.
        let _ = write!(sql, "${}{rest}", number + by);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::compose;

    #[test]
    fn parameters_of_a_part_follow_those_of_the_parts_before_it() {
        let parts = ["a as (select $2, $1, $2::text[])", "b as (select 1)", "c as (select $1 from a where x = $10)"];
        assert_eq!(
            compose(&parts),
            "with a as (select $2, $1, $2::text[]), b as (select 1), c as (select $3 from a where x = $12) select"
        );
    }
}
