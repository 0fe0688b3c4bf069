//! Passes the entries of a body to an upload.

use std::borrow::Cow;

use health_core::{
    IngestCounts, ReceiveClock, RecordFault, Rejection, UserId,
    formats::{
        ASIDE_BYTES_MAX, Entry, EntryRecord, Fault, FormatError, HealthAutoExport, HealthConnect, IgnoredCounts,
        LineProtocol, MisspeltNames, Place,
    },
};
use hyper::StatusCode;
use tokio::{task::coop::consume_budget, time::timeout};

use crate::{
    app::App,
    http::{
        auth::Caller,
        body::BodyReader,
        body_memory::BodyPermit,
        error::HttpError,
        ingest::{MAX_PAUSE_BEFORE_ENQUEUE, body_memory_exhausted, next_bytes},
        right_door::BodyStart,
        upload::{QueueFailed, Settled, Upload},
    },
};

/// A reader of a format.
pub(crate) trait EntryReader: Send {
    fn push(&mut self, bytes: &[u8]);
    fn finish(&mut self);
    fn next(&mut self, clock: &ReceiveClock) -> Result<Option<Entry>, FormatError>;
    fn bytes_aside(&self) -> usize {
        0
    }
    /// The names that look like ours and were ignored.
    fn misspelt(&self) -> Option<&MisspeltNames> {
        None
    }
    /// The remedy for a body of another kind, if the body could not be read or entries were refused.
    fn hint(start: BodyStart) -> Option<&'static str> {
        start.hint_for_json()
    }
}

/// What happened to the entries of a body.
pub(crate) struct DoorOutcome {
    pub(crate) counts: IngestCounts,
    pub(crate) rejected: u64,
    pub(crate) ignored: IgnoredCounts,
    /// The number of entries that were stored, refused or ignored.
    pub(crate) entries: u64,
    /// The refused entries. `field` is the name of the list, as the sender writes it.
    pub(crate) errors: Vec<Rejection>,
    /// The remedy for a body that looks like one of another kind.
    pub(crate) hint: Option<&'static str>,
    /// The response, if the body was not read to its end or samples may be missing.
    pub(crate) failure: Option<HttpError>,
}

/// The state of one body.
struct DoorUpload<'a> {
    upload: Upload<'a>,
    /// The user of entries that name none.
    user: Option<UserId>,
    /// The names of lists whose entries may be refused.
    lists: Vec<Cow<'static, str>>,
    ignored: IgnoredCounts,
    entries: u64,
}

/// The index of an entry in its list has this many bits of a position in the upload; the number of the list has the
/// others.
const INDEX_BITS: u32 = 48;

/// Reads a body to its end, stores its entries, and waits for their commit.
pub(crate) async fn store_entries<R: EntryReader>(
    app: &App,
    caller: &Caller,
    user: Option<UserId>,
    mut body: BodyReader<'_>,
    mut reader: R,
) -> DoorOutcome {
    let mut entries = DoorUpload {
        upload: Upload::new(app, caller),
        user,
        lists: Vec::new(),
        ignored: IgnoredCounts::default(),
        entries: 0,
    };
    let end = entries.read(app, &mut body, &mut reader).await;
    if let Some(names) = reader.misspelt() {
        app.metrics.record_misspelt(caller.attempt, caller.access.name(), names);
    }
    drop(reader);
    let hint = R::hint(body.start());
    let end = end.map_err(|error| error.with_hints(hint));
    let outcome = entries.settle(end, hint).await;
    app.metrics.record_ingest(&outcome.counts, outcome.rejected);
    app.metrics.record_ignored(caller.attempt.route, &outcome.ignored);
    outcome
}

impl DoorUpload<'_> {
    /// Reads the body to its end, or until the queue fails. In that case the upload has the reason.
    async fn read(
        &mut self,
        app: &App,
        body: &mut BodyReader<'_>,
        reader: &mut impl EntryReader,
    ) -> Result<(), HttpError> {
        let mut aside = BodyPermit::small();
        loop {
            // Decompressed bytes may be ready for a long time without a pause.
            consume_budget().await;
            let bytes = if self.upload.is_empty() {
                next_bytes(app, self.upload.caller(), body).await?
            } else {
                match timeout(MAX_PAUSE_BEFORE_ENQUEUE, next_bytes(app, self.upload.caller(), body)).await {
                    Ok(bytes) => bytes?,
                    Err(_) => match self.upload.enqueue().await {
                        Ok(()) => continue,
                        Err(QueueFailed) => return Ok(()),
                    },
                }
            };
            self.upload.update_receive_time();
            match &bytes {
                Some(bytes) => reader.push(bytes),
                None => reader.finish(),
            }
            while let Some(entry) = reader.next(self.upload.clock()).map_err(|error| unreadable(&error))? {
                self.add(entry);
                if self.upload.is_full() && self.upload.enqueue().await == Err(QueueFailed) {
                    return Ok(());
                }
            }
            if bytes.is_none() {
                return Ok(());
            }
            aside = keep_permit(app, aside, reader.bytes_aside()).await?;
        }
    }

    fn add(&mut self, entry: Entry) {
        match entry {
            Entry::Ignored { name, entries } => {
                self.ignored.add(name, entries);
                self.entries += entries;
            }
            Entry::Refused(refused) => {
                self.entries += 1;
                self.reject(&refused.place, &refused.fault);
            }
            Entry::Record(record) => {
                self.entries += 1;
                self.add_record(record);
            }
        }
    }

    fn add_record(&mut self, record: EntryRecord) {
        let place = record.place.clone();
        let Some(user) = record.user.or(self.user) else {
            let reason = "names no user: add the tag user_id, or ?user_id= to the URL, or use a token of one user";
            return self.reject(&place, &Fault::new(reason));
        };
        match record.into_record(user) {
            Ok(record) => {
                let position = self.position(&place);
                self.upload.add_parsed(position, record);
            }
            Err(fault) => self.reject(&place, &Fault::new(fault.to_string())),
        }
    }

    fn reject(&mut self, place: &Place, fault: &Fault) {
        let position = self.position(place);
        let fault = RecordFault {
            field: None,
            reason: fault.to_string(),
        };
        self.upload.reject(position, [fault]);
    }

    /// Returns the place as one number, because an upload names records by numbers.
    fn position(&mut self, place: &Place) -> u64 {
        let known = self.lists.iter().position(|list| *list == place.list);
        let list = known.unwrap_or_else(|| {
            self.lists.push(place.list.clone());
            self.lists.len() - 1
        });
        (u64::try_from(list).unwrap_or_default() << INDEX_BITS) | place.index
    }

    async fn settle(self, end: Result<(), HttpError>, hint: Option<&'static str>) -> DoorOutcome {
        let Settled {
            counts,
            rejected,
            errors,
            failure,
            ..
        } = self.upload.settle().await;
        let lists = self.lists;
        let errors: Vec<_> = errors
            .into_iter()
            .map(|rejection| {
                let list = usize::try_from(rejection.index >> INDEX_BITS).unwrap_or_default();
                Rejection {
                    index: rejection.index & ((1 << INDEX_BITS) - 1),
                    field: lists.get(list).map(|list| list.clone().into_owned()),
                    // A refusal by the upload itself names a field of records.
                    reason: rejection.field.map_or(rejection.reason.clone(), |field| {
                        format!("{field} {}", rejection.reason)
                    }),
                }
            })
            .collect();
        let failure = failure.or(end.err());
        DoorOutcome {
            failure: failure.map(|error| error.with_counts(counts, rejected).with_errors(errors.clone())),
            counts,
            rejected,
            ignored: self.ignored,
            entries: self.entries,
            errors,
            hint,
        }
    }
}

/// Returns a permit for the entries that are kept aside, or gives it back if there are none.
async fn keep_permit<'a>(app: &'a App, permit: BodyPermit<'a>, bytes: usize) -> Result<BodyPermit<'a>, HttpError> {
    if bytes == 0 {
        return Ok(BodyPermit::small());
    }
    if bytes <= permit.max_bytes {
        return Ok(permit);
    }
    let larger = app.aside_memory.acquire(bytes.min(ASIDE_BYTES_MAX), None).await;
    larger.ok_or_else(body_memory_exhausted)
}

fn unreadable(error: &FormatError) -> HttpError {
    let status = if error.is_too_large() {
        StatusCode::PAYLOAD_TOO_LARGE
    } else {
        StatusCode::BAD_REQUEST
    };
    let detail = format!(
        "The body cannot be read further: {error}. The counts say what was stored of the entries before. Sending them again \
         is harmless."
    );
    let right_door = match error {
        FormatError::OfHealthAutoExport => Some("The path of that app is /ingest/health-auto-export."),
        FormatError::OfHealthConnect => Some("The path of that app is /ingest/health-connect."),
        _ => None,
    };
    HttpError::new(status, detail).with_hints(right_door)
}

macro_rules! entry_readers {
    ($($reader:ident { $($methods:tt)* })+) => {$(
        impl EntryReader for $reader {
            fn push(&mut self, bytes: &[u8]) {
                self.push(bytes);
            }

            fn finish(&mut self) {
                self.finish();
            }

            fn next(&mut self, clock: &ReceiveClock) -> Result<Option<Entry>, FormatError> {
                self.next(clock)
            }

            $($methods)*
        }
    )+};
}
entry_readers! {
    HealthAutoExport {
        fn bytes_aside(&self) -> usize {
            self.bytes_aside()
        }
    }
    HealthConnect {}
    LineProtocol {
        fn misspelt(&self) -> Option<&MisspeltNames> {
            Some(self.misspelt())
        }

        fn hint(start: BodyStart) -> Option<&'static str> {
            start.hint_for_lines()
        }
    }
}
