//! Instants as the application's tables may hold them. Postgres has `infinity` and years that chrono has not, for which sqlx
//! ends the task in a panic: whoever writes one into a column would stop every list and task that comes across the row.
//! They are read as the first or the last instant that RFC 3339 can name.

use chrono::{DateTime, Utc};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueFormat, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type};

/// Microseconds from the epoch of Unix to that of Postgres, the year 2000.
const EPOCH: i64 = 946_684_800_000_000;

/// Microseconds since the epoch of Unix.
const FIRST: i64 = -62_135_596_800_000_000;
const LAST: i64 = 253_402_300_799_999_999;

/// An instant of a column that is never NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At(DateTime<Utc>);

/// An instant of a column that may be NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MaybeAt(Option<DateTime<Utc>>);

/// What was read so on its way back, to be compared with the column.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// The last instant stands for `infinity`, the first for its opposite.
    At(DateTime<Utc>),
    /// Where a page ended that goes on with what is earlier. Nothing is read twice, so that no list goes in a circle.
    Before(DateTime<Utc>),
    /// The same of a page that goes on with what is later.
    Behind(DateTime<Utc>),
}

impl From<At> for DateTime<Utc> {
    fn from(At(at): At) -> DateTime<Utc> {
        at
    }
}

impl From<MaybeAt> for Option<DateTime<Utc>> {
    fn from(MaybeAt(at): MaybeAt) -> Option<DateTime<Utc>> {
        at
    }
}

impl Type<Postgres> for At {
    fn type_info() -> PgTypeInfo {
        <DateTime<Utc> as Type<Postgres>>::type_info()
    }
}

impl Type<Postgres> for MaybeAt {
    fn type_info() -> PgTypeInfo {
        At::type_info()
    }
}

impl Type<Postgres> for Place {
    fn type_info() -> PgTypeInfo {
        At::type_info()
    }
}

impl PgHasArrayType for MaybeAt {
    fn array_type_info() -> PgTypeInfo {
        <DateTime<Utc> as PgHasArrayType>::array_type_info()
    }
}

impl PgHasArrayType for Place {
    fn array_type_info() -> PgTypeInfo {
        MaybeAt::array_type_info()
    }
}

impl<'r> Decode<'r, Postgres> for At {
    fn decode(value: PgValueRef<'r>) -> Result<At, BoxDynError> {
        if value.format() == PgValueFormat::Text {
            return <DateTime<Utc> as Decode<'r, Postgres>>::decode(value).map(At);
        }
        let micros = <i64 as Decode<'r, Postgres>>::decode(value)?.saturating_add(EPOCH);
        Ok(At(DateTime::from_timestamp_micros(micros.clamp(FIRST, LAST)).unwrap_or_default()))
    }
}

impl<'r> Decode<'r, Postgres> for MaybeAt {
    fn decode(value: PgValueRef<'r>) -> Result<MaybeAt, BoxDynError> {
        let at = <Option<At> as Decode<'r, Postgres>>::decode(value)?;
        Ok(MaybeAt(at.map(DateTime::from)))
    }
}

impl Encode<'_, Postgres> for Place {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let (Place::At(at) | Place::Before(at) | Place::Behind(at)) = self;
        let micros = match (self, at.timestamp_micros()) {
            (Place::At(_) | Place::Behind(_), LAST..) => i64::MAX,
            (Place::At(_) | Place::Before(_), ..=FIRST) => i64::MIN,
            (_, micros) => micros - EPOCH,
        };
        <i64 as Encode<'_, Postgres>>::encode(micros, buffer)
    }
}
