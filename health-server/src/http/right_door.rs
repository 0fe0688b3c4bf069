//! Sentences that name the right endpoint to a client that has sent something to a wrong one.

use health_core::Rejection;
use hyper::Method;

use crate::http::route::Route;

/// What the first bytes of a body look like. It only chooses a sentence: a body is read as its endpoint demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyStart {
    Gzip,
    Json,
    Lines,
    Other,
}

/// The paths to which devices post.
const DEVICE_PATHS: &str =
    "Devices and apps post to /ingest, /ingest/health-auto-export, /ingest/health-connect, /api/v2/write or /write.";

/// How a gzip member begins that is compressed with "deflate", the only method (RFC 1952, 2.3.1).
const GZIP_MAGIC: [u8; 3] = [0x1f, 0x8b, 8];

/// A path with at most this many wrong characters is taken for a misspelt one.
const PATH_EDITS_MAX: usize = 3;

/// The most of a path that is compared with others. All paths are shorter.
const COMPARED_PATH_BYTES_MAX: usize = 64;

impl BodyStart {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        if bytes.starts_with(&GZIP_MAGIC) {
            return Self::Gzip;
        }
        let text = bytes.trim_ascii_start();
        match text.first() {
            Some(b'{' | b'[') => Self::Json,
            Some(first) if first.is_ascii_alphabetic() => {
                let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
                let (names, _) = line.split_at(line.iter().position(|byte| *byte == b'"').unwrap_or(line.len()));
                let is_point = names.contains(&b' ') && names.contains(&b'=');
                if is_point { Self::Lines } else { Self::Other }
            }
            _ => Self::Other,
        }
    }

    /// Returns the remedy for a body that could not be read as JSON.
    pub(crate) fn hint_for_json(self) -> Option<&'static str> {
        match self {
            Self::Gzip => Some(GZIP_HINT),
            Self::Lines => Some("It looks like line protocol, which belongs to /api/v2/write or /write."),
            Self::Json | Self::Other => None,
        }
    }

    /// Returns the remedy for a body that could not be read as line protocol.
    pub(crate) fn hint_for_lines(self) -> Option<&'static str> {
        match self {
            Self::Gzip => Some(GZIP_HINT),
            Self::Json => Some(
                "It looks like JSON, which belongs to /ingest, or to the path of its app: /ingest/health-auto-export or \
                 /ingest/health-connect.",
            ),
            Self::Lines | Self::Other => None,
        }
    }
}

const GZIP_HINT: &str =
    "It is compressed with gzip, but the request does not say so: send the header Content-Encoding: gzip.";

/// Returns the endpoint of an app whose body was sent to `/ingest`, by the fields that records do not have.
pub(crate) fn of_refused_fields(errors: &[Rejection]) -> Option<&'static str> {
    errors.iter().find_map(|error| match error.field.as_deref() {
        Some("data") => Some("What the app Health Auto Export writes belongs to /ingest/health-auto-export."),
        Some("app_version" | "active_calories" | "total_calories") => {
            Some("What the app HC Webhook writes belongs to /ingest/health-connect.")
        }
        _ => None,
    })
}

/// Returns the sentences for a path that no endpoint has.
pub(crate) fn of_unknown_path(path: &str, method: &Method) -> String {
    let hint = match nearest(path) {
        Some(known) => format!("Did you mean {known}?"),
        None if *method == Method::POST => DEVICE_PATHS.to_owned(),
        None => "The page for browsers is /.".to_owned(),
    };
    format!("{hint} /openapi.json lists all endpoints.")
}

/// Returns the sentence for a method that an endpoint does not support.
pub(crate) fn of_wrong_method(route: Route<'_>, method: &Method) -> Option<&'static str> {
    let is_door = route.allows(&Method::POST);
    match method.as_str() {
        "POST" => Some(DEVICE_PATHS),
        "GET" | "HEAD" if is_door => Some("Devices and apps post to it. The page for browsers is /."),
        _ => None,
    }
}

/// Returns the known path that differs from this one in capitals, slashes, a segment that is there twice, or a few
/// characters.
fn nearest(path: &str) -> Option<&'static str> {
    let path = &path[..path.floor_char_boundary(COMPARED_PATH_BYTES_MAX)];
    let mut segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    segments.dedup();
    let path = format!("/{}", segments.join("/")).to_ascii_lowercase();
    if let Some(route) = Route::find(&path).filter(|route| route.template() != "/") {
        return Some(route.template());
    }
    let distances = Route::TEMPLATES
        .iter()
        .map(|known| (strsim::damerau_levenshtein(known, &path), *known));
    let (distance, known) = distances.min()?;
    // A short path is near to every other short one.
    (distance <= PATH_EDITS_MAX && distance * 3 <= path.len()).then_some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_gzip_json_and_lines() {
        for (bytes, expected) in [
            (&b"\x1f\x8b\x08\x00\xff"[..], BodyStart::Gzip),
            (b"\x1f\x8b", BodyStart::Other),
            (b" \r\n{\"a\":1}", BodyStart::Json),
            (b"[", BodyStart::Json),
            (b"health,source=esp32 heart_rate=72", BodyStart::Lines),
            (b"cpu usage_idle=1\n{}", BodyStart::Lines),
            (b"user_id,timestamp,heart_rate\n1,2 3=4", BodyStart::Other),
            (b"hello \"a=b\"", BodyStart::Other),
            (b"", BodyStart::Other),
            (b"<a b=c>", BodyStart::Other),
        ] {
            assert_eq!(BodyStart::of(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_misspelt_path_is_answered_with_the_right_one() {
        for (path, known) in [
            ("/INGEST", "/ingest"),
            ("//ingest", "/ingest"),
            ("/ingest/ingest", "/ingest"),
            ("/Ingest/Health-Connect/", "/ingest/health-connect"),
            ("/ingest/healthconnect", "/ingest/health-connect"),
            ("/ingest/health_auto_export", "/ingest/health-auto-export"),
            ("/api/v2/write/write", "/api/v2/write"),
            ("/api/v1/write", "/api/v2/write"),
            ("/metrics/", "/metrics"),
            ("/Users/7", "/users/{user_id}"),
            ("/wirte", "/write"),
        ] {
            assert_eq!(nearest(path), Some(known), "{path}");
        }
        for path in [
            "",
            "/a",
            "/nothing",
            "/login",
            "/.env",
            "/ingest/apple",
            &"/ä".repeat(40),
            "//",
        ] {
            assert_eq!(nearest(path), None, "{path}");
        }
        for (path, method, part) in [
            (
                "/ingest/apple",
                Method::POST,
                "/ingest/health-connect, /api/v2/write or /write",
            ),
            ("/nothing", Method::GET, "The page for browsers is /."),
            ("/INGEST", Method::POST, "Did you mean /ingest?"),
        ] {
            let sentences = of_unknown_path(path, &method);
            assert!(sentences.contains(part), "{path}: {sentences}");
        }
    }
}
