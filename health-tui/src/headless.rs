//! The feed without a dashboard: readings to whoever takes them, the connection's story on stderr, until interrupted.

use std::{
    io::{self, Write},
    sync::Arc,
};

use health_core::Sample;
use tokio::sync::{Notify, mpsc};

use crate::{
    app::{FeedNews, Net},
    error::Error,
    net::{Feed, FeedOptions},
    options::Options,
    signals,
};

/// Batches between the connection and the taker; when they are full the connection waits, and the server says what it had
/// to skip.
const BATCHES_MAX: usize = 16;

/// Gives all readings to `take`, in the order of the feed, until it fails or a signal means the end. The connection comes
/// back by itself, behind the last reading; what the server sends twice for that is taken twice.
pub(crate) async fn run(options: &Options, mut take: impl FnMut(&[Sample]) -> Result<(), Error>) -> Result<(), Error> {
    let (to, mut from) = mpsc::channel(BATCHES_MAX);
    let feed = FeedOptions {
        addr: options.feed.clone(),
        token: options.token.clone(),
        lossless: true,
    };
    let stop = signals::stop().map_err(Error::Terminal)?;
    tokio::pin!(stop);
    let feed = tokio::spawn(Feed::new(feed, to, Arc::new(Notify::new())).run());
    let ended = loop {
        let net = tokio::select! {
            // The end is not kept waiting by a flood.
            biased;
            () = &mut stop => break Ok(()),
            net = from.recv() => net,
        };
        let taken = match net {
            Some(Net::Samples(batch)) => take(&batch.samples),
            Some(Net::Feed(news)) => {
                tell(&news);
                Ok(())
            }
            Some(Net::Answer { .. }) => Ok(()),
            None => break Ok(()),
        };
        if taken.is_err() {
            break taken;
        }
    };
    feed.abort();
    ended
}

fn tell(news: &FeedNews) {
    let text = match news {
        FeedNews::Connecting { .. } | FeedNews::Quiet { .. } | FeedNews::Heard => return,
        FeedNews::Connected {
            resumed: Some(false), ..
        } => "connected; samples may be missing".to_owned(),
        FeedNews::Connected { .. } => "connected".to_owned(),
        FeedNews::Waiting { attempt, why, delay } => {
            format!(
                "not connected (attempt {attempt}: {why}); retry in {:.1} s",
                delay.as_secs_f64()
            )
        }
        FeedNews::Lagged { missed } => format!("{missed} samples were skipped"),
        FeedNews::Refused { reason } => format!("the feed says: {reason}"),
        FeedNews::Replaying { what } => what.clone(),
    };
    // With stderr closed there is nobody to tell.
    _ = writeln!(io::stderr(), "{text}");
}
