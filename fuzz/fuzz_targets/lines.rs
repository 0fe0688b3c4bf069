//! Lines: wherever the pieces end, they are those of the whole text.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../health-server/src/http/line_splitter.rs"]
mod line_splitter;

const LONGEST: usize = 16;

fuzz_target!(|input: (Vec<u8>, &[u8])| {
    let (cuts, text) = input;
    let (mut lines, mut found) = (line_splitter::LineSplitter::new(LONGEST), Vec::new());
    let mut keep = |line: &[u8]| found.push(line.to_vec());
    let mut rest = text;
    let mut whole = true;
    for cut in cuts {
        let (piece, later) = rest.split_at(rest.len().min(usize::from(cut)));
        rest = later;
        whole = whole && lines.push(piece, &mut keep).is_ok();
        if !whole {
            break;
        }
    }
    whole = whole && lines.push(rest, &mut keep).is_ok();
    whole = whole && lines.finish(&mut keep).is_ok();

    let mut expected = Vec::new();
    let mut fits = true;
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > LONGEST {
            fits = false;
            break;
        }
        if line.iter().any(|byte| !matches!(byte, b' ' | b'\t' | b'\r')) {
            expected.push(line.to_vec());
        }
    }
    assert_eq!((found, whole), (expected, fits));
});
