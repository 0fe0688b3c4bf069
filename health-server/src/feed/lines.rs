//! Splitting the input of a client into lines.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio_util::codec::Decoder;

/// The longest line that a client may send, without its line end. Fixed by the protocol: 4 KiB hold several hundred
/// user ids.
pub(crate) const LINE_BYTES_MAX: usize = 4 << 10;

/// Decodes lines that end with LF or CRLF. The last line may lack its line end.
///
/// `tokio_util`'s `LinesCodec` does not fit: it fails on bytes that are not UTF-8, but such a line must get an error
/// event of its own.
#[derive(Debug)]
pub(crate) struct LineDecoder;

/// The reason why no further line can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    #[error("a line is longer than {LINE_BYTES_MAX} bytes")]
    TooLong,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Decoder for LineDecoder {
    type Item = Bytes;
    type Error = LineError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, LineError> {
        let end = memchr::memchr(b'\n', buffer);
        let line = &buffer[..end.unwrap_or(buffer.len())];
        if line.strip_suffix(b"\r").unwrap_or(line).len() > LINE_BYTES_MAX {
            return Err(LineError::TooLong);
        }
        Ok(end.map(|end| {
            let mut line = buffer.split_to(end + 1);
            line.truncate(end);
            line.freeze()
        }))
    }

    fn decode_eof(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, LineError> {
        match self.decode(buffer)? {
            None if !buffer.is_empty() => Ok(Some(buffer.split().freeze())),
            line => Ok(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use tokio_util::codec::FramedRead;

    use super::*;

    async fn lines(input: &[u8]) -> (Vec<Bytes>, bool) {
        let mut lines = FramedRead::new(input, LineDecoder);
        let mut complete = Vec::new();
        while let Some(line) = lines.next().await {
            match line {
                Ok(line) => complete.push(line),
                Err(LineError::TooLong) => return (complete, true),
                Err(LineError::Io(error)) => panic!("{error}"),
            }
        }
        (complete, false)
    }

    #[tokio::test]
    async fn lines_end_with_lf_or_with_the_input() {
        let (lines, too_long) = lines(b"one\n\n\xff\ntwo\r\nthree").await;
        assert_eq!(lines, [&b"one"[..], b"", b"\xff", b"two\r", b"three"]);
        assert!(!too_long);
    }

    #[tokio::test]
    async fn a_line_may_have_the_longest_length_and_no_byte_more() {
        let longest = "x".repeat(LINE_BYTES_MAX);
        for end in ["", "\n", "\r\n"] {
            assert_eq!(lines(format!("{longest}{end}").as_bytes()).await.0.len(), 1, "{end:?}");
            let (complete, too_long) = lines(format!("PING\n{longest}x{end}").as_bytes()).await;
            assert_eq!((complete.len(), too_long), (1, true), "{end:?}");
        }
    }
}
