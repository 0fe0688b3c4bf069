//! Fuzzes the line splitter: the lines must not depend on how the text is divided into chunks.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../health-server/src/http/line_splitter.rs"]
mod line_splitter;

/// The longest line allowed. Small, so that the fuzzer reaches the limit often.
const LINE_BYTES_MAX: usize = 16;

fuzz_target!(|input: (Vec<u8>, &[u8])| {
    let (chunk_lengths, text) = input;
    let (mut lines, mut found) = (line_splitter::LineSplitter::new(LINE_BYTES_MAX), Vec::new());
    let mut collect = |line: &[u8]| found.push(line.to_vec());
    let mut rest = text;
    let mut within_limit = true;
    for length in chunk_lengths {
        let (chunk, later) = rest.split_at(rest.len().min(usize::from(length)));
        rest = later;
        within_limit = within_limit && lines.push(chunk, &mut collect).is_ok();
        if !within_limit {
            break;
        }
    }
    within_limit = within_limit && lines.push(rest, &mut collect).is_ok();
    within_limit = within_limit && lines.finish(&mut collect).is_ok();

    let mut expected = Vec::new();
    let mut expected_within_limit = true;
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > LINE_BYTES_MAX {
            expected_within_limit = false;
            break;
        }
        if line.iter().any(|byte| !matches!(byte, b' ' | b'\t' | b'\r')) {
            expected.push(line.to_vec());
        }
    }
    assert_eq!((found, within_limit), (expected, expected_within_limit));
});
