//! `GET /samples`: what is stored, as it can be posted again, in memory that a page bounds.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use health_core::{Calories, HeartRate, Sample, Samples, Steps, format_timestamp};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    HeaderMap, StatusCode,
    body::Frame,
    header::{self, HeaderValue},
};

use crate::{
    app::App,
    http::{
        problem::{Refusal, Reply, empty},
        query::Query,
    },
};

/// How the samples are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Ndjson,
    Csv,
}

/// How much a client wants a media type (RFC 9110, 12.5.1).
#[derive(Debug, Clone, Copy, Default)]
struct Wish {
    /// 0 to 1: what the closest range that it falls into says.
    weight: f64,
    /// How closely that names it: 1 for `*/*`, 2 for all of its family, 3 for itself, 0 where none does.
    closeness: u8,
}

const CSV_HEADER: &str = "user_id,timestamp,heart_rate,steps,calories,source\n";

pub(crate) async fn samples(app: &App, query: Option<&str>, headers: &HeaderMap) -> Result<Reply, Refusal> {
    let mut query = Query::parse(query, &["user_id", "start", "end"]);
    let found = query.user_and_range();
    let (user, range) = query.finish(found)?;
    let format = Format::wanted(headers);
    let mut pages = app.health.samples(user, range);
    // The first page comes before the status, so that a database out of reach is a 503 and not a cut answer.
    let first = pages.next_page().await?;
    let begin = format.begin(&first);
    let rest = stream::unfold(Some(pages), move |pages| next_piece(pages, format));
    let body = stream::iter([Ok(begin)])
        .chain(rest)
        .map(|piece| piece.map(Frame::data));
    let mut reply = empty(StatusCode::OK);
    *reply.body_mut() = StreamBody::new(body).boxed_unsync();
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    reply
        .headers_mut()
        .insert(header::VARY, HeaderValue::from_static("accept"));
    Ok(reply)
}

/// The next page as bytes. An error behind the head can only cut the answer off, and the log says why.
async fn next_piece(pages: Option<Samples>, format: Format) -> Option<(io::Result<Bytes>, Option<Samples>)> {
    let mut pages = pages?;
    match pages.next_page().await {
        Ok(page) if page.is_empty() => None,
        Ok(page) => Some((Ok(format.write(&page)), Some(pages))),
        Err(error) => {
            tracing::warn!(error = error.chain(), "an export was cut off");
            Some((Err(io::Error::other(error)), None))
        }
    }
}

impl Wish {
    fn of(headers: &HeaderMap, family: &str, kind: &str) -> Self {
        let mut wish = Self::default();
        for value in headers.get_all(header::ACCEPT) {
            for range in value.to_str().unwrap_or_default().to_ascii_lowercase().split(',') {
                let mut parts = range.split(';').map(str::trim);
                let closeness = match parts.next().and_then(|name| name.split_once('/')) {
                    Some(("*", "*")) => 1,
                    Some((found, "*")) if found == family => 2,
                    Some((found, named)) if found == family && named == kind => 3,
                    _ => continue,
                };
                let weight = match parts.find_map(|part| part.strip_prefix("q=")) {
                    Some(q) => q.parse().ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0),
                    None => 1.0,
                };
                if closeness > wish.closeness {
                    wish = Self { weight, closeness };
                }
            }
        }
        wish
    }
}

impl Format {
    /// CSV where the client prefers it, or takes both alike and names it more closely; NDJSON otherwise.
    fn wanted(headers: &HeaderMap) -> Self {
        let (csv, ndjson) = (
            Wish::of(headers, "text", "csv"),
            Wish::of(headers, "application", "x-ndjson"),
        );
        let csv_first = csv
            .weight
            .total_cmp(&ndjson.weight)
            .then(csv.closeness.cmp(&ndjson.closeness));
        if csv_first.is_gt() && csv.weight > 0.0 {
            Self::Csv
        } else {
            Self::Ndjson
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
        }
    }

    fn begin(self, page: &[Sample]) -> Bytes {
        match self {
            Self::Ndjson => self.write(page),
            Self::Csv => [CSV_HEADER.as_bytes(), &self.write(page)].concat().into(),
        }
    }

    fn write(self, page: &[Sample]) -> Bytes {
        const TYPICAL_BYTES: usize = 128;
        let mut bytes = BytesMut::with_capacity(page.len() * TYPICAL_BYTES);
        for sample in page {
            match self {
                // A sample is numbers and strings: writing it to memory cannot fail.
                Self::Ndjson => serde_json::to_writer((&mut bytes).writer(), sample).unwrap_or_default(),
                Self::Csv => bytes.put_slice(csv_row(sample).as_bytes()),
            }
            bytes.put_u8(b'\n');
        }
        bytes.freeze()
    }
}

fn csv_row(sample: &Sample) -> String {
    let heart_rate = optional(sample.heart_rate().map(HeartRate::get));
    let (steps, calories) = (
        optional(sample.steps().map(Steps::get)),
        optional(sample.calories().map(Calories::get)),
    );
    let (time, source) = (format_timestamp(sample.timestamp()), csv_text(sample.source().as_str()));
    format!("{},{time},{heart_rate},{steps},{calories},{source}", sample.user_id())
}

fn optional(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// Quoted where it has to be (RFC 4180). There are no line breaks in a source.
fn csv_text(text: &str) -> String {
    if text.contains(['"', ',']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_says_which_format_it_prefers() {
        for (accept, expected) in [
            ("", Format::Ndjson),
            ("*/*", Format::Ndjson),
            ("text/csv", Format::Csv),
            ("TEXT/CSV; charset=utf-8", Format::Csv),
            ("text/html, text/csv;q=0.9, */*;q=0.1", Format::Csv),
            ("application/x-ndjson, text/csv;q=0.5", Format::Ndjson),
            ("application/x-ndjson;q=0.2, text/csv;q=0.5", Format::Csv),
            ("text/csv;q=0", Format::Ndjson),
            ("text/csv;q=0, */*", Format::Ndjson),
            ("text/csv;q=0.5, */*;q=0.8", Format::Ndjson),
            ("text/csv, */*", Format::Csv),
            ("*/*, text/csv;q=1.0", Format::Csv),
            ("text/*", Format::Csv),
            ("text/*;q=0.5, application/*;q=0.1", Format::Csv),
            ("text/*;q=0, */*", Format::Ndjson),
            ("application/x-ndjson;q=0, */*", Format::Csv),
            (
                "text/csv; header=present; Q=0.3, application/x-ndjson; q=0.2",
                Format::Csv,
            ),
            ("application/json", Format::Ndjson),
            ("csv", Format::Ndjson),
            ("image/png", Format::Ndjson),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(Format::wanted(&headers), expected, "{accept}");
        }
    }

    #[test]
    fn csv_quotes_what_it_must() {
        assert_eq!(csv_text("watch"), "watch");
        assert_eq!(csv_text("a, \"b\""), "\"a, \"\"b\"\"\"");
        let sample: Sample = serde_json::from_str(
            r#"{"user_id":1,"timestamp":"2025-03-02T18:00:00.5Z","heart_rate":72,"source":"a,b"}"#,
        )
        .unwrap();
        assert_eq!(csv_row(&sample), "1,2025-03-02T18:00:00.500Z,72,,,\"a,b\"");
    }
}
