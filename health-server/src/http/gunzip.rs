//! Decodes gzip bodies while they arrive.

use std::io;

use async_compression::tokio::bufread::GzipDecoder;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream::BoxStream};
use tokio::{io::AsyncReadExt, task::yield_now};
use tokio_util::io::StreamReader;

use crate::http::body_error::BodyError;

/// The decoded bytes of a gzip body. Several gzip members are one body (RFC 1952, 2.2).
///
/// A read returns at most [`MAX_READ_BYTES`], whatever the compression ratio. The limits on lines and bodies therefore
/// stop a "zip bomb" before it fills the memory.
pub(crate) struct Gunzip<'a>(GzipDecoder<StreamReader<BoxStream<'a, io::Result<Bytes>>, Bytes>>);

/// The size of deflate's window. A larger buffer does not make decoding faster.
const MAX_READ_BYTES: usize = 32 << 10;

impl<'a> Gunzip<'a> {
    /// Decodes the compressed bytes of `frames`.
    pub(crate) fn new(frames: impl Stream<Item = Result<Bytes, BodyError>> + Send + 'a) -> Self {
        let frames = frames.then(|frame| async move {
            if frame.is_err() {
                // The decoder drops what it decoded in the same poll in which its input fails. Yielding before the
                // error makes it return those bytes first, so that every record that has arrived is stored.
                yield_now().await;
            }
            frame.map_err(io::Error::other)
        });
        let mut decoder = GzipDecoder::new(StreamReader::new(frames.boxed()));
        decoder.multiple_members(true);
        Self(decoder)
    }

    /// Returns the next decoded bytes, or `None` at the end. Cancelling the call loses nothing.
    ///
    /// Damaged bytes and a body that ends within a member are an error, after everything that was decoded before.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        let mut decoded = BytesMut::with_capacity(MAX_READ_BYTES);
        match self.0.read_buf(&mut decoded).await? {
            0 => Ok(None),
            _ => Ok(Some(decoded.freeze())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use futures_util::stream;
    use proptest::prelude::*;
    use tokio::runtime::Builder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Decodes frames. Returns the decoded bytes and how the body ended.
    fn decode(frames: impl IntoIterator<Item = Result<Bytes, BodyError>>) -> (Vec<u8>, Result<(), BodyError>) {
        let mut gunzip = Gunzip::new(stream::iter(frames.into_iter().collect::<Vec<_>>()));
        let mut decoded = Vec::new();
        Builder::new_current_thread().build().unwrap().block_on(async {
            loop {
                match gunzip.next().await {
                    Ok(Some(bytes)) => {
                        assert!(bytes.len() <= MAX_READ_BYTES, "{} bytes at once", bytes.len());
                        decoded.extend_from_slice(&bytes);
                    }
                    Ok(None) => return (decoded, Ok(())),
                    Err(error) => return (decoded, Err(error)),
                }
            }
        })
    }

    fn frames(bytes: &[u8], frame_bytes: usize) -> impl Iterator<Item = Result<Bytes, BodyError>> {
        bytes.chunks(frame_bytes).map(|frame| Ok(Bytes::copy_from_slice(frame)))
    }

    proptest! {
        #[test]
        fn members_in_frames_of_any_size_are_one_body(
            members in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..5),
            frame_bytes in 1_usize..400,
        ) {
            let compressed: Vec<_> = members.iter().flat_map(|member| gzip(member)).collect();
            let (decoded, end) = decode(frames(&compressed, frame_bytes));
            prop_assert_eq!(decoded, members.concat());
            prop_assert!(end.is_ok());
        }

        #[test]
        fn damaged_and_truncated_bodies_fail_after_everything_that_came_before(
            first in prop::collection::vec(any::<u8>(), 0..300),
            second in prop::collection::vec(any::<u8>(), 1..300),
            index in any::<prop::sample::Index>(),
            frame_bytes in 1_usize..400,
            truncate in any::<bool>(),
        ) {
            let (mut compressed, mut tail) = (gzip(&first), gzip(&second));
            let index = index.index(tail.len());
            if truncate {
                tail.truncate(index);
            } else {
                tail[index] ^= 0x10;
            }
            compressed.extend_from_slice(&tail);
            let (decoded, end) = decode(frames(&compressed, frame_bytes));
            prop_assert!(decoded.starts_with(&first));
            // A cut between two members is no damage, and gzip ignores some bits. A wrong byte must never pass.
            let whole = decoded == [&first[..], &second].concat();
            prop_assert!(end.is_err() || truncate && index == 0 || !truncate && whole);
        }

        #[test]
        fn any_bytes_come_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..2000), frame_bytes in 1_usize..100) {
            let compressed = [&[0x1f, 0x8b, 8, 0][..], &bytes].concat();
            decode(frames(&compressed, frame_bytes)).1.ok();
        }

        #[test]
        fn a_body_that_breaks_off_yields_first_what_arrived(
            bytes in prop::collection::vec(any::<u8>(), 0..2000),
            frame_bytes in 1_usize..3000,
        ) {
            let broken = BodyError::TimedOut(std::time::Duration::ZERO);
            let (decoded, end) = decode(frames(&gzip(&bytes), frame_bytes).chain([Err(broken)]));
            prop_assert_eq!(decoded, bytes);
            prop_assert!(matches!(end, Err(BodyError::TimedOut(_))));
        }
    }

    #[test]
    fn garbage_after_the_last_member_is_an_error() {
        let compressed = [gzip(b"data"), b"garbage".to_vec()].concat();
        let (decoded, end) = decode(frames(&compressed, 1000));
        assert_eq!((decoded.as_slice(), end.is_err()), (&b"data"[..], true));
    }

    #[test]
    fn an_empty_body_is_an_error() {
        assert!(decode([]).1.is_err());
    }

    #[test]
    fn a_zip_bomb_is_decoded_in_small_portions() {
        let (decoded, end) = decode(frames(&gzip(&vec![0; 100_000_000]), 1 << 20));
        assert_eq!((decoded.len(), end.is_ok()), (100_000_000, true));
    }
}
