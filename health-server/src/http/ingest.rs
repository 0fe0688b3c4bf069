//! `POST /ingest`: reads records, stores their samples, and responds after the commit.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use health_core::counted;
use hyper::{HeaderMap, StatusCode, body::Incoming};
use tokio::time::timeout;

use crate::{
    app::App,
    http::{
        auth::Caller,
        body::{BodyReader, MediaType, media_type_and_encoding},
        body_memory::BodyPermit,
        error::HttpError,
        framing::require_body,
        json_records::JsonRecords,
        line_splitter::LineSplitter,
        response::{HttpResponse, json},
        right_door::BodyStart,
        upload::{QueueFailed, Upload, UploadOutcome},
    },
};

/// How long an NDJSON upload may pause before the samples that have arrived are enqueued.
///
/// A sensor may keep one upload open for hours, and its samples should still appear on the live feed at once.
pub(crate) const MAX_PAUSE_BEFORE_ENQUEUE: Duration = Duration::from_millis(100);

/// Stores the samples of a request and responds after they are committed.
pub(crate) async fn ingest(
    app: &App,
    caller: &Caller,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<HttpResponse, HttpError> {
    require_body(headers)?;
    let (media_type, encoding) = media_type_and_encoding(headers)?;
    let reader = BodyReader::new(body, encoding, app.limits.body_timeout);
    let UploadOutcome {
        counts,
        rejected,
        error,
    } = match media_type {
        MediaType::Json => ingest_json(app, caller, reader).await?,
        MediaType::Ndjson => ingest_ndjson(app, caller, reader).await?,
    };
    app.metrics.record_ingest(&counts, rejected);
    match error {
        None => Ok(json(StatusCode::OK, &counts)),
        Some(error) => Err(error),
    }
}

async fn ingest_json(app: &App, caller: &Caller, reader: BodyReader<'_>) -> Result<UploadOutcome, HttpError> {
    let (body, permit) = read_whole_body(app, caller, reader).await?;
    let records = JsonRecords::parse(&body).map_err(|reason| {
        let detail = format!("The body is not valid JSON: {reason}. Nothing was stored.");
        HttpError::new(StatusCode::BAD_REQUEST, detail).with_hints(BodyStart::of(&body).hint_for_json())
    })?;
    let mut upload = Upload::new(app, caller);
    for record in records {
        upload.add_record(record.as_bytes());
        if upload.is_full() && upload.enqueue().await == Err(QueueFailed) {
            break;
        }
    }
    if upload.records() == 0 {
        return Err(no_record());
    }
    // The samples are copies, so another body can have the memory while they wait for their commit.
    drop((body, permit));
    Ok(upload.finish(Ok(())).await)
}

/// Reads a body into memory, within the limit of one body and the budget for all bodies.
async fn read_whole_body<'a>(
    app: &'a App,
    caller: &Caller,
    mut reader: BodyReader<'_>,
) -> Result<(Bytes, BodyPermit<'a>), HttpError> {
    let max_bytes = app.limits.max_body;
    let declared = reader.declared_length();
    if declared.is_some_and(|length| length > max_bytes as u64) {
        return Err(body_too_large(max_bytes));
    }
    let (mut body, mut permit) = (BytesMut::new(), BodyPermit::small());
    while let Some(bytes) = next_bytes(app, caller, &mut reader).await? {
        let needed = body.len() + bytes.len();
        if needed > max_bytes {
            return Err(body_too_large(max_bytes));
        }
        if needed > permit.max_bytes {
            let larger = app.body_memory.acquire(needed, declared).await;
            permit = larger.ok_or_else(body_memory_exhausted)?;
            body.reserve(permit.allocation_bytes() - body.len());
        }
        body.extend_from_slice(&bytes);
    }
    Ok((body.freeze(), permit))
}

async fn ingest_ndjson(app: &App, caller: &Caller, mut reader: BodyReader<'_>) -> Result<UploadOutcome, HttpError> {
    let mut upload = Upload::new(app, caller);
    let end = read_lines(app, caller, &mut reader, &mut upload).await;
    if end.is_ok() && upload.records() == 0 {
        return Err(no_record());
    }
    let mut outcome = upload.finish(end).await;
    outcome.error = outcome
        .error
        .map(|error| error.with_hints(reader.start().hint_for_json()));
    Ok(outcome)
}

/// Reads lines to the end of the body, or until the queue fails. In that case [`Upload::finish`] reports the reason.
async fn read_lines(
    app: &App,
    caller: &Caller,
    reader: &mut BodyReader<'_>,
    upload: &mut Upload<'_>,
) -> Result<(), HttpError> {
    let max_blank_bytes = app.limits.max_body;
    let mut splitter = LineSplitter::new(app.limits.max_line);
    let mut blank_bytes = 0;
    loop {
        let bytes = if upload.is_empty() {
            next_bytes(app, caller, reader).await?
        } else {
            match timeout(MAX_PAUSE_BEFORE_ENQUEUE, next_bytes(app, caller, reader)).await {
                Ok(bytes) => bytes?,
                Err(_) => match upload.enqueue().await {
                    Ok(()) => continue,
                    Err(QueueFailed) => return Ok(()),
                },
            }
        };
        upload.update_receive_time();
        let Some(bytes) = bytes else {
            let last_line = splitter.finish(|line| upload.add_record(line));
            return last_line.map_err(|_| line_too_long(app, upload));
        };
        let records_before = upload.records();
        let split = splitter.push(&bytes, |line| upload.add_record(line));
        split.map_err(|_| line_too_long(app, upload))?;
        // A compressed body of blank lines costs its sender almost nothing, and the server the time to read it.
        blank_bytes = if upload.records() == records_before {
            blank_bytes + bytes.len()
        } else {
            0
        };
        if blank_bytes > max_blank_bytes {
            return Err(body_too_large(max_blank_bytes));
        }
        if upload.is_full() && upload.enqueue().await == Err(QueueFailed) {
            return Ok(());
        }
    }
}

/// Returns the next bytes of a body. Fails when the server no longer waits for uploads, or the access of the caller has
/// ended.
pub(crate) async fn next_bytes(
    app: &App,
    caller: &Caller,
    reader: &mut BodyReader<'_>,
) -> Result<Option<Bytes>, HttpError> {
    // On the heap, and only if there is a wait: most bodies have arrived with their head.
    let access_ended = async { Box::pin(app.authenticator.ended(&caller.access)).await };
    tokio::select! {
        biased; // Bytes that have arrived are read even if the server shuts down.
        bytes = reader.next() => Ok(bytes?),
        () = app.abort_uploads.cancelled() => Err(HttpError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "The server is shutting down and the body had not arrived completely. Send the request again later.",
        )),
        end = access_ended => Err(caller.access_ended(end)),
    }
}

fn no_record() -> HttpError {
    HttpError::new(StatusCode::BAD_REQUEST, "The body has no record. Nothing was stored.")
}

fn body_too_large(max_bytes: usize) -> HttpError {
    let detail = format!(
        "The decoded body is larger than {}. The server did not read the rest: send smaller bodies, or \
         application/x-ndjson, which has no size limit.",
        counted(max_bytes, "byte")
    );
    HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

fn line_too_long(app: &App, upload: &Upload<'_>) -> HttpError {
    let detail = format!(
        "The line of record {} is longer than {}. The counts say what was stored of the lines before it. Neither this \
         line nor any later one was stored.",
        upload.records(),
        counted(app.limits.max_line, "byte")
    );
    HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

pub(crate) fn body_memory_exhausted() -> HttpError {
    let detail =
        "The server is reading too many large bodies. Send the request again later, or send application/x-ndjson.";
    HttpError::new(StatusCode::SERVICE_UNAVAILABLE, detail)
}
