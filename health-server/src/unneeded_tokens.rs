//! A warning about clients that send a token although the database never had one.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

/// Warns that clients send tokens which this server ignores.
///
/// Tokens are in the database. If it is another one than before, or is new after a loss, the server serves everybody
/// who can reach it, and nothing else would say so.
#[derive(Debug)]
pub(crate) struct UnneededTokens {
    started: Instant,
    /// Seconds after the start before which no further warning is written.
    quiet_until: AtomicU64,
}

/// The shortest time between two warnings: devices send their token with each request.
const PAUSE: Duration = Duration::from_hours(1);

impl Default for UnneededTokens {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            quiet_until: AtomicU64::new(0),
        }
    }
}

impl UnneededTokens {
    /// Writes the warning, unless one was written within the last hour. It never shows the token.
    pub(crate) fn warn(&self, peer: IpAddr) {
        if self.is_due(Instant::now()) {
            tracing::warn!(
                %peer,
                "a client sent a token, but no token was ever created in this database, so the token is ignored and every client may \
                 read, write and erase. If there were tokens before, this is another database, or a new one after a loss: check \
                 --database-url and --data-dir, or restore a backup. Otherwise `health-server token create` makes the first one."
            );
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        let now = now.saturating_duration_since(self.started).as_secs();
        let quiet_until = self.quiet_until.load(Relaxed);
        // Of several clients at once, one changes the value.
        now >= quiet_until
            && self
                .quiet_until
                .compare_exchange(quiet_until, now + PAUSE.as_secs(), Relaxed, Relaxed)
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_is_written_at_once_and_then_once_an_hour() {
        let tokens = UnneededTokens::default();
        let start = tokens.started;
        assert!(tokens.is_due(start));
        assert!(!tokens.is_due(start));
        assert!(!tokens.is_due(start + PAUSE - Duration::from_secs(1)));
        assert!(tokens.is_due(start + PAUSE));
        assert!(!tokens.is_due(start + PAUSE));
    }
}
