//! `record`: the feed into a file of samples, one JSON object a line, as `GET /samples` gives them and `POST /ingest` takes
//! them.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use health_core::Sample;

use crate::{error::Error, headless, options::Options};

/// Writes every sample of the feed to a new file until interrupted. What the server sends twice after a reconnect is
/// written twice, and is one sample when it is ingested.
pub(crate) async fn run(options: &Options, path: &Path) -> Result<(), Error> {
    let file_error = |source| Error::File {
        path: path.to_owned(),
        source,
    };
    let mut file = File::create_new(path).map_err(file_error)?;
    let mut written = 0;
    let mut lines = Vec::new();
    let take = |samples: &[Sample]| {
        lines.clear();
        for sample in samples {
            serde_json::to_writer(&mut lines, sample).map_err(|e| file_error(e.into()))?;
            lines.push(b'\n');
        }
        // Whole lines at once: a recording that is cut off ends with a whole sample.
        file.write_all(&lines).map_err(file_error)?;
        written += samples.len();
        Ok(())
    };
    let ended = headless::run(options, take).await;
    // With stderr closed there is nobody to tell.
    _ = writeln!(io::stderr(), "{written} samples in {}", path.display());
    ended
}
