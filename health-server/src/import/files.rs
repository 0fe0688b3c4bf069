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
        Damage, Entry, EntryRecord, FileOptions, FitEntry, Refused, fitbit_kind, read_apple, read_csv, read_fit,
        read_fitbit, read_health_auto_export, read_ndjson, read_tcx, read_tcx_devices,
    },
};
use zip::{ZipArchive, result::ZipError};

use super::{
    archive::{ArchiveEntry, is_archive},
    batch::Batches,
    input::{Reopen, WholeFile, open_unpacked},
    progress::Progress,
    reading::SharedReading,
    recognise::{Format, START_BYTES},
    remedy::remedy,
    table::shown,
};

/// The kind under which unknown entries of an archive are ignored.
const OTHER_FILE: &str = "other file in the archive";

/// What an import is told about a file that it does not know.
const UNKNOWN: &str = "is of no format that import reads: FIT, Apple Health, TCX, Health Auto Export, Fitbit, NDJSON or CSV. \
    docs/import.md says which file of each app to export";

/// Kinds of files of a Fitbit takeout that have the form of steps, but are none.
const FITBIT_KINDS: [&str; 9] = [
    "altitude",
    "calories",
    "distance",
    "lightly_active_minutes",
    "moderately_active_minutes",
    "resting_heart_rate",
    "sedentary_minutes",
    "time_in_heart_rate_zones",
    "very_active_minutes",
];

/// What to do about a file of Fitbit that lost its name.
const RENAMED: &str =
    "Only the name tells the kind of a Fitbit file: if this one has steps, rename it to steps-DATE.json.";

/// The reader of all files.
pub(super) struct FileReader {
    pub(super) options: FileOptions,
    pub(super) batches: Batches,
    pub(super) progress: Arc<Progress>,
    pub(super) reading: Arc<SharedReading>,
}

/// Why a file was not read to its end.
enum FileError {
    Unknown,
    /// It is nearly of a format; what to do about it.
    Nearly(Cow<'static, str>),
    Empty,
    Directory,
    /// It is an archive, whose entries are read one by one.
    Archive,
    /// It is an archive whose list of files cannot be read.
    DamagedArchive,
    /// It is an archive without a file that import reads.
    NothingKnown {
        files: u64,
        /// An archive in it.
        inner: Option<String>,
    },
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
    /// Reads the files, and counts their entries in `reading`.
    pub(super) fn read_all(mut self, files: &[PathBuf]) {
        for path in files {
            let mut file = OneFile {
                reader: &mut self,
                name: path.display().to_string(),
                is_whole: true,
                is_known: false,
                remedy: None,
            };
            if let Err(error) = file.read(path) {
                file.report(&error);
            }
            let (is_whole, remedy) = (file.is_whole, file.remedy);
            if self.batches.is_closed() {
                return;
            }
            self.reading
                .end_file(&shown(path.display().to_string()), is_whole, remedy);
        }
        self.batches.flush();
        self.reading.end();
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
            Some(format) => format.names_users(&start),
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
    /// The name for messages.
    name: String,
    /// Whether all of the file was read so far.
    is_whole: bool,
    /// Whether something in it is of a format that import reads.
    is_known: bool,
    /// What to do if nothing in it can be stored.
    remedy: Option<&'static str>,
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
        let mut archive = ZipArchive::new(file).map_err(archive_error)?;
        let mut others = OtherFiles::default();
        let mut has_files = false;
        for index in 0..archive.len() {
            let entry_name = match archive.by_index_raw(index) {
                Ok(entry) if entry.is_dir() => continue,
                Ok(entry) => entry.name().map_or_else(|_| format!("entry {index}"), Cow::into_owned),
                Err(error) => return Err(archive_error(error)),
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
                Err(FileError::Stopped) => return Err(FileError::Stopped),
                Err(FileError::Archive) => others.add(self, Some(&entry_name)),
                Err(FileError::Unknown | FileError::Nearly(_) | FileError::Empty) => others.add(self, None),
                Err(error) => self.report(&error),
            }
        }
        self.name = path.display().to_string();
        match others {
            _ if !has_files => Err(FileError::Empty),
            OtherFiles { files, inner, .. } if !self.is_known && self.is_whole => {
                Err(FileError::NothingKnown { files, inner })
            }
            others => {
                others.report(self);
                Ok(())
            }
        }
    }

    fn read_input(&mut self, input: &mut dyn Reopen, file_name: &str, is_in_archive: bool) -> Result<(), FileError> {
        let (start, mut bytes) = open_unpacked(input, START_BYTES)?;
        let format = match Format::of(&start, is_in_archive) {
            Some(format) => format,
            None if start.is_empty() => return Err(FileError::Empty),
            None if is_archive(&start) => return Err(FileError::Archive),
            None => return Err(remedy(&start).map_or(FileError::Unknown, FileError::Nearly)),
        };
        self.is_known = true;
        if format == Format::Fitbit && !is_in_archive && !FITBIT_KINDS.contains(&fitbit_kind(file_name)) {
            self.remedy = Some(RENAMED);
        }
        let FileReader {
            options,
            batches,
            reading,
            ..
        } = &mut *self.reader;
        batches.begin_file(&self.name);
        let mut take = |entry| take(entry, &self.name, reading, batches, options.user);
        let end = match format {
            Format::Fit => read_fit(bytes, options, &mut |entry| match entry {
                FitEntry::Entry(entry) => take(entry),
                FitEntry::PartOfAnother => reading.count(|table| table.read += 1),
            }),
            Format::Apple => read_apple(bytes, options, &mut take),
            Format::Tcx => {
                drop(bytes);
                let devices = read_tcx_devices(open_unpacked(input, 0)?.1);
                bytes = open_unpacked(input, 0)?.1;
                read_tcx(bytes, &devices, options, &mut take)
            }
            Format::Fitbit => read_fitbit(bytes, fitbit_kind(file_name), options, &mut take),
            Format::Ndjson => read_ndjson(bytes, options, &mut take),
            Format::Csv => read_csv(bytes, options, &mut take),
            Format::HealthAutoExport => read_health_auto_export(bytes, options, &mut take),
        };
        match end {
            Err(_) if self.reader.batches.is_closed() => Err(FileError::Stopped),
            end => Ok(end?),
        }
    }

    /// Says why the file was not read to its end.
    fn report(&mut self, error: &FileError) {
        self.is_whole = false;
        // The sender reports why the import ends; it is no fault of the file.
        if self.reader.batches.is_closed() {
            return;
        }
        let reason = match error {
            FileError::Stopped => return,
            FileError::Unknown | FileError::Archive => UNKNOWN.to_owned(),
            FileError::Nearly(remedy) => remedy.clone().into_owned(),
            FileError::Empty => "is empty. Export it again, or copy it again from its device or app".to_owned(),
            FileError::Directory => "is a directory. Name the files in it that you want to import".to_owned(),
            FileError::DamagedArchive => {
                "is no whole ZIP archive: its list of files is missing or damaged. Download or copy it again".to_owned()
            }
            FileError::NothingKnown { files, inner } => nothing_known(*files, inner.as_deref()),
            FileError::Damaged(damage) => damage.to_string(),
        };
        let name = shown(&self.name);
        self.reader.progress.say(&format!("{name} {}.", shown(reason)));
    }
}

/// The files of an archive that are of no format that import reads.
#[derive(Default)]
struct OtherFiles {
    files: u64,
    /// The first archive among them, and how many others follow.
    inner: Option<String>,
    more_inner: u64,
}

impl OtherFiles {
    fn add(&mut self, file: &OneFile<'_>, archive: Option<&str>) {
        self.files += 1;
        match (archive, &self.inner) {
            (Some(name), None) => self.inner = Some(name.to_owned()),
            (Some(_), Some(_)) => self.more_inner += 1,
            (None, _) => {}
        }
        file.reader.reading.count(|table| {
            table.read += 1;
            table.ignore(OTHER_FILE, 1);
        });
    }

    /// Says that archives in the archive were not read: they may have records.
    fn report(&self, file: &OneFile<'_>) {
        let Some(inner) = &self.inner else { return };
        let more = match self.more_inner {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        let sentence = format!(
            "{}: {inner}{more} is an archive in the archive, which was not read. Unpack the outer one, and import the inner one.",
            file.name
        );
        file.reader.progress.say(&shown(sentence));
    }
}

fn nothing_known(files: u64, inner: Option<&str>) -> String {
    let files = match files {
        1 => "its only file is".to_owned(),
        files => format!("its {files} files are"),
    };
    match inner {
        Some(inner) => format!(
            "has nothing that import reads: {files} of other formats. {inner} is an archive in the archive: unpack the outer \
             one, and import the inner one"
        ),
        None => format!(
            "has nothing that import reads: {files} of other formats. docs/import.md says which file of each app to export"
        ),
    }
}

fn archive_error(error: ZipError) -> FileError {
    match error {
        ZipError::Io(error) => error.into(),
        ZipError::UnsupportedArchive(reason) => io::Error::new(io::ErrorKind::Unsupported, reason).into(),
        _ => FileError::DamagedArchive,
    }
}

/// Counts an entry of a file. A record goes into a batch.
fn take(entry: Entry, file: &str, reading: &SharedReading, batches: &mut Batches, user: Option<UserId>) {
    match entry {
        Entry::Record(record) => {
            let to_store = if batches.is_dry_run() {
                samples(&record, user)
            } else {
                0
            };
            // This may wait for the server, so it comes before the lock.
            let is_new = batches.add(record, user);
            reading.count(|table| {
                table.to_store += to_store;
                table.read += u64::from(is_new);
            });
        }
        Entry::Refused(Refused { place, fault }) => reading.count(|table| {
            table.read += 1;
            let reason = fault.reason;
            table.refuse_one(fault.kind, || format!("{file}: {place} is refused: {reason}"));
        }),
        Entry::Ignored { name, entries } => reading.count(|table| {
            table.read += entries;
            table.ignore(name, entries);
        }),
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
