//! Batches of records: the bodies of requests.

use std::sync::Arc;

use bytes::Bytes;
use health_core::{
    UserId,
    formats::{EntryRecord, Place},
};
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;

/// The size from which a batch is full. A server stores it in a second or less, and its memory does not matter.
const BATCH_BYTES: usize = 2 << 20;

/// The longest record as JSON.
const RECORD_BYTES_MAX: usize = 1 << 10;

/// Records as NDJSON.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) body: Bytes,
    pub(super) records: u64,
    pub(super) origins: Origins,
}

/// Where the records of a batch stood, so that one that the server refuses can be named.
#[derive(Debug, Default)]
pub(super) struct Origins {
    /// The place of each record.
    places: Vec<Place>,
    /// The files, each with the index of its first record.
    files: Vec<(usize, Arc<str>)>,
}

impl Origins {
    /// Returns the file of a record and its place there.
    pub(super) fn of(&self, index: usize) -> Option<(&str, &Place)> {
        let (_, file) = self.files.iter().rev().find(|(first, _)| *first <= index)?;
        Some((file, self.places.get(index)?))
    }

    fn add(&mut self, file: &Arc<str>, place: Place) {
        if self.files.last().is_none_or(|(_, last)| !Arc::ptr_eq(last, file)) {
            self.files.push((self.places.len(), Arc::clone(file)));
        }
        self.places.push(place);
    }
}

/// The batch that is being filled, and where full ones go.
pub(super) struct Batches {
    to_server: Sender<Batch>,
    is_dry_run: bool,
    /// Whether the import ends before its files.
    stop: CancellationToken,
    body: Vec<u8>,
    records: u64,
    origins: Origins,
    /// The name of the file that is being read.
    file: Arc<str>,
    /// Where the last record stood. Several records may come from one entry.
    last_place: Option<Place>,
}

impl Batches {
    pub(super) fn new(to_server: Sender<Batch>, is_dry_run: bool, stop: CancellationToken) -> Self {
        Self {
            to_server,
            is_dry_run,
            stop,
            body: Vec::new(),
            records: 0,
            origins: Origins::default(),
            file: Arc::default(),
            last_place: None,
        }
    }

    /// Returns whether records are only counted.
    pub(super) fn is_dry_run(&self) -> bool {
        self.is_dry_run
    }

    /// Returns whether the sender does not take batches any more.
    pub(super) fn is_closed(&self) -> bool {
        !self.goes_on()()
    }

    /// Returns a function that says whether the sender still takes batches.
    pub(super) fn goes_on(&self) -> impl Fn() -> bool + Send + 'static {
        let (to_server, is_dry_run, stop) = (self.to_server.clone(), self.is_dry_run, self.stop.clone());
        move || !stop.is_cancelled() && (is_dry_run || !to_server.is_closed())
    }

    /// Begins a file, in which places have no relation to those before.
    pub(super) fn begin_file(&mut self, name: &str) {
        self.last_place = None;
        self.file = name.into();
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
                self.origins.add(&self.file, record.place.clone());
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
                origins: std::mem::take(&mut self.origins),
            };
            // If the sender does not take batches any more, it reports why.
            let _ = self.to_server.blocking_send(batch);
        }
    }
}
