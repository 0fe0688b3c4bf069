//! Counts what clients were refused, and writes audit lines about it, in bounded number.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use health_core::{
    UserId,
    access::{AccessDenied, NotAuthenticated},
};
use parking_lot::Mutex;
use tokio::time::{Instant, interval};

use crate::addresses::network;

/// Why a client was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum RefusalReason {
    /// It sent no token.
    Missing,
    /// No token has the secret that it sent, or that token was revoked.
    Wrong,
    /// Its token has expired.
    Expired,
    /// Its token lacks a scope.
    Scope,
    /// Its token is limited to other users.
    User,
    /// Its token has used up its rate.
    Rate,
    /// Without tokens: the request names another host.
    Host,
    /// Without tokens: a page of another origin sent the request.
    Origin,
}

/// What a client tries, and from where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt {
    /// The method of an HTTP request, or a command of the feed.
    pub(crate) verb: &'static str,
    /// The path of the endpoint, without values; empty for the feed.
    pub(crate) route: &'static str,
    pub(crate) peer: IpAddr,
}

/// One refusal, as an audit line reports it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal<'a> {
    pub(crate) attempt: Attempt,
    pub(crate) reason: RefusalReason,
    /// The name of the token, if it is known.
    pub(crate) token: Option<&'a str>,
    /// The first user whom the token may not access.
    pub(crate) user: Option<UserId>,
    /// How many records of an upload were refused.
    pub(crate) records: Option<u64>,
}

/// The refusals of one server.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    counts: [AtomicU64; RefusalReason::ALL.len()],
    recent: Mutex<Recent>,
}

/// Refusals of the last minute, so that the log stays bounded while a client tries thousands of times a second.
#[derive(Debug, Default)]
struct Recent {
    windows: HashMap<WindowKey, Window>,
    /// Refusals without a window, because there are [`WINDOWS_MAX`].
    untold: u64,
}

/// What refusals have in common that one audit line sums up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct WindowKey {
    pub(crate) network: IpAddr,
    pub(crate) reason: RefusalReason,
    pub(crate) token: Option<Box<str>>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    refusals: u64,
}

/// Refusals with a line of their own, for each address, reason, token and minute. One line then sums up the others.
const LINES_MAX: u64 = 10;

/// The time that one line sums up.
const WINDOW: Duration = Duration::from_mins(1);

/// Windows at a time. Each takes about 100 bytes. They bound the log to some 11 000 lines a minute; the refusals of all
/// further addresses are summed up in one line.
const WINDOWS_MAX: usize = 1_000;

/// How often ended windows are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

impl Refusals {
    /// Counts a refusal. Writes an audit line, unless there were many of the same kind within a minute.
    pub(crate) fn add(&self, refusal: &Refusal<'_>) {
        for (reason, count) in RefusalReason::ALL.iter().zip(&self.counts) {
            if *reason == refusal.reason {
                count.fetch_add(1, Relaxed);
            }
        }
        if self.recent.lock().admit(refusal, Instant::now()) {
            log_refused(refusal);
        }
    }

    /// Returns how many clients were refused for each reason.
    pub(crate) fn counts(&self) -> Vec<(&'static str, u64)> {
        let counts = RefusalReason::ALL.iter().zip(&self.counts);
        counts
            .map(|(reason, count)| (reason.name(), count.load(Relaxed)))
            .collect()
    }

    /// Sums up what had no line of its own, for ever.
    pub(crate) async fn sum_up(&self) {
        let mut sweep = interval(SWEEP_INTERVAL);
        loop {
            sweep.tick().await;
            let now = Instant::now();
            self.sum_up_windows(|window| now - window.began >= WINDOW);
        }
    }

    /// Sums up everything that had no line of its own, at the end.
    pub(crate) fn sum_up_all(&self) {
        self.sum_up_windows(|_| true);
    }

    fn sum_up_windows(&self, is_over: impl Fn(&Window) -> bool) {
        let (summaries, untold) = self.recent.lock().take(is_over);
        for (key, refusals) in &summaries {
            log_refused_more(key, *refusals);
        }
        if untold > 0 {
            log_refused_others(untold);
        }
    }
}

impl Recent {
    /// Counts a refusal. Returns whether it gets a line of its own.
    fn admit(&mut self, refusal: &Refusal<'_>, now: Instant) -> bool {
        let key = WindowKey {
            network: network(refusal.attempt.peer),
            reason: refusal.reason,
            token: refusal.token.map(Into::into),
        };
        if self.windows.len() >= WINDOWS_MAX && !self.windows.contains_key(&key) {
            self.untold += 1;
            return false;
        }
        let window = self.windows.entry(key).or_insert(Window {
            began: now,
            refusals: 0,
        });
        window.refusals += 1;
        window.refusals <= LINES_MAX
    }

    /// Removes the windows that are over. Returns how many refusals of each had no line, and those without a window.
    fn take(&mut self, is_over: impl Fn(&Window) -> bool) -> (Vec<(WindowKey, u64)>, u64) {
        let ended = self.windows.extract_if(|_, window| is_over(window));
        let untold = ended.map(|(key, window)| (key, window.refusals.saturating_sub(LINES_MAX)));
        let summaries = untold.filter(|(_, refusals)| *refusals > 0).collect();
        (summaries, std::mem::take(&mut self.untold))
    }
}

impl RefusalReason {
    /// All reasons, in the order of their declaration.
    const ALL: [Self; 8] = [
        Self::Missing,
        Self::Wrong,
        Self::Expired,
        Self::Scope,
        Self::User,
        Self::Rate,
        Self::Host,
        Self::Origin,
    ];

    /// Returns the name in metrics and audit lines.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing_token",
            Self::Wrong => "wrong_token",
            Self::Expired => "expired_token",
            Self::Scope => "scope",
            Self::User => "user",
            Self::Rate => "rate",
            Self::Host => "host",
            Self::Origin => "origin",
        }
    }
}

impl From<NotAuthenticated> for RefusalReason {
    fn from(reason: NotAuthenticated) -> Self {
        match reason {
            NotAuthenticated::Missing => Self::Missing,
            NotAuthenticated::Expired => Self::Expired,
            _ => Self::Wrong,
        }
    }
}

impl<'a> Refusal<'a> {
    /// A refusal with nothing but a reason.
    pub(crate) fn new(attempt: Attempt, reason: RefusalReason) -> Self {
        Self {
            attempt,
            reason,
            token: None,
            user: None,
            records: None,
        }
    }

    /// The refusal of something that a token does not permit.
    pub(crate) fn of_token(attempt: Attempt, token: &'a str, denied: &AccessDenied) -> Self {
        let (reason, user) = match denied {
            AccessDenied::User { user, .. } => (RefusalReason::User, Some(*user)),
            _ => (RefusalReason::Scope, None),
        };
        Self {
            token: Some(token),
            user,
            ..Self::new(attempt, reason)
        }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.verb)?;
        if self.route.is_empty() {
            Ok(())
        } else {
            write!(f, " {}", self.route)
        }
    }
}

/// Writes the audit line of one refusal.
fn log_refused(refusal: &Refusal<'_>) {
    let Refusal {
        attempt,
        reason,
        token,
        user,
        records,
    } = refusal;
    let (reason, peer, user) = (reason.name(), attempt.peer, user.map(UserId::get));
    tracing::info!(target: "audit", action = "refuse", reason, what = %attempt, token, %peer, user, records, "refused a client");
}

/// Writes how often clients of one network were refused beside those with a line.
fn log_refused_more(key: &WindowKey, refusals: u64) {
    let WindowKey { network, reason, token } = key;
    let (reason, token) = (reason.name(), token.as_deref());
    tracing::info!(
        target: "audit", action = "refuse", reason, token, peer = %network, refusals,
        "refused clients of this network, beside those with a line of their own"
    );
}

/// Writes how often clients of further networks were refused, without a line for each.
fn log_refused_others(refusals: u64) {
    tracing::info!(target: "audit", action = "refuse", refusals, "refused clients of further networks");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal<'a>(peer: &str, reason: RefusalReason, token: Option<&'a str>) -> Refusal<'a> {
        let attempt = Attempt {
            verb: "GET",
            route: "/users",
            peer: peer.parse().unwrap(),
        };
        Refusal {
            token,
            ..Refusal::new(attempt, reason)
        }
    }

    #[test]
    fn the_first_refusals_of_a_minute_have_lines_and_one_line_has_the_number_of_the_others() {
        let mut recent = Recent::default();
        let now = Instant::now();
        let mut lines = |peer, reason, token| {
            let refusal = refusal(peer, reason, token);
            (0..1000).filter(|_| recent.admit(&refusal, now)).count()
        };
        // One network, then others by address, reason or token.
        assert_eq!(lines("2001:db8::1", RefusalReason::Wrong, None), 10);
        assert_eq!(lines("2001:db8::2", RefusalReason::Wrong, None), 0);
        assert_eq!(lines("192.0.2.1", RefusalReason::Wrong, None), 10);
        assert_eq!(lines("192.0.2.1", RefusalReason::Scope, Some("a")), 10);
        assert_eq!(lines("192.0.2.1", RefusalReason::Scope, Some("b")), 10);
        let (summaries, untold) = recent.take(|window| now - window.began >= WINDOW);
        assert!(summaries.is_empty() && untold == 0, "no window has ended yet");
        let later = now + WINDOW;
        let (summaries, untold) = recent.take(|window| later - window.began >= WINDOW);
        let mut told: Vec<_> = summaries.iter().map(|(_, refusals)| *refusals).collect();
        told.sort_unstable();
        assert_eq!((told.as_slice(), untold), (&[990, 990, 990, 1990][..], 0));
        assert!(recent.windows.is_empty());
    }

    #[test]
    fn the_number_of_windows_is_bounded_and_no_refusal_is_lost() {
        let mut recent = Recent::default();
        let now = Instant::now();
        for address in 0..3000_u32 {
            let peer = IpAddr::V4(address.into()).to_string();
            recent.admit(&refusal(&peer, RefusalReason::Missing, None), now);
        }
        assert_eq!(recent.windows.len(), WINDOWS_MAX);
        assert_eq!(recent.take(|_| true), (Vec::new(), 2000));
    }

    #[test]
    fn each_reason_has_a_count_of_its_own() {
        let refusals = Refusals::default();
        for (times, reason) in RefusalReason::ALL.into_iter().enumerate() {
            for _ in 0..times {
                refusals.add(&refusal("192.0.2.1", reason, None));
            }
        }
        let counts: Vec<_> = refusals.counts().into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}
