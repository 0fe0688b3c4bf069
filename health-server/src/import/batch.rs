//! Batches of records: the bodies of requests.

use bytes::Bytes;
use health_core::{
    UserId,
    formats::{EntryRecord, Place},
};
use tokio::sync::mpsc::Sender;

/// The size from which a batch is full. A server stores it in a second or less, and its memory does not matter.
const BATCH_BYTES: usize = 2 << 20;

/// The longest record as JSON.
const RECORD_BYTES_MAX: usize = 1 << 10;

/// Records as NDJSON.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) body: Bytes,
    pub(super) records: u64,
}

/// The batch that is being filled, and where full ones go.
pub(super) struct Batches {
    to_server: Sender<Batch>,
    is_dry_run: bool,
    body: Vec<u8>,
    records: u64,
    /// Where the last record stood. Several records may come from one entry.
    last_place: Option<Place>,
}

impl Batches {
    pub(super) fn new(to_server: Sender<Batch>, is_dry_run: bool) -> Self {
        Self {
            to_server,
            is_dry_run,
            body: Vec::new(),
            records: 0,
            last_place: None,
        }
    }

    /// Returns whether records are only counted.
    pub(super) fn is_dry_run(&self) -> bool {
        self.is_dry_run
    }

    /// Returns whether batches are taken no more.
    pub(super) fn is_closed(&self) -> bool {
        !self.is_dry_run && self.to_server.is_closed()
    }

    /// Returns a check whether batches are still taken.
    pub(super) fn goes_on(&self) -> impl Fn() -> bool + Send + 'static {
        let (to_server, is_dry_run) = (self.to_server.clone(), self.is_dry_run);
        move || is_dry_run || !to_server.is_closed()
    }

    /// Begins a file, in which places have no relation to those before.
    pub(super) fn begin_file(&mut self) {
        self.last_place = None;
    }

    /// Adds a record. Returns whether it is the first one of its entry.
    pub(super) fn add(&mut self, mut record: EntryRecord, user: Option<UserId>) -> bool {
        let is_new = self.last_place.as_ref() != Some(&record.place);
        if !self.is_dry_run {
            record.user = record.user.or(user);
            if self.body.capacity() == 0 {
                self.body.reserve_exact(BATCH_BYTES + RECORD_BYTES_MAX);
            }
            // A record can always be written as JSON.
            if serde_json::to_writer(&mut self.body, &record).is_ok() {
                self.body.push(b'\n');
                self.records += 1;
            }
            if self.body.len() >= BATCH_BYTES {
                self.flush();
            }
        }
        self.last_place = Some(record.place);
        is_new
    }

    /// Gives the records so far to the server. Waits while earlier batches wait.
    pub(super) fn flush(&mut self) {
        if self.records > 0 {
            let batch = Batch {
                body: std::mem::take(&mut self.body).into(),
                records: std::mem::take(&mut self.records),
            };
            // If batches are taken no more, the sender reports why.
            let _ = self.to_server.blocking_send(batch);
        }
    }
}
