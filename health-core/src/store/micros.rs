//! Times as microseconds since 1970, for the arithmetic of summaries and for statements with millions of rows.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

/// A `timestamptz` as microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Micros(pub(crate) i64);

/// PostgreSQL's zero point, 2000-01-01T00:00:00Z, in microseconds since 1970.
///
/// The binary form of a `timestamptz` counts microseconds from this moment (PostgreSQL: `POSTGRES_EPOCH_JDATE`).
const POSTGRES_ZERO_MICROS: i64 = 946_684_800_000_000;

impl Micros {
    /// Returns PostgreSQL's binary form of the time.
    pub(crate) const fn to_postgres(self) -> i64 {
        self.0 - POSTGRES_ZERO_MICROS
    }

    /// Reads PostgreSQL's binary form. `infinity` becomes the latest time that fits, `-infinity` a
    /// time about 292 000 years before 1970.
    pub(crate) const fn from_postgres(micros: i64) -> Self {
        Self(micros.saturating_add(POSTGRES_ZERO_MICROS))
    }
}

impl<'a> FromSql<'a> for Micros {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self::from_postgres(i64::from_be_bytes(raw.try_into()?)))
    }

    accepts!(TIMESTAMPTZ);
}

impl ToSql for Micros {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64(self.to_postgres());
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}
