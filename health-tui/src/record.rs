//! `record`: writes the samples of the feed to a file, one JSON object per line.
//!
//! `GET /samples` returns the same format, and `POST /ingest` accepts it.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use health_core::{Sample, counted};

use crate::{error::Error, headless, options::Options};

/// Writes every sample of the feed to a new file until a signal arrives.
///
/// After a reconnect the server may repeat samples, and the file then has them twice. Ingesting it stores each once.
pub(crate) async fn run(options: &Options, path: &Path) -> Result<(), Error> {
    let file_error = |source| Error::File {
        path: path.to_owned(),
        source,
    };
    let mut file = File::create_new(path).map_err(file_error)?;
    let mut written = 0;
    let mut lines = Vec::new();
    let write = |samples: &[Sample]| {
        lines.clear();
        for sample in samples {
            serde_json::to_writer(&mut lines, sample).map_err(|e| file_error(e.into()))?;
            lines.push(b'\n');
        }
        // One write for whole lines: if the process is killed, the file still ends with a whole sample.
        file.write_all(&lines).map_err(file_error)?;
        written += samples.len();
        Ok(())
    };
    let result = headless::run(options, write).await;
    // If stderr is closed, there is no reader for this line.
    _ = writeln!(io::stderr(), "{} in {}", counted(written, "sample"), path.display());
    result
}
