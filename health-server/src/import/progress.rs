//! The progress of an import on a terminal: the share that was read, the rate, and the time that is left.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the line is drawn if nothing else happens.
const REDRAW: Duration = Duration::from_millis(500);

/// The progress of an import. It draws only if stderr is a terminal.
pub(super) struct Progress {
    bar: ProgressBar,
    records: AtomicU64,
}

impl Progress {
    /// Begins with these files.
    pub(super) fn new(files: &[PathBuf]) -> Arc<Self> {
        let sizes = files.iter().filter_map(|file| std::fs::metadata(file).ok());
        let bytes = sizes.filter(std::fs::Metadata::is_file).map(|file| file.len()).sum();
        let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
        let template = "{percent:>3} % of {total_bytes}, {bytes_per_sec}, {eta} left, {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message("0 records sent");
        if io::stderr().is_terminal() {
            bar.enable_steady_tick(REDRAW);
        }
        Arc::new(Self {
            bar,
            records: AtomicU64::new(0),
        })
    }

    /// Notes that bytes of a file were read.
    pub(super) fn add_read(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// Notes that bytes are read a second time.
    pub(super) fn take_back(&self, bytes: u64) {
        self.bar.dec(bytes);
    }

    /// Notes that records were stored.
    pub(super) fn add_sent(&self, records: u64) {
        let records = self.records.fetch_add(records, Ordering::Relaxed) + records;
        let seconds = self.bar.elapsed().as_secs().max(1);
        self.bar
            .set_message(format!("{records} records sent, {} a second", records / seconds));
    }

    /// Writes a sentence to stderr, above the progress.
    pub(super) fn say(&self, sentence: &str) {
        self.bar.suspend(|| {
            // If stderr is closed, the exit status remains.
            let _ = writeln!(io::stderr(), "health-server import: {sentence}");
        });
    }

    /// Removes the progress.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
