//! `GET /samples`: exports the stored samples of a user as NDJSON or CSV, in memory that the size of one page bounds.

use std::{io, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use health_core::{Calories, HeartRate, Sample, Samples, Steps, format_timestamp};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    HeaderMap, StatusCode,
    body::Frame,
    header::{self, HeaderValue},
};
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use crate::{
    app::App,
    audit,
    http::{
        auth::Caller,
        cut_off::GrantedBy,
        error::HttpError,
        query::Query,
        response::{HttpResponse, empty},
    },
};

/// The format of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Ndjson,
    Csv,
}

/// An export in progress.
struct Export {
    pages: Samples,
    format: Format,
    /// The right to send one of [`ServerLimits::max_exports`](crate::ServerLimits::max_exports) exports.
    _permit: OwnedSemaphorePermit,
}

/// How much a client wants a media type, according to its `Accept` headers (RFC 9110, 12.5.1).
#[derive(Debug, Clone, Copy, Default)]
struct Preference {
    /// The quality value of the most specific media range that matches, from 0 to 1.
    quality: f64,
    /// How specific that range is: 3 for the media type itself, 2 for `type/*`, 1 for `*/*`, 0 if no range matches.
    specificity: u8,
}

const CSV_HEADER: [&str; 6] = ["user_id", "timestamp", "heart_rate", "steps", "calories", "source"];

/// The typical size of a sample in either format, to allocate the memory of a page at once.
const TYPICAL_SAMPLE_BYTES: usize = 128;

/// Exports the samples of a user in a time range, by time and source.
pub(crate) async fn samples(
    app: &App,
    caller: &Caller,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<HttpResponse, HttpError> {
    let mut query = Query::parse(query, &["user_id", "start", "end"]);
    let user_and_range = query.user_and_range();
    let (user, range) = query.finish(user_and_range)?;
    caller.check_user(user)?;
    let format = Format::preferred(headers);
    let permit = permit(app).await?;
    let mut pages = app.health.samples(user, range);
    // Reading the first page before the head is sent makes an unreachable database a 503 and not a truncated export.
    let first_page = pages.next_page().await?;
    let begin = format.write_first(&first_page);
    audit::exported(caller, user, range);
    let export = Export {
        pages,
        format,
        _permit: permit,
    };
    let rest = stream::unfold(Some(export), next_frame);
    let frames = stream::iter([begin]).chain(rest).map(|bytes| bytes.map(Frame::data));
    let mut response = empty(StatusCode::OK);
    *response.body_mut() = StreamBody::new(frames).boxed_unsync();
    response.extensions_mut().insert(GrantedBy {
        authenticator: app.authenticator.clone(),
        access: Arc::clone(&caller.access),
    });
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

/// Waits for the permit to send an export, as long as a query waits for a database connection.
///
/// An export holds no connection while its client does not read, but it holds a page of samples.
async fn permit(app: &App) -> Result<OwnedSemaphorePermit, HttpError> {
    let waiting = timeout(
        app.health.limits().connection_wait,
        Arc::clone(&app.exports).acquire_owned(),
    );
    let permit = waiting.await.ok().and_then(Result::ok);
    permit.ok_or_else(|| {
        let detail = "The server is sending too many exports. Send the request again later.";
        HttpError::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    })
}

/// Returns the next page as bytes.
///
/// The status is already sent, so an error can only end the connection before the body is complete. The log has the
/// reason.
async fn next_frame(export: Option<Export>) -> Option<(io::Result<Bytes>, Option<Export>)> {
    let mut export = export?;
    match export.pages.next_page().await {
        Ok(page) if page.is_empty() => None,
        Ok(page) => Some((export.format.write(&page), Some(export))),
        Err(error) => {
            tracing::warn!(error = error.chain(), "an export ended early");
            Some((Err(io::Error::other(error)), None))
        }
    }
}

impl Preference {
    /// Reads the preference for the media type `family/kind`.
    fn for_type(headers: &HeaderMap, family: &str, kind: &str) -> Self {
        let mut preference = Self::default();
        for value in headers.get_all(header::ACCEPT) {
            for range in value.to_str().unwrap_or_default().to_ascii_lowercase().split(',') {
                let mut parts = range.split(';').map(str::trim);
                let specificity = match parts.next().and_then(|range| range.split_once('/')) {
                    Some(("*", "*")) => 1,
                    Some((found, "*")) if found == family => 2,
                    Some((found, named)) if found == family && named == kind => 3,
                    _ => continue,
                };
                let quality = match parts.find_map(|part| part.strip_prefix("q=")) {
                    Some(q) => q.parse().ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0),
                    None => 1.0,
                };
                if specificity > preference.specificity {
                    preference = Self { quality, specificity };
                }
            }
        }
        preference
    }
}

impl Format {
    /// Returns CSV if the client prefers it, or accepts both alike and names CSV more specifically. Otherwise NDJSON.
    fn preferred(headers: &HeaderMap) -> Self {
        let csv = Preference::for_type(headers, "text", "csv");
        let ndjson = Preference::for_type(headers, "application", "x-ndjson");
        let order = csv
            .quality
            .total_cmp(&ndjson.quality)
            .then(csv.specificity.cmp(&ndjson.specificity));
        if order.is_gt() && csv.quality > 0.0 {
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

    /// Writes the first page, after the header row if the format has one.
    fn write_first(self, page: &[Sample]) -> io::Result<Bytes> {
        match self {
            Self::Ndjson => ndjson(page),
            Self::Csv => csv(Some(CSV_HEADER), page),
        }
    }

    fn write(self, page: &[Sample]) -> io::Result<Bytes> {
        match self {
            Self::Ndjson => ndjson(page),
            Self::Csv => csv(None, page),
        }
    }
}

fn ndjson(page: &[Sample]) -> io::Result<Bytes> {
    let mut bytes = BytesMut::with_capacity(page.len() * TYPICAL_SAMPLE_BYTES);
    for sample in page {
        serde_json::to_writer((&mut bytes).writer(), sample)?;
        bytes.put_u8(b'\n');
    }
    Ok(bytes.freeze())
}

fn csv(header: Option<[&str; 6]>, page: &[Sample]) -> io::Result<Bytes> {
    let mut writer = csv::Writer::from_writer(Vec::with_capacity(page.len() * TYPICAL_SAMPLE_BYTES));
    if let Some(header) = header {
        writer.write_record(header)?;
    }
    for sample in page {
        // Not by serde, which would write 72 beats per minute as 72.0.
        writer.write_record([
            sample.user_id().to_string(),
            format_timestamp(sample.timestamp()),
            optional(sample.heart_rate().map(HeartRate::get)),
            optional(sample.steps().map(Steps::get)),
            optional(sample.calories().map(Calories::get)),
            sample.source().to_string(),
        ])?;
    }
    let bytes = writer.into_inner().map_err(csv::IntoInnerError::into_error)?;
    Ok(bytes.into())
}

fn optional(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_header_selects_the_format() {
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
            assert_eq!(Format::preferred(&headers), expected, "{accept}");
        }
    }

    #[test]
    fn csv_quotes_fields_with_commas_and_quotation_marks() {
        let page: [Sample; 2] = serde_json::from_str(
            r#"[{"user_id":1,"timestamp":"2025-03-02T18:00:00.5Z","heart_rate":72,"source":"a, \"b\""},
                {"user_id":1,"timestamp":"2025-03-02T18:00:01Z","steps":3,"calories":0.25,"source":"watch"}]"#,
        )
        .unwrap();
        let rows = "1,2025-03-02T18:00:00.500Z,72,,,\"a, \"\"b\"\"\"\n1,2025-03-02T18:00:01Z,,3,0.25,watch\n";
        assert_eq!(Format::Csv.write(&page).unwrap(), rows);
        let with_header = format!("user_id,timestamp,heart_rate,steps,calories,source\n{rows}");
        assert_eq!(Format::Csv.write_first(&page).unwrap(), with_header);
    }
}
