//! A request as the queue and the writers see it, and the channel for its answer.

use std::sync::Arc;

use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::Instant,
};

use crate::{
    batch::Receipt,
    error::Error,
    ingest::positions::Positions,
    sample::{Sample, UserId},
};

/// Samples of one call and one shard.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) samples: Vec<Sample>,
    /// Where the samples stand in the call.
    pub(crate) positions: Positions,
    /// After this moment the caller no longer waits for the outcome.
    pub(crate) deadline: Instant,
    pub(crate) ack: AnswerSender,
    /// The permits of the whole call, which its requests share. The last one returns them.
    pub(super) permits: Arc<OwnedSemaphorePermit>,
}

/// Where the answer to a request goes.
pub(crate) type AnswerSender = oneshot::Sender<Result<Receipt, Error>>;

/// The receiver of the answer to a request.
pub(crate) type Answer = oneshot::Receiver<Result<Receipt, Error>>;

impl Request {
    /// The users of its samples, with repetitions.
    pub(super) fn users(&self) -> impl Iterator<Item = UserId> {
        self.samples.iter().map(Sample::user_id)
    }

    /// Divides a request into two, each with its own answer. Also returns where the answer to the whole goes.
    pub(crate) fn halves(self) -> (AnswerSender, [(Request, Answer); 2]) {
        let Self {
            mut samples,
            positions,
            deadline,
            ack,
            permits,
        } = self;
        let middle = samples.len() / 2;
        let second = samples.split_off(middle);
        let half = |samples: Vec<Sample>, first| {
            let (ack, answer) = oneshot::channel();
            let request = Request {
                positions: positions.of_part(first, samples.len()),
                samples,
                deadline,
                ack,
                permits: Arc::clone(&permits),
            };
            (request, answer)
        };
        (ack, [half(samples, 0), half(second, middle)])
    }
}
