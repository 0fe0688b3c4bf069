//! Reads all files of an import into batches, and counts what becomes of their entries.

use std::{
    borrow::Cow,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use health_core::{
    Record, UserId,
    formats::{
        Damage, Entry, EntryRecord, FileOptions, FitEntry, fitbit_kind, read_apple, read_csv, read_fit, read_fitbit,
        read_health_auto_export, read_ndjson, read_tcx, read_tcx_devices,
    },
};
use zip::{ZipArchive, result::ZipError};

use super::{
    archive::{ArchiveEntry, is_archive},
    batch::Batches,
    input::{Reopen, WholeFile, open_unpacked},
    progress::Progress,
    recognise::{Format, START_BYTES, remedy},
    table::{Table, shown},
};

/// The kind under which unknown entries of an archive are ignored.
const OTHER_FILE: &str = "other file in the archive";

/// What an import is told about a file that it does not know.
const UNKNOWN: &str =
    "is of no format that import reads: FIT, Apple Health, TCX, Health Auto Export, Fitbit, NDJSON or CSV";

/// The reader of all files.
pub(super) struct FileReader {
    pub(super) options: FileOptions,
    pub(super) batches: Batches,
    pub(super) progress: Arc<Progress>,
}

/// Why a file was not read to its end.
enum FileError {
    Unknown,
    /// It is nearly of a format; what to do about it.
    Nearly(&'static str),
    Empty,
    Directory,
    /// It is an archive, whose entries are read one by one.
    Archive,
    Damaged(Damage),
    /// The server takes no more records, which the sender reports.
    Stopped,
}

impl From<Damage> for FileError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        Self::Damaged(error.into())
    }
}

impl FileReader {
    /// Reads the files. Returns the numbers of their entries, and whether each file was read to its end.
    pub(super) fn read_all(mut self, files: &[PathBuf]) -> (Table, bool) {
        let (mut table, mut is_whole) = (Table::default(), true);
        for path in files {
            let mut file = OneFile {
                reader: &mut self,
                table: &mut table,
                name: path.display().to_string(),
                is_whole: true,
            };
            if let Err(error) = file.read(path) {
                file.report(&error);
            }
            is_whole &= file.is_whole;
            if self.batches.is_closed() {
                return (table, false);
            }
        }
        self.batches.flush();
        (table, is_whole)
    }
}

/// Returns the first file whose records need a user that it cannot name.
pub(super) fn file_without_user(files: &[PathBuf]) -> Option<&Path> {
    let needs_user = |path: &Path| {
        // What cannot be read is reported later. A pipe can be read only once.
        let mut file = File::open(path)
            .ok()
            .filter(|file| file.metadata().is_ok_and(|file| file.is_file()))?;
        let (start, _) = open_unpacked(&mut file, START_BYTES).ok()?;
        let names_users = match Format::of(&start, false) {
            Some(format) => format.names_users(),
            None => !is_archive(&start),
        };
        (!names_users).then_some(())
    };
    files
        .iter()
        .map(PathBuf::as_path)
        .find(|path| needs_user(path).is_some())
}

/// The reading of one file.
struct OneFile<'a> {
    reader: &'a mut FileReader,
    table: &'a mut Table,
    /// The name for messages.
    name: String,
    /// Whether all of the file was read so far.
    is_whole: bool,
}

impl OneFile<'_> {
    fn read(&mut self, path: &Path) -> Result<(), FileError> {
        let file = File::open(path)?;
        if file.metadata()?.is_dir() {
            return Err(FileError::Directory);
        }
        let goes_on = self.reader.batches.goes_on();
        let mut file = WholeFile {
            file,
            progress: Arc::clone(&self.reader.progress),
            counted: 0,
            goes_on: Box::new(goes_on),
        };
        let file_name = path.file_name().unwrap_or_default().to_string_lossy();
        match self.read_input(&mut file, &file_name, false) {
            Err(FileError::Archive) => self.read_archive(file, path),
            end => end,
        }
    }

    fn read_archive(&mut self, file: WholeFile, path: &Path) -> Result<(), FileError> {
        let damaged = |error: ZipError| Damage::Malformed(format!("the archive cannot be read: {error}"));
        let mut archive = ZipArchive::new(file).map_err(damaged)?;
        let mut has_files = false;
        for index in 0..archive.len() {
            let entry_name = match archive.by_index_raw(index) {
                Ok(entry) if entry.is_dir() => continue,
                Ok(entry) => entry.name().map_or_else(|_| format!("entry {index}"), Cow::into_owned),
                Err(error) => return Err(damaged(error).into()),
            };
            has_files = true;
            self.name = format!("{}: {entry_name}", path.display());
            let file_name = entry_name.rsplit('/').next().unwrap_or_default();
            let mut entry = ArchiveEntry {
                archive: &mut archive,
                index,
            };
            match self.read_input(&mut entry, file_name, true) {
                Ok(()) => {}
                Err(FileError::Unknown | FileError::Nearly(_) | FileError::Archive | FileError::Empty) => {
                    self.table.read += 1;
                    self.table.ignore(OTHER_FILE, 1);
                }
                Err(FileError::Stopped) => return Err(FileError::Stopped),
                Err(error) => self.report(&error),
            }
        }
        if has_files { Ok(()) } else { Err(FileError::Empty) }
    }

    fn read_input(&mut self, input: &mut dyn Reopen, file_name: &str, is_in_archive: bool) -> Result<(), FileError> {
        let (start, mut bytes) = open_unpacked(input, START_BYTES)?;
        let format = match Format::of(&start, is_in_archive) {
            Some(format) => format,
            None if start.is_empty() => return Err(FileError::Empty),
            None if is_archive(&start) => return Err(FileError::Archive),
            None => return Err(remedy(&start).map_or(FileError::Unknown, FileError::Nearly)),
        };
        let FileReader { options, batches, .. } = &mut *self.reader;
        batches.begin_file();
        let (table, user) = (&mut *self.table, options.user);
        let end = match format {
            Format::Fit => read_fit(bytes, options, &mut |entry| match entry {
                FitEntry::Entry(entry) => take(entry, table, batches, user),
                FitEntry::PartOfAnother => table.read += 1,
            }),
            Format::Apple => read_apple(bytes, options, &mut |entry| take(entry, table, batches, user)),
            Format::Tcx => {
                drop(bytes);
                let devices = read_tcx_devices(open_unpacked(input, 0)?.1);
                bytes = open_unpacked(input, 0)?.1;
                read_tcx(bytes, &devices, options, &mut |entry| take(entry, table, batches, user))
            }
            Format::Fitbit => read_fitbit(bytes, fitbit_kind(file_name), options, &mut |entry| {
                take(entry, table, batches, user);
            }),
            Format::Ndjson => read_ndjson(bytes, options, &mut |entry| take(entry, table, batches, user)),
            Format::Csv => read_csv(bytes, options, &mut |entry| take(entry, table, batches, user)),
            Format::HealthAutoExport => {
                read_health_auto_export(bytes, options, &mut |entry| take(entry, table, batches, user))
            }
        };
        match end {
            Err(_) if self.reader.batches.is_closed() => Err(FileError::Stopped),
            end => Ok(end?),
        }
    }

    /// Says why the file was not read to its end.
    fn report(&mut self, error: &FileError) {
        self.is_whole = false;
        let reason = match error {
            FileError::Stopped => return,
            FileError::Unknown | FileError::Archive => UNKNOWN.to_owned(),
            FileError::Nearly(remedy) => (*remedy).to_owned(),
            FileError::Empty => "is empty".to_owned(),
            FileError::Directory => "is a directory: name the files in it".to_owned(),
            FileError::Damaged(damage) => damage.to_string(),
        };
        let name = shown(&self.name);
        self.reader.progress.say(&format!("{name} {reason}."));
    }
}

/// Counts an entry. A record goes into a batch.
fn take(entry: Entry, table: &mut Table, batches: &mut Batches, user: Option<UserId>) {
    match entry {
        Entry::Record(record) => {
            if batches.is_dry_run() {
                table.to_store += samples(&record, user);
            }
            if batches.add(record, user) {
                table.read += 1;
            }
        }
        Entry::Refused(refused) => {
            table.read += 1;
            table.refuse(refused.fault.kind, 1);
        }
        Entry::Ignored { name, entries } => {
            table.read += entries;
            table.ignore(name, entries);
        }
    }
}

/// Returns how many samples a record becomes.
fn samples(record: &EntryRecord, user: Option<UserId>) -> u64 {
    let Some(user) = record.user.or(user) else { return 1 };
    match record.clone().into_record(user) {
        Ok(Record::Interval(interval)) => interval.parts().map(|_| 1).sum(),
        _ => 1,
    }
}
