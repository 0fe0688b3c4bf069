//! Headers and compressed bodies.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};

pub(super) const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");
pub(super) const JSON: (&str, &str) = ("content-type", "application/json");
pub(super) const GZIP: (&str, &str) = ("content-encoding", "gzip");

pub(super) fn gzip(text: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_ref()).unwrap();
    encoder.finish().unwrap()
}

/// Returns a body in the chunked transfer coding, with chunks of `size` bytes.
pub(super) fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut encoded = Vec::new();
    for chunk in body.chunks(size) {
        encoded.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        encoded.extend_from_slice(chunk);
        encoded.extend_from_slice(b"\r\n");
    }
    encoded.extend_from_slice(b"0\r\n\r\n");
    encoded
}
