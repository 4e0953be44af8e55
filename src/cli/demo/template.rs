//! Filling in the demo's webhook bodies: `"{{seconds -3d+1h}}"` and `"{{millis +11d}}"` become times relative to now,
//! `{{run}}` the id of the run, so that every run has users of its own and nobody's trial is long over.

use anyhow::{Context, bail};
use chrono::{DateTime, TimeDelta, Utc};

/// The body of a webhook.
pub fn fill(template: &str, now: DateTime<Utc>, run: &str) -> anyhow::Result<String> {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (mark, after) = after.split_once("}}").context("{{ without }}")?;
        match mark.split_once(' ') {
            None if mark == "run" => {
                filled.push_str(before);
                filled.push_str(run);
                rest = after;
            }
            Some((unit, offset)) => {
                let at = now + parse_offset(offset)?;
                let number = match unit {
                    "seconds" => at.timestamp(),
                    "millis" => at.timestamp_millis(),
                    _ => bail!("unknown mark {mark:?}"),
                };
                // The quotation marks around a time are the template's, so that it is JSON itself.
                filled.push_str(before.strip_suffix('"').with_context(|| format!("no quotation mark before {mark:?}"))?);
                filled.push_str(&number.to_string());
                rest = after.strip_prefix('"').with_context(|| format!("no quotation mark after {mark:?}"))?;
            }
            None => bail!("unknown mark {mark:?}"),
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

/// Adds up terms such as `-3d+1h`; units are d, h and m.
fn parse_offset(text: &str) -> anyhow::Result<TimeDelta> {
    let mut sum = TimeDelta::zero();
    for term in text.split_inclusive(['d', 'h', 'm']) {
        let unit = term.chars().last().with_context(|| format!("empty offset in {text:?}"))?;
        let amount: i64 = term.trim_end_matches(unit).parse().with_context(|| format!("offset {text:?}"))?;
        sum += match unit {
            'd' => TimeDelta::days(amount),
            'h' => TimeDelta::hours(amount),
            'm' => TimeDelta::minutes(amount),
            _ => bail!("offset {text:?} needs a unit: d, h or m"),
        };
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_relative_to_now_and_ids_belong_to_the_run() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("valid");
        let template = r#"{"id": "sub_{{run}}", "a": "{{seconds -1d+1h}}", "b": "{{millis +30m}}"}"#;
        let filled = fill(template, now, "r1").expect("fills");
        assert_eq!(filled, r#"{"id": "sub_r1", "a": 1799917200, "b": 1800001800000}"#);
        for wrong in [r#""{{seconds 3x}}""#, r#""{{minutes -1d}}""#, "{{seconds -1d}}", "{{run", "{{walk}}"] {
            assert!(fill(wrong, now, "r1").is_err(), "{wrong}");
        }
    }
}
