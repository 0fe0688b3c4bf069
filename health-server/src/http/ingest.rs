//! `POST /ingest`: from bytes to committed samples, and a verdict for each record.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::{HeaderMap, StatusCode, body::Incoming};
use tokio::time::timeout;

use crate::{
    app::App,
    http::{
        body::{BodyReader, MediaType, kind_of_body},
        elements::Elements,
        intake::{GivenUp, Intake, Verdict},
        lines::Lines,
        problem::{Refusal, Reply, json},
        room::Room,
    },
};

/// How long an upload may pause before what came so far is stored: a sensor that streams for hours is live all the same.
const PAUSE_BEFORE_STORING: Duration = Duration::from_millis(100);

/// Takes the samples of a request. Answers once they are committed.
pub(crate) async fn ingest(app: &App, headers: &HeaderMap, body: &mut Incoming) -> Reply {
    match take(app, headers, body).await {
        Ok(Verdict {
            counts,
            rejected,
            refusal,
        }) => {
            app.metrics.ingested(&counts, rejected);
            refusal.map_or_else(|| json(StatusCode::OK, &counts), Refusal::into_reply)
        }
        Err(refusal) => refusal.into_reply(),
    }
}

async fn take(app: &App, headers: &HeaderMap, body: &mut Incoming) -> Result<Verdict, Refusal> {
    let (media_type, encoding) = kind_of_body(headers)?;
    let reader = BodyReader::new(body, encoding, app.limits.body_timeout);
    match media_type {
        MediaType::Json => take_json(app, reader).await,
        MediaType::Ndjson => take_ndjson(app, reader).await,
    }
}

async fn take_json(app: &App, reader: BodyReader<'_>) -> Result<Verdict, Refusal> {
    let (body, room) = read_whole(app, reader).await?;
    let elements = Elements::parse(&body).map_err(|reason| {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            format!("The body is not JSON: {reason}. Nothing was stored."),
        )
    })?;
    let mut intake = Intake::new(app);
    for record in elements {
        intake.take(record.as_bytes());
        if intake.is_full() && intake.send().await == Err(GivenUp) {
            break;
        }
    }
    if intake.records() == 0 {
        return Err(no_record());
    }
    // What waits for its commit is in the queue, and the next body may have the room.
    drop((body, room));
    Ok(intake.finish(Ok(())).await)
}

/// Reads a body that has to be seen whole, and holds the room set aside for such.
async fn read_whole<'a>(app: &'a App, mut reader: BodyReader<'_>) -> Result<(Bytes, Room<'a>), Refusal> {
    let max = app.limits.max_body;
    let declared = reader.declared_length();
    if declared.is_some_and(|length| length > max as u64) {
        return Err(too_large(max));
    }
    let (mut body, mut room) = (BytesMut::new(), Room::small());
    while let Some(piece) = next_piece(app, &mut reader).await? {
        let needed = body.len() + piece.len();
        if needed > max {
            return Err(too_large(max));
        }
        if needed > room.bytes {
            room = app.body_memory.room(needed, declared).await.ok_or_else(busy)?;
            body.reserve(room.capacity() - body.len());
        }
        body.extend_from_slice(&piece);
    }
    Ok((body.freeze(), room))
}

async fn take_ndjson(app: &App, mut reader: BodyReader<'_>) -> Result<Verdict, Refusal> {
    let mut intake = Intake::new(app);
    let end = stream_lines(app, &mut reader, &mut intake).await;
    if end.is_ok() && intake.records() == 0 {
        return Err(no_record());
    }
    Ok(intake.finish(end).await)
}

/// Reads lines to the end of the body. A failure of the queue ends it as well; the intake remembers it.
async fn stream_lines(app: &App, reader: &mut BodyReader<'_>, intake: &mut Intake<'_>) -> Result<(), Refusal> {
    let mut lines = Lines::new(app.limits.max_line);
    let mut blank_bytes = 0;
    loop {
        let piece = if intake.is_empty() {
            next_piece(app, reader).await?
        } else {
            match timeout(PAUSE_BEFORE_STORING, next_piece(app, reader)).await {
                Ok(piece) => piece?,
                Err(_) => match intake.send().await {
                    Ok(()) => continue,
                    Err(GivenUp) => return Ok(()),
                },
            }
        };
        intake.arrives_now();
        let Some(piece) = piece else {
            let end = lines.finish(|line| intake.take(line));
            return end.map_err(|_| line_too_long(app, intake));
        };
        let before = intake.records();
        let cut = lines.push(&piece, |line| intake.take(line));
        cut.map_err(|_| line_too_long(app, intake))?;
        // Blank lines cost a compressed body next to nothing, and us the time to read them.
        blank_bytes = if intake.records() == before {
            blank_bytes + piece.len()
        } else {
            0
        };
        if blank_bytes > app.limits.max_body {
            return Err(too_large(app.limits.max_body));
        }
        if intake.is_full() && intake.send().await == Err(GivenUp) {
            return Ok(());
        }
    }
}

/// The next piece of a body, unless the server ends first.
async fn next_piece(app: &App, reader: &mut BodyReader<'_>) -> Result<Option<Bytes>, Refusal> {
    tokio::select! {
        biased; // A piece that is there is worth more than an early end.
        piece = reader.next() => piece.map_err(|error| Refusal::new(error.status(), error.to_string())),
        () = app.abort_uploads.cancelled() => Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "The server is ending, and the body was still on its way. Send the request again later.",
        )),
    }
}

fn no_record() -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "The body holds no record. Nothing was stored.")
}

fn too_large(max: usize) -> Refusal {
    let detail = format!(
        "The body is larger than {max} bytes when decoded. Nothing more of it was read: send less at a time, or application/x-ndjson, \
         which has no limit."
    );
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

fn line_too_long(app: &App, intake: &Intake<'_>) -> Refusal {
    let max = app.limits.max_line;
    let detail = format!(
        "The line of record {} is longer than {max} bytes. What came before it is stored as counted here, it and what follows is not.",
        intake.records()
    );
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

fn busy() -> Refusal {
    let detail = "Too many large bodies are being read. Send the request again later, or send application/x-ndjson.";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail)
}
