//! The client of the live feed. It subscribes, resumes after the last processed sample and reconnects after every
//! failure.
//!
//! These rules make it complete; a client in another language needs them too:
//!
//! 1. **The position in the first `hello` is a resume point.** A connection that is lost before its first event resumes
//!    there. That in a later `hello` is the present end of the feed, and skips what was missed.
//! 2. **The resume point moves when a sample is processed,** not when it is received. Otherwise a crash loses samples.
//!    `subscribed` with `"resumed": false` and heartbeats move it too.
//! 3. **Reconnect with the resume point,** however the connection ended.
//! 4. **Treat silence as a lost connection.** The server sends an event at least every five seconds.
//! 5. **Resume after `lagged`** from the cursor it names. Ignore what arrives before the server has confirmed that.
//! 6. **Apply `erased` among the samples, in the order of the events:** drop what you hold of it. Samples that come
//!    later are stored.
//! 7. **Report `"resumed": false`.** Samples may be missing, and the server cannot send them any more.
//!
//! The server may repeat samples, for example after a reconnect.

mod connection;
#[cfg(test)]
mod tests;

use std::{io, time::Duration};

use tokio::time::{Instant, sleep_until};

use self::connection::{Connection, Received};
use super::{
    api_token::{ApiToken, TokenError},
    backoff,
    tls::{Tls, TlsFault},
    transport::{self, ConnectError},
};
use crate::{
    erasure::Erasure,
    sample::Sample,
    wire::{Cursor, FEED_PROTOCOL, FeedEvent},
};

/// The largest number of samples in one update. A dashboard can apply that many between two frames.
const SAMPLES_AT_ONCE: usize = 1_024;

/// How to reach the feed, and what to ask it for.
#[derive(Clone, Debug, Default)]
pub struct FeedOptions {
    /// `host:port`.
    pub address: String,
    /// The API token, if the server requires one.
    pub token: Option<ApiToken>,
    /// The trusted authorities. `None` means plain text.
    pub tls: Option<Tls>,
    /// The users as the feed writes them: `101,202`. `None` means all.
    pub users: Option<String>,
    /// At most one sample of each user in this many milliseconds: the newest.
    pub every_milliseconds: Option<u64>,
    /// The cursor to start after. `None` starts at the present.
    pub after: Option<Cursor>,
    /// After `lagged`, ask for the skipped samples at most this often. With zero, the default, no sample is left out.
    ///
    /// A slow dashboard would only ever see old samples if it asked each time.
    pub lag_resume_interval: Duration,
}

/// What happened on the feed.
#[derive(Debug)]
#[non_exhaustive]
pub enum FeedUpdate {
    /// An attempt to connect begins. The first attempt has the number 1.
    Connecting {
        /// The number of the attempt since the last connection.
        attempt: u32,
    },
    /// The server has accepted the subscription. After `lagged`, this update comes again only if samples may be
    /// missing.
    Connected {
        /// `Some(true)`: nothing is missing since the resume point. `Some(false)`: samples may be missing. `None`: the
        /// first connection, without a resume point.
        resumed: Option<bool>,
        /// Why samples may be missing.
        reason: Option<String>,
    },
    /// Samples in the order of the feed.
    Samples(Vec<Sample>),
    /// Samples were erased: drop what you hold of them. Samples of later updates are stored.
    Erased(Erasure),
    /// The server is alive: it sends this every five seconds.
    Heartbeat,
    /// The server skipped samples, because this client reads too slowly.
    Lagged {
        /// The number of skipped samples.
        missed: u64,
        /// Whether the client has asked for them again.
        is_requested: bool,
    },
    /// The server has sent nothing for this long, not even a heartbeat.
    Silent {
        /// The time since the last event.
        elapsed: Duration,
    },
    /// The server has sent something again after a silence.
    Recovered,
    /// There is no connection. The next attempt begins after `retry_in`.
    Disconnected {
        /// The number of failed attempts in a row.
        attempt: u32,
        /// Why there is no connection.
        reason: FeedError,
        /// The pause before the next attempt.
        retry_in: Duration,
    },
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// The operating system reports an error.
    #[error("{}", transport::without_error_code(.0))]
    Io(#[source] io::Error),
    /// The server sent nothing for 15 seconds, or no greeting within 5 seconds.
    #[error("no answer")]
    Silent,
    /// The other program does not speak the protocol of the feed.
    #[error("not the feed of a health-server: check --feed")]
    NotAFeed,
    /// The server speaks another version of the protocol.
    #[error("the server speaks {0}, and this program {FEED_PROTOCOL}: update the older of the two")]
    OtherProtocol(String),
    /// A line is too long for an event.
    #[error("a line of more than {} bytes: check --feed", connection::LINE_BYTES_MAX)]
    LineTooLong,
    /// The server requires a token, and there is none.
    #[error("a token is needed: set HEALTH_TOKEN or use --token-file")]
    TokenNeeded,
    /// The server refuses the token: it is unknown, was revoked, has expired, or does not permit this.
    #[error("{0}: use another token (`health-server token create --name NAME --scope read`)")]
    TokenRefused(String),
    /// The token cannot be sent.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The TLS handshake failed.
    #[error(transparent)]
    Tls(TlsFault),
    /// The server refuses the subscription.
    #[error("{0}")]
    Refused(String),
    /// The server has no free connection at the moment.
    #[error("{0}")]
    Busy(String),
    /// The connection ended without a reason.
    #[error("the server closed the connection")]
    Closed,
    /// The server said why it closes the connection.
    #[error("the server says: {0}")]
    Bye(String),
}

impl FeedError {
    /// Returns whether another attempt cannot succeed, unless somebody changes the options or the server.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::OtherProtocol(_) | Self::TokenNeeded | Self::TokenRefused(_) | Self::Token(_) | Self::Refused(_)
        )
    }

    /// Returns whether a program that was never connected should give up: its options do not fit the server.
    ///
    /// A program that was connected goes on, because a certificate may be renewed.
    pub fn is_final_at_first(&self) -> bool {
        self.is_final() || matches!(self, Self::Tls(_))
    }
}

impl From<ConnectError> for FeedError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Io(error) => Self::Io(error),
            ConnectError::Tls(fault) => Self::Tls(fault),
        }
    }
}

/// A client of the live feed, over all of its connections.
#[derive(Debug)]
pub struct FeedClient {
    options: FeedOptions,
    state: State,
    /// Every sample before this point is processed.
    cursor: Option<Cursor>,
    /// The resume point as soon as the last update is processed.
    cursor_of_update: Option<Cursor>,
    /// The number of failed attempts since the last connection.
    failures: u32,
    /// When the client has last asked for skipped samples.
    resumed_at: Option<Instant>,
}

#[derive(Debug)]
enum State {
    /// No connection before this time.
    Waiting {
        until: Instant,
    },
    /// A connection is being opened.
    Opening,
    Open(Box<Connection>),
}

impl FeedClient {
    /// Creates a client. It connects at the first call of [`FeedClient::next`].
    pub fn new(options: FeedOptions) -> Self {
        Self {
            cursor: options.after.clone(),
            options,
            state: State::Waiting { until: Instant::now() },
            cursor_of_update: None,
            failures: 0,
            resumed_at: None,
        }
    }

    /// Returns the cursor to continue after: every sample before it is processed. `None` before the first connection.
    pub fn cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref()
    }

    /// Ends the pause before the next attempt to connect.
    pub fn retry_now(&mut self) {
        if let State::Waiting { until } = &mut self.state {
            *until = Instant::now();
        }
    }

    /// Returns the next update. Calling it means that the last update is processed.
    ///
    /// If the future is dropped before it is ready, nothing is lost.
    pub async fn next(&mut self) -> FeedUpdate {
        if let Some(cursor) = self.cursor_of_update.take() {
            self.cursor = Some(cursor);
        }
        loop {
            match &mut self.state {
                State::Waiting { until } => {
                    sleep_until(*until).await;
                    self.state = State::Opening;
                    return FeedUpdate::Connecting {
                        attempt: self.failures + 1,
                    };
                }
                State::Opening => match transport::connect(&self.options.address, self.options.tls.as_ref()).await {
                    Ok(stream) => self.state = State::Open(Box::new(Connection::new(stream))),
                    Err(error) => return self.disconnected(error.into(), false),
                },
                State::Open(connection) => {
                    let received = connection.receive().await;
                    match received.and_then(|received| self.handle(received)) {
                        Ok(Some(update)) => return update,
                        Ok(None) => {}
                        Err(reason) => {
                            let was_subscribed = self.connection().is_some_and(|open| open.was_subscribed);
                            return self.disconnected(reason, was_subscribed);
                        }
                    }
                }
            }
        }
    }

    fn connection(&mut self) -> Option<&mut Connection> {
        match &mut self.state {
            State::Open(connection) => Some(connection),
            _ => None,
        }
    }

    fn disconnected(&mut self, reason: FeedError, was_subscribed: bool) -> FeedUpdate {
        self.failures = if was_subscribed {
            1
        } else {
            self.failures.saturating_add(1)
        };
        // Somebody must change something first. Asking often would only load the server.
        let retry_in = if reason.is_final() {
            backoff::DELAY_MAX
        } else {
            backoff::delay(self.failures, fastrand::f64())
        };
        self.state = State::Waiting {
            until: Instant::now() + retry_in,
        };
        FeedUpdate::Disconnected {
            attempt: self.failures,
            reason,
            retry_in,
        }
    }

    fn handle(&mut self, received: Received) -> Result<Option<FeedUpdate>, FeedError> {
        Ok(match received {
            Received::Event(event) => self.handle_event(event)?,
            Received::Silent { elapsed } => Some(FeedUpdate::Silent { elapsed }),
            Received::Recovered => Some(FeedUpdate::Recovered),
        })
    }

    fn handle_event(&mut self, event: FeedEvent) -> Result<Option<FeedUpdate>, FeedError> {
        let State::Open(connection) = &mut self.state else {
            return Ok(None);
        };
        match event {
            FeedEvent::Hello {
                protocol, auth, cursor, ..
            } => {
                if protocol != FEED_PROTOCOL {
                    return Err(FeedError::OtherProtocol(protocol.into_owned()));
                }
                if auth {
                    let token = self.options.token.as_ref().ok_or(FeedError::TokenNeeded)?;
                    let command = format!("AUTH {}", token.secret()?);
                    connection.send(&command);
                }
                connection.is_first = self.cursor.is_none();
                self.cursor.get_or_insert_with(|| cursor.clone());
                connection.hello_cursor = Some(cursor);
                self.subscribe();
            }
            FeedEvent::Subscribed { resumed, reason } => return Ok(self.subscribed(resumed, reason)),
            FeedEvent::Error { reason } if connection.hello_cursor.is_none() && !connection.was_subscribed => {
                return Err(FeedError::Busy(reason));
            }
            // A refused AUTH and a refused SUBSCRIBE are the same event. Only the remedy depends on the sentence.
            FeedEvent::Error { reason } if reason.starts_with("the token ") => {
                return Err(FeedError::TokenRefused(reason));
            }
            FeedEvent::Error { reason } => return Err(FeedError::Refused(reason)),
            FeedEvent::Bye { reason } => return Err(FeedError::Bye(reason)),
            // The event belongs to the subscription that a new SUBSCRIBE has replaced.
            _ if connection.is_subscribing => {}
            FeedEvent::Sample { cursor, sample } => return Ok(Some(self.samples(cursor, sample))),
            FeedEvent::Erased { cursor, erasure } => {
                self.cursor_of_update = Some(cursor);
                return Ok(Some(FeedUpdate::Erased(erasure)));
            }
            FeedEvent::Heartbeat { cursor, .. } => {
                self.cursor = Some(cursor);
                return Ok(Some(FeedUpdate::Heartbeat));
            }
            FeedEvent::Lagged { missed, cursor } => return Ok(Some(self.lagged(missed, cursor))),
            _ => {}
        }
        Ok(None)
    }

    fn subscribed(&mut self, resumed: bool, reason: Option<String>) -> Option<FeedUpdate> {
        let State::Open(connection) = &mut self.state else {
            return None;
        };
        connection.is_subscribing = false;
        let is_again = std::mem::replace(&mut connection.was_subscribed, true);
        if !resumed && let Some(cursor) = connection.hello_cursor.take() {
            // The server will refuse the old resume point again.
            self.cursor = Some(cursor);
        }
        let is_first = std::mem::take(&mut connection.is_first);
        (!is_again || !resumed).then_some(FeedUpdate::Connected {
            resumed: (!is_first || !resumed).then_some(resumed),
            reason,
        })
    }

    /// Collects the samples that have already arrived.
    fn samples(&mut self, cursor: Cursor, sample: Sample) -> FeedUpdate {
        let (mut cursor, mut samples) = (cursor, vec![sample]);
        if let State::Open(connection) = &mut self.state {
            while samples.len() < SAMPLES_AT_ONCE
                && let Some((next_cursor, sample)) = connection.waiting_sample()
            {
                cursor = next_cursor;
                samples.push(sample);
            }
        }
        self.cursor_of_update = Some(cursor);
        FeedUpdate::Samples(samples)
    }

    fn lagged(&mut self, missed: u64, cursor: Cursor) -> FeedUpdate {
        let interval = self.options.lag_resume_interval;
        let is_requested = self.resumed_at.is_none_or(|at| at.elapsed() >= interval);
        if is_requested {
            self.resumed_at = Some(Instant::now());
            self.cursor = Some(cursor);
            self.subscribe();
        }
        FeedUpdate::Lagged { missed, is_requested }
    }

    /// Sends SUBSCRIBE with the user's options and the resume point.
    fn subscribe(&mut self) {
        let options = [
            self.options.users.as_ref().map(|users| format!(" users={users}")),
            self.options
                .every_milliseconds
                .map(|milliseconds| format!(" every={milliseconds}")),
            self.cursor.as_ref().map(|cursor| format!(" after={cursor}")),
        ];
        let options: String = options.into_iter().flatten().collect();
        if let Some(connection) = self.connection() {
            connection.is_subscribing = true;
            connection.send(&format!("SUBSCRIBE{options}"));
        }
    }
}
