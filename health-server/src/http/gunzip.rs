//! Unfolding gzip a piece at a time.

use std::io::{self, Write};

use bytes::{Buf, Bytes};
use flate2::write::MultiGzDecoder;

/// Bytes of one or several gzip members, which make one body.
///
/// What comes out at once is at most the decoder's buffer (32 KiB), whatever the ratio: a bomb unfolds slowly enough for the
/// limits on lines and bodies to stop it.
#[derive(Debug)]
pub(crate) struct Gunzip {
    decoder: MultiGzDecoder<Vec<u8>>,
    folded: Bytes,
    /// What is wrong, told once everything before it was given out.
    damage: Option<io::Error>,
    finished: bool,
}

impl Gunzip {
    pub(crate) fn new() -> Self {
        Self {
            decoder: MultiGzDecoder::new(Vec::new()),
            folded: Bytes::new(),
            damage: None,
            finished: false,
        }
    }

    /// Goes on with the next compressed bytes. Those before were unfolded: `next` gave none.
    pub(crate) fn push(&mut self, folded: Bytes) {
        debug_assert!(self.folded.is_empty(), "bytes are unfolded before the next come");
        self.folded = folded;
    }

    /// There are no more compressed bytes.
    pub(crate) fn finish(&mut self) {
        if !self.finished && self.damage.is_none() {
            self.damage = self.decoder.try_finish().err();
        }
        self.finished = true;
    }

    /// What comes next; none where more compressed bytes are needed, or all was given out.
    pub(crate) fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let unfolded = self.decoder.get_mut();
            if !unfolded.is_empty() {
                return Ok(Some(std::mem::take(unfolded).into()));
            }
            if let Some(damage) = self.damage.take() {
                // What follows is noise, and nobody will ask for it.
                self.folded.clear();
                return Err(damage);
            }
            if self.folded.is_empty() {
                return Ok(None);
            }
            match self.decoder.write(&self.folded) {
                Ok(taken) => self.folded.advance(taken),
                Err(damage) => self.damage = Some(damage),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    fn fold(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// What comes out of compressed bytes that arrive in pieces of a size, and how that ended.
    fn unfold(folded: &[u8], piece: usize) -> (Vec<u8>, io::Result<()>) {
        let (mut gunzip, mut unfolded) = (Gunzip::new(), Vec::new());
        let mut pieces = folded.chunks(piece);
        let mut finished = false;
        loop {
            match gunzip.next() {
                Ok(Some(bytes)) => {
                    assert!(bytes.len() <= 64 << 10, "{} bytes at once", bytes.len());
                    unfolded.extend_from_slice(&bytes);
                }
                Err(damage) => return (unfolded, Err(damage)),
                Ok(None) if finished => return (unfolded, Ok(())),
                Ok(None) => {
                    if let Some(piece) = pieces.next() {
                        gunzip.push(Bytes::copy_from_slice(piece));
                    } else {
                        gunzip.finish();
                        finished = true;
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn members_in_pieces_of_any_size_are_one_body(
            members in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..5),
            piece in 1_usize..400,
        ) {
            let folded: Vec<_> = members.iter().flat_map(|member| fold(member)).collect();
            let (unfolded, end) = unfold(&folded, piece);
            prop_assert_eq!(unfolded, members.concat());
            prop_assert!(end.is_ok());
        }

        #[test]
        fn what_is_cut_off_or_damaged_is_noticed_behind_what_came_before(
            first in prop::collection::vec(any::<u8>(), 0..300),
            second in prop::collection::vec(any::<u8>(), 1..300),
            place in any::<prop::sample::Index>(),
            piece in 1_usize..400,
            cut in any::<bool>(),
        ) {
            let (mut folded, tail) = (fold(&first), fold(&second));
            let place = place.index(tail.len());
            folded.extend_from_slice(&tail[..if cut { place } else { tail.len() }]);
            if !cut {
                let place = folded.len() - tail.len() + place;
                folded[place] ^= 0x10;
            }
            let (unfolded, end) = unfold(&folded, piece);
            prop_assert!(unfolded.starts_with(&first));
            // A cut between the members cannot be seen, and some bits mean nothing; no wrong byte may pass.
            let whole = unfolded == [&first[..], &second].concat();
            prop_assert!(end.is_err() || cut && place == 0 || !cut && whole);
        }

        #[test]
        fn any_bytes_come_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..2000), piece in 1_usize..100) {
            let folded = [&[0x1f, 0x8b, 8, 0][..], &bytes].concat();
            unfold(&folded, piece).1.ok();
        }
    }

    #[test]
    fn a_bomb_comes_out_in_small_pieces() {
        let (unfolded, end) = unfold(&fold(&vec![0; 100_000_000]), 1 << 20);
        assert_eq!((unfolded.len(), end.is_ok()), (100_000_000, true));
    }
}
