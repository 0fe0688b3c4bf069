//! Lines from a socket, as many at once as have arrived.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest line that is taken: a sample with a source of 64 bytes is below 400. More is not this protocol.
const LINE_MAX_BYTES: usize = 64 * 1024;

/// Read at once at most.
const READ_BYTES: usize = 64 * 1024;

/// A buffered reader of lines that never loses bytes when its future is dropped.
pub(crate) struct Lines<R> {
    from: R,
    buffer: BytesMut,
    /// Bytes of the buffer that hold no line end.
    searched: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(crate) fn new(from: R) -> Self {
        Self {
            from,
            buffer: BytesMut::with_capacity(READ_BYTES),
            searched: 0,
        }
    }

    /// The next line that is there already, without its end.
    pub(crate) fn next_buffered(&mut self) -> Option<BytesMut> {
        let found = self.buffer[self.searched..].iter().position(|b| *b == b'\n');
        let Some(at) = found else {
            self.searched = self.buffer.len();
            return None;
        };
        let at = self.searched + at;
        let mut line = self.buffer.split_to(at);
        self.buffer.advance(1);
        self.searched = 0;
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        Some(line)
    }

    /// Waits for more. False at the end of the stream. Safe to cancel.
    pub(crate) async fn fill(&mut self) -> io::Result<bool> {
        if self.buffer.len() > LINE_MAX_BYTES && self.searched == self.buffer.len() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a line of more than {LINE_MAX_BYTES} bytes: is this the feed's port?"),
            ));
        }
        self.buffer.reserve(READ_BYTES);
        Ok(self.from.read_buf(&mut self.buffer).await? > 0)
    }

    /// The next line, waiting for it; none at the end of the stream.
    pub(crate) async fn next(&mut self) -> io::Result<Option<BytesMut>> {
        loop {
            if let Some(line) = self.next_buffered() {
                return Ok(Some(line));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_with_either_end_and_no_endless_one() {
        let mut lines = Lines::new(&b"a\r\nbc\n\nrest"[..]);
        let mut got = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            got.push(String::from_utf8(line.to_vec()).unwrap());
        }
        assert_eq!(got, ["a", "bc", ""]);
        let endless = vec![b'x'; 1_000_000];
        assert!(Lines::new(endless.as_slice()).next().await.is_err());
    }
}
