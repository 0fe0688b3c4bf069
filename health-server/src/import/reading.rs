//! What was read so far. An import that is interrupted while it reads prints this, too.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{nothing_stored::NothingStored, table::Table};

/// The numbers of what was read, for the thread that reads and for the task that prints them.
#[derive(Debug, Default)]
pub(super) struct SharedReading(Mutex<Reading>);

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// The entries of the files before.
    table: Table,
    /// The entries of the file that is being read.
    current: Table,
    /// The files of which nothing can be stored.
    pub(super) nothing_stored: NothingStored,
    /// Whether a file could not be read to its end.
    has_damage: bool,
    /// Whether the last file was read.
    is_ended: bool,
}

impl SharedReading {
    /// Counts something of the current file.
    pub(super) fn count(&self, update: impl FnOnce(&mut Table)) {
        update(&mut self.lock().current);
    }

    /// Ends a file. `remedy` is a sentence for the case that nothing in it can be stored.
    pub(super) fn end_file(&self, name: &str, is_whole: bool, remedy: Option<&'static str>) {
        let mut reading = self.lock();
        let file = std::mem::take(&mut reading.current);
        if is_whole && file.has_no_records() {
            reading.nothing_stored.note(name, &file, remedy);
        }
        reading.has_damage |= !is_whole;
        reading.table.merge(file);
    }

    /// Notes that all files were read.
    pub(super) fn end(&self) {
        self.lock().is_ended = true;
    }

    /// Returns what was read so far.
    pub(super) fn take(&self) -> Reading {
        let mut reading = std::mem::take(&mut *self.lock());
        let current = std::mem::take(&mut reading.current);
        reading.table.merge(current);
        reading
    }

    /// A panic of the thread that reads is reported by the task that waits for it.
    fn lock(&self) -> MutexGuard<'_, Reading> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading {
    /// Returns the numbers of all files.
    pub(super) fn table(&mut self) -> &mut Table {
        &mut self.table
    }

    /// Returns whether each file was read to its end.
    pub(super) fn is_whole(&self) -> bool {
        self.is_ended && !self.has_damage
    }

    /// Returns whether there is nothing left to read.
    pub(super) fn is_ended(&self) -> bool {
        self.is_ended
    }
}
