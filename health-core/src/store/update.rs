//! Updates the rows of a batch that differ from what is stored.

use futures_util::future::try_join_all;
use tokio_postgres::{Statement, types::ToSql};

use crate::{
    batch::Update,
    store::{
        client::SessionClient,
        columns::{ReadingColumns, SampleColumns, at, distinct},
        connection::Session,
        look_up::StoredReadings,
        shards::by_shard,
        tables::Tables,
        write_error::WriteError,
    },
};

/// Changes rows that still hold the values that were looked up.
///
/// The `ctid` from the look-up finds each row without a second search of the key. A row that is not at that location
/// any more, or has other values, is not changed, so the count of changed rows is too low and the caller notices. A
/// changed row gets an id of this batch, by which the feed knows the commit that wrote it.
const UPDATE_LOCAL: &str = "UPDATE health_metrics m \
     SET id = n.id, heart_rate = n.heart_rate, steps = n.steps, calories = n.calories \
     FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::double precision[], $5::integer[], $6::double precision[], \
     $7::text[], $8::double precision[], $9::integer[], $10::double precision[], $11::tid[]) \
     AS n (id, user_id, timestamp, heart_rate, steps, calories, source, old_heart_rate, old_steps, old_calories, location) \
     WHERE m.ctid = n.location AND m.user_id = n.user_id AND m.timestamp = n.timestamp AND m.source = n.source \
     AND m.heart_rate IS NOT DISTINCT FROM n.old_heart_rate AND m.steps IS NOT DISTINCT FROM n.old_steps \
     AND m.calories IS NOT DISTINCT FROM n.old_calories";

/// The same by key, because a `ctid` means nothing outside of its shard, and for the users of one shard.
const UPDATE_OF_SHARD: &str = "UPDATE health_metrics m \
     SET id = n.id, heart_rate = n.heart_rate, steps = n.steps, calories = n.calories \
     FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::double precision[], $5::integer[], $6::double precision[], \
     $7::text[], $8::double precision[], $9::integer[], $10::double precision[]) \
     AS n (id, user_id, timestamp, heart_rate, steps, calories, source, old_heart_rate, old_steps, old_calories) \
     WHERE m.user_id = ANY($11::bigint[]) \
     AND m.user_id = n.user_id AND m.timestamp = n.timestamp AND m.source = n.source \
     AND m.heart_rate IS NOT DISTINCT FROM n.old_heart_rate AND m.steps IS NOT DISTINCT FROM n.old_steps \
     AND m.calories IS NOT DISTINCT FROM n.old_calories";

/// Updates the rows that differ, and gives them ids in the order of `updates`.
///
/// # Errors
/// [`WriteError::Conflict`] if another server has changed one of them.
pub(super) async fn update(
    session: &mut Session,
    first_id: i64,
    updates: &[Update],
    stored: &[Option<StoredReadings>],
) -> Result<(), WriteError> {
    if updates.is_empty() {
        return Ok(());
    }
    let changed = match session.tables() {
        Tables::Local => {
            let statement = session.prepare(UPDATE_LOCAL).await?;
            let location = |update: &Update| stored.get(update.index).copied().flatten().and_then(|row| row.ctid);
            let locations: Vec<_> = updates.iter().map(location).collect();
            let updates: Vec<_> = (first_id..).zip(updates).collect();
            execute(session.client(), &statement, &updates, &locations).await?
        }
        Tables::Distributed => update_by_shard(session, first_id, updates).await?,
    };
    if usize::try_from(changed) == Ok(updates.len()) {
        Ok(())
    } else {
        Err(WriteError::Conflict)
    }
}

/// Updates rows of distributed tables, shard by shard, and returns how many were changed.
async fn update_by_shard(
    session: &mut Session,
    first_id: i64,
    updates: &[Update],
) -> Result<u64, tokio_postgres::Error> {
    let numbered: Vec<_> = (first_id..).zip(updates).collect();
    let users: Vec<_> = updates.iter().map(|update| update.after.user_id().get()).collect();
    let groups = by_shard(session, &users).await?;
    let statement = session.prepare(UPDATE_OF_SHARD).await?;
    let client = session.client();
    let of_shards: Vec<OfShard<'_>> = groups
        .iter()
        .map(|group| OfShard {
            users: distinct(&at(&users, group)),
            updates: at(&numbered, group),
        })
        .collect();
    let mut updating = Vec::new();
    for OfShard { users, updates } in &of_shards {
        updating.push(execute(client, &statement, updates, users));
    }
    Ok(try_join_all(updating).await?.iter().sum())
}

/// The updates of the users of one shard, and the ids that their rows get.
struct OfShard<'a> {
    users: Vec<i64>,
    updates: Vec<(i64, &'a Update)>,
}

/// Runs one of the statements. `which` is its last parameter: the locations of the rows, or the users.
async fn execute(
    client: &SessionClient,
    statement: &Statement,
    updates: &[(i64, &Update)],
    which: &(dyn ToSql + Sync),
) -> Result<u64, tokio_postgres::Error> {
    let ids = updates.iter().map(|(id, _)| *id);
    let new = SampleColumns::new(ids, updates.iter().map(|(_, update)| &update.after));
    let mut old = ReadingColumns::default();
    for (_, update) in updates {
        old.push(update.before);
    }
    let [id, user_id, timestamp, heart_rate, steps, calories, source] = new.params();
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
    client.execute(statement, &params).await
}
