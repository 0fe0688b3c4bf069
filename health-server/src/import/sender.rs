//! Sends batches, with retries while the server is away or overloaded.

use std::{collections::BTreeSet, pin::pin};

use health_core::{RecordFault, Rejection, formats::Fault};
use tokio::{
    select,
    sync::mpsc::Receiver,
    time::{Instant, sleep},
};

use super::{
    batch::Batch,
    client::{Answer, Client, PostError},
    patience::{FIRST_PATIENCE, PATIENCE, Pauses},
    progress::Progress,
    stop::Stop,
    table::Table,
    token_remedy::{may_not_write, users},
};

/// Why the server did not take everything, and what it took.
pub(super) struct SendFailed {
    pub(super) reason: String,
    pub(super) sent: Table,
}

/// Why a batch was not sent.
enum Unsent {
    /// The server refuses it, or is away; with a sentence about what to do.
    Failed { reason: String, remedy: String },
    /// The user ends the import.
    Interrupted,
    /// The user ends it while the server has a request that it has not answered.
    Unanswered,
}

/// What a user does after an interrupt.
const AGAIN: &str = "Run the same command again to go on: nothing is stored twice.";

/// Sends all batches, one after the other, so that later records of the same identity win.
pub(super) async fn send_all(
    client: Client,
    mut batches: Receiver<Batch>,
    progress: &Progress,
    stop: &Stop,
) -> Result<Table, SendFailed> {
    let mut sender = Sender {
        client,
        progress,
        stop,
        sent: Table::default(),
        is_reached: false,
    };
    loop {
        let batch = select! {
            biased;
            () = stop.wanted() => return Err(sender.failed(Unsent::Interrupted)),
            batch = batches.recv() => batch,
        };
        let Some(batch) = batch else { return Ok(sender.sent) };
        if let Err(unsent) = sender.send(&batch).await {
            return Err(sender.failed(unsent));
        }
        progress.add_sent(batch.records);
    }
}

struct Sender<'a> {
    client: Client,
    progress: &'a Progress,
    stop: &'a Stop,
    /// What the server stored and refused.
    sent: Table,
    /// Whether something accepted a connection.
    is_reached: bool,
}

impl Sender<'_> {
    /// Sends a batch until it is stored, and counts it.
    ///
    /// An attempt may fail after a part of the batch was committed. The samples of that part are unchanged for the next
    /// attempt, but this import has stored them.
    async fn send(&mut self, batch: &Batch) -> Result<(), Unsent> {
        let mut pauses = Pauses::new();
        let mut stored_before = 0;
        let mut failing_since = None;
        loop {
            let error = match self.post(batch).await.ok_or(Unsent::Unanswered)? {
                Ok(answer) => {
                    self.is_reached = true;
                    count(&answer, stored_before, batch, &mut self.sent);
                    return Ok(());
                }
                Err(error) => error,
            };
            let (reason, retry_after) = match error {
                PostError::Final(reason) => {
                    self.sent.stored += stored_before;
                    let remedy = String::new();
                    return Err(Unsent::Failed { reason, remedy });
                }
                PostError::Retryable {
                    reason,
                    retry_after,
                    counts,
                    is_reached,
                } => {
                    self.is_reached |= is_reached;
                    stored_before += counts.inserted + counts.updated;
                    (reason.trim_end_matches('.').to_owned(), retry_after)
                }
            };
            let patience = if self.is_reached { PATIENCE } else { FIRST_PATIENCE };
            let is_first = failing_since.is_none();
            let elapsed = failing_since.get_or_insert_with(Instant::now).elapsed();
            let Some(pause) = pauses.next(elapsed, patience, retry_after) else {
                self.sent.stored += stored_before;
                let url = self.client.url();
                return Err(Unsent::Failed {
                    reason: format!("{reason}, for {} s.", patience.as_secs()),
                    remedy: format!(" Start the import again when {url} runs: nothing is stored twice."),
                });
            };
            if is_first {
                let seconds = patience.as_secs();
                self.progress
                    .say(&format!("{reason}. Waiting up to {seconds} s for the server."));
            }
            select! {
                biased;
                () = self.stop.wanted() => {
                    self.sent.stored += stored_before;
                    return Err(Unsent::Interrupted);
                }
                () = sleep(pause) => {}
            }
        }
    }

    /// Posts a batch. Returns `None` if the user does not wait for the answer.
    async fn post(&mut self, batch: &Batch) -> Option<Result<Answer, PostError>> {
        let mut post = pin!(self.client.post(batch.body.clone()));
        select! {
            biased;
            answer = &mut post => return Some(answer),
            () = self.stop.wanted() => {}
        }
        self.progress
            .say("Interrupted. Waiting for the server's last answer; Ctrl-C again ends without it.");
        select! {
            biased;
            answer = post => Some(answer),
            () = self.stop.wanted_at_once() => None,
        }
    }

    fn failed(self, unsent: Unsent) -> SendFailed {
        let stored = if self.sent.stored + self.sent.unchanged > 0 {
            "The table says what was stored before."
        } else {
            "Nothing was stored."
        };
        let reason = match unsent {
            Unsent::Failed { reason, remedy } => format!("{reason} {stored}{remedy}"),
            Unsent::Interrupted => format!("Interrupted. {stored} {AGAIN}"),
            Unsent::Unanswered => format!(
                "Interrupted before the server answered the last request: it may have stored more than the table says. {AGAIN}"
            ),
        };
        SendFailed {
            reason,
            sent: self.sent,
        }
    }
}

fn count(answer: &Answer, stored_before: u64, batch: &Batch, sent: &mut Table) {
    let stored = answer.counts.inserted + answer.counts.updated;
    sent.stored += stored + stored_before;
    sent.unchanged += answer.counts.unchanged.saturating_sub(stored_before);
    // An answer lists a hundred faults at most, and several of one record. Each record counts under its first one.
    let mut records = BTreeSet::new();
    for rejection in &answer.errors {
        if records.insert(rejection.index) {
            let fault = Fault::from(RecordFault {
                field: rejection.field.clone(),
                reason: rejection.reason.clone(),
            });
            sent.refuse_one(fault.kind, || refusal(rejection, &fault.reason, batch));
        }
    }
    let listed = u64::try_from(records.len()).unwrap_or(u64::MAX);
    let unlisted = answer.rejected.saturating_sub(listed);
    if unlisted > 0 {
        sent.refuse("refused by the server, which lists only the first reasons", unlisted);
    }
}

/// Returns a sentence about a record that the server refuses.
fn refusal(rejection: &Rejection, reason: &str, batch: &Batch) -> String {
    let index = usize::try_from(rejection.index).unwrap_or(usize::MAX);
    let record = batch.body.split(|byte| *byte == b'\n').nth(index).unwrap_or_default();
    let place = match batch.origins.of(index) {
        Some((file, place)) => format!("{file}: {place}"),
        None => format!("record number {} of a request", rejection.index + 1),
    };
    let remedy = match (rejection.field.as_deref(), users(record)) {
        // The values have been checked, so a refused user is one that the token may not write.
        (Some("user_id"), users) if !users.is_empty() => format!(". {}", may_not_write(&users)),
        _ => String::new(),
    };
    format!("{place} is refused by the server: {reason}{remedy}")
}
