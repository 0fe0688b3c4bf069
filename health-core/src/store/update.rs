//! Updates the rows of a batch that differ from what is stored.

use tokio_postgres::types::ToSql;

use crate::{
    batch::Update,
    store::{
        columns::{ReadingColumns, SampleColumns, distinct},
        connection::Session,
        look_up::StoredReadings,
        tables::Tables,
        write_error::WriteError,
    },
};

/// Changes rows that still hold the values that were looked up.
///
/// The `ctid` from the look-up finds each row without a second search of the key. A row that is no longer at that location,
/// or holds other values, is not changed, so the count of changed rows is too low and the caller notices. The row gets an
/// id of this batch, because the feed finds changed rows by id.
const UPDATE_LOCAL: &str = "UPDATE health_metrics m \
     SET id = n.id, heart_rate = n.heart_rate, steps = n.steps, calories = n.calories \
     FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::double precision[], $5::integer[], $6::double precision[], \
     $7::text[], $8::double precision[], $9::integer[], $10::double precision[], $11::tid[]) \
     AS n (id, user_id, timestamp, heart_rate, steps, calories, source, old_heart_rate, old_steps, old_calories, location) \
     WHERE m.ctid = n.location AND m.user_id = n.user_id AND m.timestamp = n.timestamp AND m.source = n.source \
     AND m.heart_rate IS NOT DISTINCT FROM n.old_heart_rate AND m.steps IS NOT DISTINCT FROM n.old_steps \
     AND m.calories IS NOT DISTINCT FROM n.old_calories";

/// The same by key, because a `ctid` means nothing outside of its shard.
const UPDATE: &str = "UPDATE health_metrics m \
     SET id = n.id, heart_rate = n.heart_rate, steps = n.steps, calories = n.calories \
     FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::double precision[], $5::integer[], $6::double precision[], \
     $7::text[], $8::double precision[], $9::integer[], $10::double precision[]) \
     AS n (id, user_id, timestamp, heart_rate, steps, calories, source, old_heart_rate, old_steps, old_calories) \
     WHERE m.user_id = ANY($11::bigint[]) \
     AND m.user_id = n.user_id AND m.timestamp = n.timestamp AND m.source = n.source \
     AND m.heart_rate IS NOT DISTINCT FROM n.old_heart_rate AND m.steps IS NOT DISTINCT FROM n.old_steps \
     AND m.calories IS NOT DISTINCT FROM n.old_calories";

/// Updates the rows that differ; [`WriteError::Conflict`] if another server has changed one of them.
pub(super) async fn update(
    session: &mut Session,
    first_id: i64,
    updates: &[Update],
    stored: &[Option<StoredReadings>],
) -> Result<(), WriteError> {
    if updates.is_empty() {
        return Ok(());
    }
    let new = SampleColumns::new(first_id, updates.iter().map(|update| &update.after));
    let mut old = ReadingColumns::default();
    for update in updates {
        old.push(update.before);
    }
    let tables = session.tables();
    let statement = session.prepare(tables.shape(UPDATE_LOCAL, UPDATE)).await?;
    let [id, user_id, timestamp, heart_rate, steps, calories, source] = new.params();
    let changed = {
        let location = |update: &Update| stored.get(update.index).copied().flatten().and_then(|row| row.ctid);
        let locations: Vec<_> = updates.iter().map(location).collect();
        let users = distinct(new.users());
        let which: &(dyn ToSql + Sync) = match tables {
            Tables::Local => &locations,
            Tables::Distributed => &users,
        };
        let params: [&(dyn ToSql + Sync); 11] = [
            id,
            user_id,
            timestamp,
            heart_rate,
            steps,
            calories,
            source,
            &old.heart_rate,
            &old.steps,
            &old.calories,
            which,
        ];
        session.client().execute(&statement, &params).await?
    };
    if usize::try_from(changed) == Ok(updates.len()) {
        Ok(())
    } else {
        Err(WriteError::Conflict)
    }
}
