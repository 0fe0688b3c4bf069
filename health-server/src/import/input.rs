//! Opening files, more than once if a format needs it, and unpacking gzip.

use std::{
    fs::File,
    io::{self, BufReader, Cursor, Read, Seek},
    sync::Arc,
};

use flate2::bufread::MultiGzDecoder;

use super::progress::Progress;

/// How often a file may be packed: `.fit.gz` in an archive is packed once.
const GZIP_LAYERS_MAX: usize = 2;

/// The size of the buffers of packed bytes.
const BUFFER_BYTES: usize = 64 << 10;

/// Something that can be read from its start, several times.
pub(super) trait Reopen {
    /// Opens it at its start.
    fn open(&mut self) -> io::Result<Box<dyn Read + '_>>;
}

/// A file that counts what is read.
pub(super) struct WholeFile {
    pub(super) file: File,
    pub(super) progress: Arc<Progress>,
    /// Bytes that the progress has counted.
    pub(super) counted: u64,
    /// Whether reading goes on.
    pub(super) goes_on: Box<dyn Fn() -> bool + Send>,
}

impl Read for WholeFile {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if !(self.goes_on)() {
            return Err(io::Error::other("the import has ended"));
        }
        let length = self.file.read(bytes)?;
        let count = u64::try_from(length).unwrap_or(u64::MAX);
        self.progress.add_read(count);
        self.counted += count;
        Ok(length)
    }
}

impl Seek for WholeFile {
    fn seek(&mut self, position: io::SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}

impl Reopen for WholeFile {
    fn open(&mut self) -> io::Result<Box<dyn Read + '_>> {
        // A pipe can be read once.
        if self.counted > 0 {
            self.file.rewind()?;
            self.progress.take_back(self.counted);
            self.counted = 0;
        }
        Ok(Box::new(self))
    }
}

impl Reopen for File {
    fn open(&mut self) -> io::Result<Box<dyn Read + '_>> {
        self.rewind()?;
        Ok(Box::new(self))
    }
}

/// Opens something and unpacks gzip. Returns its first bytes, and all of its bytes.
pub(super) fn open_unpacked(input: &mut dyn Reopen, start_bytes: u64) -> io::Result<(Vec<u8>, Box<dyn Read + '_>)> {
    let mut input = input.open()?;
    for _ in 0..GZIP_LAYERS_MAX {
        let (start, whole) = peek(input, 2)?;
        input = whole;
        if start != [0x1F, 0x8B] {
            break;
        }
        input = Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, input)));
    }
    peek(input, start_bytes)
}

/// Returns the first bytes, and all of the bytes. An error after the first byte is left to the reader.
fn peek<'a>(mut input: Box<dyn Read + 'a>, length: u64) -> io::Result<(Vec<u8>, Box<dyn Read + 'a>)> {
    let mut start = Vec::new();
    let end = (&mut input).take(length).read_to_end(&mut start);
    let rest: Box<dyn Read + 'a> = match end {
        Ok(_) => input,
        Err(error) if start.is_empty() => return Err(error),
        Err(error) => Box::new(Failed(Some(error))),
    };
    Ok((start.clone(), Box::new(Cursor::new(start).chain(rest))))
}

/// An input that has failed.
struct Failed(Option<io::Error>);

impl Read for Failed {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}
