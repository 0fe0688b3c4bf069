//! Fuzzes the splitter of JSON bodies: it must find the same records as serde does in the whole body.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

#[path = "../../health-server/src/http/json_records.rs"]
mod json_records;

fuzz_target!(|body: &[u8]| {
    let found: Option<Vec<_>> = json_records::JsonRecords::parse(body).ok().map(Iterator::collect);
    assert_eq!(found, by_serde(body));
});

fn by_serde(body: &[u8]) -> Option<Vec<&str>> {
    let text = std::str::from_utf8(body).ok()?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_matches([' ', '\t', '\n', '\r']).is_empty() {
        return Some(Vec::new());
    }
    let whole: &RawValue = serde_json::from_str(text).ok()?;
    if !whole.get().starts_with('[') {
        return Some(vec![whole.get()]);
    }
    let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
    Some(elements.iter().map(|element| element.get()).collect())
}
