//! `record`: writes the samples of the feed to a file, one JSON object per line.
//!
//! `GET /samples` returns the same format, and `POST /ingest` accepts it. An erasure is a line as well, see
//! [`RecordedEvent`]: a recording must not keep samples alive that were erased. `replay` drops them, and `POST /ingest`
//! refuses the line by name.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use health_core::{Erasure, RecordedEvent, Sample, counted};

use crate::{
    error::Error,
    headless::{self, SampleOutput},
    options::Options,
};

/// Writes every sample of the feed to a new file until a signal arrives.
///
/// After a reconnect the server may repeat samples, and the file then has them twice. Ingesting it stores each once.
pub(crate) async fn run(options: &Options, path: &Path) -> Result<(), Error> {
    let file = File::create_new(path).map_err(|source| file_error(path, source))?;
    let written = Arc::new(AtomicU64::new(0));
    let recording = RecordingOutput {
        file,
        path: path.to_owned(),
        lines: Vec::new(),
        written: written.clone(),
    };
    let result = headless::run(options, recording).await;
    let written = written.load(Ordering::Relaxed);
    // If stderr is closed, there is no reader for this line.
    _ = writeln!(io::stderr(), "{} in {}", counted(written, "sample"), path.display());
    result
}

struct RecordingOutput {
    file: File,
    path: PathBuf,
    lines: Vec<u8>,
    /// The number of samples in the file.
    written: Arc<AtomicU64>,
}

impl SampleOutput for RecordingOutput {
    fn write(&mut self, samples: &[Sample]) -> Result<(), Error> {
        self.lines.clear();
        for sample in samples {
            serde_json::to_writer(&mut self.lines, sample).map_err(|error| file_error(&self.path, error.into()))?;
            self.lines.push(b'\n');
        }
        self.write_lines()?;
        let count = u64::try_from(samples.len()).unwrap_or(u64::MAX);
        self.written.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    fn write_erased(&mut self, erasure: &Erasure) -> Result<(), Error> {
        self.lines.clear();
        let event = RecordedEvent::Erased(erasure.clone());
        serde_json::to_writer(&mut self.lines, &event).map_err(|error| file_error(&self.path, error.into()))?;
        self.lines.push(b'\n');
        self.write_lines()
    }
}

impl RecordingOutput {
    /// One write for whole lines: if the process is killed, the file still ends with a whole line.
    fn write_lines(&mut self) -> Result<(), Error> {
        self.file
            .write_all(&self.lines)
            .map_err(|source| file_error(&self.path, source))
    }
}

fn file_error(path: &Path, source: io::Error) -> Error {
    Error::File {
        path: path.to_owned(),
        source,
    }
}
