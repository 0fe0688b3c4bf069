//! Files that Health Auto Export writes.

use std::io::Read;

use super::{
    Damage, Entry, FileOptions,
    health_auto_export::{Grouping, HealthAutoExport},
    text_input::TextInput,
};

/// The bytes that are read at a time.
const PORTION_BYTES: usize = 64 << 10;

/// Reads a file of Health Auto Export in constant memory, by the rules of [`HealthAutoExport`].
///
/// A file does not say over which time its rows were added up, so each row is a sample at its date.
///
/// # Errors
/// [`Damage`]
pub fn read_health_auto_export(
    input: impl Read,
    options: &FileOptions,
    found: &mut dyn FnMut(Entry),
) -> Result<(), Damage> {
    let mut input = TextInput::new(input);
    let mut reader = HealthAutoExport::new(Grouping::None);
    let mut portion = vec![0; PORTION_BYTES];
    loop {
        input.begin_element();
        let length = input.read(&mut portion)?;
        if length == 0 {
            reader.finish();
        } else {
            reader.push(&portion[..length]);
        }
        while let Some(mut entry) = reader
            .next(&options.clock)
            .map_err(|error| Damage::Malformed(error.to_string()))?
        {
            if let Entry::Record(record) = &mut entry {
                record.source = options.source_or_default(&record.source);
            }
            found(entry);
        }
        if length == 0 {
            return Ok(());
        }
    }
}
