//! The container of FIT: files, definitions and data messages, as the FIT protocol defines them.
//!
//! The crate `fitparser` has a reader, too. It is not used, because it gives up at a developer field that no message
//! describes, reads over the end of a field whose size is no multiple of its type, and prints to stderr. Only its
//! tables of names are used, in `device.rs`.

use std::io::{self, BufReader, Read};

use crate::formats::damage::Damage;

/// The number of definitions that are in force at a time: a header has four bits for them.
const DEFINITIONS: usize = 16;

/// The field that has the time in every message.
const TIMESTAMP: u8 = 253;

/// What a [`Container`] gives out, in the order of the input.
pub(super) enum Part<'a> {
    /// A file begins. Several may follow each other.
    File,
    /// A data message of the current file.
    Message(Message<'a>),
}

/// A reader of one FIT file, or of several that follow each other. Its memory does not depend on their size.
pub(super) struct Container<R> {
    input: BufReader<R>,
    definitions: [Option<Definition>; DEFINITIONS],
    /// Bytes of the current file until its checksum. `None` between two files.
    rest: Option<u32>,
    checksum: u16,
    /// The bytes of the current message.
    message: Vec<u8>,
    /// The time of the last message that had one. Compressed headers have the difference only.
    last_time: Option<u32>,
    /// Whether a file of the input has a wrong checksum.
    is_checksum_wrong: bool,
}

/// The layout of the messages with one local number.
struct Definition {
    kind: u16,
    is_big_endian: bool,
    fields: Vec<Field>,
    /// The length of a message without its header, developer fields included.
    length: usize,
}

/// The place of a field in a message.
struct Field {
    number: u8,
    base_type: u8,
    start: usize,
    length: usize,
}

/// A data message.
pub(super) struct Message<'a> {
    definition: &'a Definition,
    bytes: &'a [u8],
    /// The time in seconds since 1989-12-31, from the field or from a compressed header.
    pub(super) time: Option<u32>,
}

impl<R: Read> Container<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input: BufReader::new(input),
            definitions: [const { None }; DEFINITIONS],
            rest: None,
            checksum: 0,
            message: Vec::new(),
            last_time: None,
            is_checksum_wrong: false,
        }
    }

    /// Returns the next part, or `None` at the end of the input.
    ///
    /// # Errors
    /// [`Damage`], after which nothing more can be read. A wrong checksum is reported at the end of the input, because
    /// the messages of that file are still readable.
    pub(super) fn next(&mut self) -> Result<Option<Part<'_>>, Damage> {
        loop {
            match self.rest {
                None => {
                    if !self.begin_file()? {
                        return if self.is_checksum_wrong {
                            Err(Damage::Checksum)
                        } else {
                            Ok(None)
                        };
                    }
                    return Ok(Some(Part::File));
                }
                Some(0) => self.end_file()?,
                Some(_) => {
                    let [header] = self.take()?;
                    if header & 0xC0 == 0x40 {
                        self.read_definition(header)?;
                        continue;
                    }
                    let (local, time_offset) = if header & 0x80 == 0 {
                        (header & 0x0F, None)
                    } else {
                        ((header >> 5) & 0x03, Some(header & 0x1F))
                    };
                    return self.read_message(usize::from(local), time_offset).map(Some);
                }
            }
        }
    }

    /// Reads the header of a file. Returns whether there is one.
    fn begin_file(&mut self) -> Result<bool, Damage> {
        let mut size = [0];
        if !read_or_end(&mut self.input, &mut size)? {
            return Ok(false);
        }
        self.rest = Some(u32::MAX);
        self.checksum = update(0, &size);
        let header: [u8; 11] = self.take()?;
        if header[7..11] != *b".FIT" || size[0] < 12 {
            return Err(Damage::AfterFit);
        }
        let mut beyond = [0; u8::MAX as usize];
        let beyond = &mut beyond[..usize::from(size[0] - 12)];
        self.fill(beyond)?;
        self.rest = Some(u32::from_le_bytes([header[3], header[4], header[5], header[6]]));
        self.definitions = [const { None }; DEFINITIONS];
        self.last_time = None;
        Ok(true)
    }

    fn end_file(&mut self) -> Result<(), Damage> {
        let computed = self.checksum;
        let mut written = [0; 2];
        self.input.read_exact(&mut written)?;
        self.is_checksum_wrong |= u16::from_le_bytes(written) != computed;
        self.rest = None;
        Ok(())
    }

    fn read_definition(&mut self, header: u8) -> Result<(), Damage> {
        let [_, byte_order, kind @ .., field_count]: [u8; 5] = self.take()?;
        let is_big_endian = byte_order == 1;
        let kind = if is_big_endian {
            u16::from_be_bytes(kind)
        } else {
            u16::from_le_bytes(kind)
        };
        let (mut fields, mut length) = (Vec::with_capacity(usize::from(field_count)), 0);
        for _ in 0..field_count {
            let [number, size, base_type] = self.take()?;
            let size = usize::from(size);
            fields.push(Field {
                number,
                base_type: base_type & 0x1F,
                start: length,
                length: size,
            });
            length += size;
        }
        if header & 0x20 != 0 {
            let [developer_fields] = self.take()?;
            for _ in 0..developer_fields {
                let [_, size, _] = self.take()?;
                length += usize::from(size);
            }
        }
        self.definitions[usize::from(header & 0x0F)] = Some(Definition {
            kind,
            is_big_endian,
            fields,
            length,
        });
        Ok(())
    }

    fn read_message(&mut self, local: usize, time_offset: Option<u8>) -> Result<Part<'_>, Damage> {
        let Some(definition) = self.definitions.get_mut(local).and_then(Option::take) else {
            return Err(Damage::Malformed("a message has no definition".to_owned()));
        };
        let mut bytes = std::mem::take(&mut self.message);
        bytes.resize(definition.length, 0);
        let filled = self.fill(&mut bytes);
        self.message = bytes;
        let definition = self.definitions[local].insert(definition);
        filled?;
        let mut message = Message {
            definition,
            bytes: &self.message,
            time: None,
        };
        message.time = match (message.time_of_field(), time_offset, self.last_time) {
            (Some(time), ..) => Some(time),
            (None, Some(offset), Some(last)) => Some(expand(last, 5, u32::from(offset))),
            _ => None,
        };
        self.last_time = message.time.or(self.last_time);
        Ok(Part::Message(message))
    }

    /// Reads bytes of the current file.
    fn take<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], Damage> {
        let mut bytes = [0; LENGTH];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Damage> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let rest = self
            .rest
            .unwrap_or(0)
            .checked_sub(length)
            .ok_or_else(|| Damage::Malformed("a message reaches over the end of its file".to_owned()))?;
        self.rest = Some(rest);
        self.input.read_exact(bytes)?;
        self.checksum = update(self.checksum, bytes);
        Ok(())
    }
}

impl Message<'_> {
    /// Returns the number of the kind of message in the FIT profile.
    pub(super) fn kind(&self) -> u16 {
        self.definition.kind
    }

    /// Returns the value of an integer field, or `None` if it is absent, invalid, or not one integer of at most 32
    /// bits.
    pub(super) fn integer(&self, number: u8) -> Option<i64> {
        let field = self.definition.fields.iter().find(|field| field.number == number)?;
        let bytes = self.bytes.get(field.start..field.start + field.length)?;
        let mut wide = [0; 4];
        let low = wide.get_mut(..bytes.len())?;
        low.copy_from_slice(bytes);
        if self.definition.is_big_endian {
            low.reverse();
        }
        let unsigned = u32::from_le_bytes(wide);
        let unused_bits = 32 - 8 * u32::try_from(bytes.len()).ok()?;
        let all_ones = u32::MAX.checked_shr(unused_bits)?;
        // The type of a field says which value means that there is none, and whether it has a sign.
        match (field.base_type, bytes.len()) {
            (0 | 2 | 13, 1) | (4, 2) | (6, 4) if unsigned != all_ones => Some(i64::from(unsigned)),
            (10, 1) | (11, 2) | (12, 4) if unsigned != 0 => Some(i64::from(unsigned)),
            (1, 1) | (3, 2) | (5, 4) if unsigned != all_ones >> 1 => {
                Some(i64::from((unsigned << unused_bits).cast_signed() >> unused_bits))
            }
            _ => None,
        }
    }

    /// Returns the time that the message itself has, not its header.
    pub(super) fn time_of_field(&self) -> Option<u32> {
        u32::try_from(self.integer(TIMESTAMP)?).ok()
    }
}

/// Returns the first time from `last` on whose low `bits` bits are these.
pub(super) fn expand(last: u32, bits: u32, low: u32) -> u32 {
    let mask = (1 << bits) - 1;
    last.wrapping_add(low.wrapping_sub(last) & mask)
}

/// Reads into the whole slice, or returns `false` if the input is at its end.
fn read_or_end(input: &mut impl Read, bytes: &mut [u8; 1]) -> io::Result<bool> {
    loop {
        match input.read(bytes) {
            Ok(length) => return Ok(length > 0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Adds bytes to the checksum of the FIT protocol: a CRC of 16 bits with the polynomial 0xA001.
pub(super) fn update(checksum: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(checksum, |mut checksum, byte| {
        checksum ^= u16::from(*byte);
        for _ in 0..8 {
            let carry = checksum & 1;
            checksum = (checksum >> 1) ^ (0xA001 * carry);
        }
        checksum
    })
}
