//! FIT files for tests.

/// A FIT file that is being written.
#[derive(Debug, Clone, Default)]
pub struct FitFile {
    messages: Vec<u8>,
}

/// A value of a field, with its type.
#[derive(Debug, Clone, Copy)]
pub enum FitValue {
    /// An enumeration or a small number; 255 is none.
    U8(u8),
    /// 65535 is none.
    U16(u16),
    /// 4294967295 is none.
    U32(u32),
    /// A byte without a meaning of its own.
    Byte(u8),
}

impl FitFile {
    /// Adds a definition and one message of it. `kind` is the global number of the message, each field has its number.
    #[must_use]
    pub fn message(mut self, kind: u16, fields: &[(u8, FitValue)]) -> Self {
        self.messages.extend([0x40, 0, 0]);
        self.messages.extend(kind.to_le_bytes());
        self.messages.push(u8::try_from(fields.len()).unwrap_or(u8::MAX));
        for (number, value) in fields {
            let (size, base_type) = match value {
                FitValue::U8(_) => (1, 0x02),
                FitValue::U16(_) => (2, 0x84),
                FitValue::U32(_) => (4, 0x86),
                FitValue::Byte(_) => (1, 0x0D),
            };
            self.messages.extend([*number, size, base_type]);
        }
        self.messages.push(0);
        for (_, value) in fields {
            match value {
                FitValue::U8(value) | FitValue::Byte(value) => self.messages.push(*value),
                FitValue::U16(value) => self.messages.extend(value.to_le_bytes()),
                FitValue::U32(value) => self.messages.extend(value.to_le_bytes()),
            }
        }
        self
    }

    /// Adds bytes of the protocol as they are.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.messages.extend_from_slice(bytes);
        self
    }

    /// Returns the whole file, with its header and its checksum.
    pub fn finish(self) -> Vec<u8> {
        let mut file = vec![14, 0x10, 0, 0];
        file.extend(u32::try_from(self.messages.len()).unwrap_or(u32::MAX).to_le_bytes());
        file.extend(b".FIT");
        file.extend(checksum(&file).to_le_bytes());
        file.extend(self.messages);
        file.extend(checksum(&file).to_le_bytes());
        file
    }
}

/// Returns the checksum of the protocol: a CRC of 16 bits with the polynomial 0x8005, its bits reversed.
fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |checksum, byte| {
        (0..8).fold(checksum ^ u16::from(*byte), |checksum, _| {
            (checksum >> 1) ^ if checksum & 1 == 1 { 0xA001 } else { 0 }
        })
    })
}
