//! What became of the parts of a call.

use crate::{
    batch::Receipt,
    error::{Error, Refused},
};

/// The sum of the answers to the parts of a call.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    stored: Receipt,
    refused: Option<Refused>,
}

impl Outcome {
    /// Adds the answer to one part.
    ///
    /// # Errors
    /// The error of the part, unless the database only refused some samples of it.
    pub(crate) fn add(&mut self, answer: Result<Receipt, Error>) -> Result<(), Error> {
        match answer {
            Ok(receipt) => self.stored += receipt,
            Err(Error::SamplesRefused(part)) => {
                self.stored += part.stored;
                match &mut self.refused {
                    Some(refused) => refused.positions.extend(part.positions),
                    None => self.refused = Some(part),
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Returns the answer to the whole call.
    ///
    /// # Errors
    /// [`Error::SamplesRefused`] if the database refused some samples.
    pub(crate) fn finish(self) -> Result<Receipt, Error> {
        let Self { stored, refused } = self;
        let Some(mut refused) = refused else {
            return Ok(stored);
        };
        refused.positions.sort_unstable();
        Err(Error::SamplesRefused(Refused { stored, ..refused }))
    }
}
