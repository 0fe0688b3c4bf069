//! Sends batches, with retries while the server is away or overloaded.

use std::{collections::BTreeSet, time::Duration};

use health_core::{RecordFault, Rejection, formats::Fault};
use tokio::{
    sync::mpsc::Receiver,
    time::{Instant, sleep},
};

use super::{
    batch::Batch,
    client::{Answer, Client, PostError},
    progress::Progress,
    table::Table,
};

/// How long the first batch waits for a server. A wrong URL should be reported soon.
const FIRST_PATIENCE: Duration = Duration::from_secs(10);

/// How long later batches wait. A server that is restarted or whose database recovers is back within it.
const PATIENCE: Duration = Duration::from_mins(5);

/// The pauses between attempts: they double from the first to the last.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Why the server did not take everything, and what it took.
pub(super) struct SendFailed {
    pub(super) reason: String,
    pub(super) sent: Table,
}

/// Sends all batches, one after the other, so that later records of the same identity win.
pub(super) async fn send_all(
    mut client: Client,
    mut batches: Receiver<Batch>,
    progress: &Progress,
) -> Result<Table, SendFailed> {
    let mut sent = Table::default();
    let mut is_reached = false;
    while let Some(batch) = batches.recv().await {
        let outcome = send(&mut client, &batch, &mut sent, &mut is_reached, progress).await;
        if let Err(reason) = outcome {
            return Err(SendFailed { reason, sent });
        }
        progress.add_sent(batch.records);
    }
    Ok(sent)
}

/// Sends a batch until it is stored, and counts it.
///
/// An attempt may fail after a part of the batch was committed. The samples of that part are unchanged for the next
/// attempt, but this import has stored them.
async fn send(
    client: &mut Client,
    batch: &Batch,
    sent: &mut Table,
    is_reached: &mut bool,
    progress: &Progress,
) -> Result<(), String> {
    let mut pause = PAUSE_MIN;
    let mut stored_before = 0;
    let mut failing_since = None;
    loop {
        match client.post(batch.body.clone()).await {
            Ok(answer) => {
                *is_reached = true;
                count(&answer, stored_before, sent);
                return Ok(());
            }
            Err(PostError::Final(reason)) => {
                sent.stored += stored_before;
                return Err(format!("{reason} The table says what was stored before."));
            }
            Err(PostError::Retryable {
                reason,
                retry_after,
                counts,
                is_reached: is_reached_now,
            }) => {
                *is_reached |= is_reached_now;
                stored_before += counts.inserted + counts.updated;
                let patience = if *is_reached { PATIENCE } else { FIRST_PATIENCE };
                let reason = reason.trim_end_matches('.');
                let is_first = failing_since.is_none();
                if failing_since.get_or_insert_with(Instant::now).elapsed() + pause > patience {
                    sent.stored += stored_before;
                    return Err(format!(
                        "{reason}, for {} s. Start the import again when {} runs: nothing will be stored twice.",
                        patience.as_secs(),
                        client.url()
                    ));
                }
                if is_first {
                    progress.say(&format!(
                        "{reason}. Waiting up to {} s for the server.",
                        patience.as_secs()
                    ));
                }
                sleep(retry_after.unwrap_or(pause).max(pause)).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

fn count(answer: &Answer, stored_before: u64, sent: &mut Table) {
    let stored = answer.counts.inserted + answer.counts.updated;
    sent.stored += stored + stored_before;
    sent.unchanged += answer.counts.unchanged.saturating_sub(stored_before);
    // An answer lists a hundred faults at most, and several of one record. Each record counts under its first one.
    let mut records = BTreeSet::new();
    for Rejection { index, field, reason } in &answer.errors {
        if records.insert(*index) {
            let fault = Fault::from(RecordFault {
                field: field.clone(),
                reason: reason.clone(),
            });
            sent.refuse(fault.kind, 1);
        }
    }
    let listed = u64::try_from(records.len()).unwrap_or(u64::MAX);
    let unlisted = answer.rejected.saturating_sub(listed);
    if unlisted > 0 {
        sent.refuse("refused by the server, which lists only the first reasons", unlisted);
    }
}
