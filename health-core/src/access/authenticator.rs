//! The tokens in memory: checks what clients send, and tells when an access ends.

use std::{collections::HashMap, future::pending, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use tokio::{
    sync::{Notify, watch},
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};

use crate::{
    access::{Access, token_changes::audit_changes},
    error::Error,
    panics::{has_panicked, outcome_of},
    store::{
        readers::{Readers, checkout},
        tokens::{self, TokenGrants},
    },
    token::TokenHash,
};

/// Decides what a client may do, from memory: a request costs no query.
///
/// A task keeps the tokens in memory up to date. It reads them when another program says that they have changed, and
/// every [few seconds](REFRESH_INTERVAL) in any case. While the database is out of reach, the tokens that were read
/// last stay in force: without the database no sample can be read or stored, so a token that was revoked meanwhile
/// opens nothing.
///
/// A clone is cheap and is the same authenticator.
#[derive(Clone)]
pub struct Authenticator {
    tokens: watch::Receiver<Arc<TokenTable>>,
}

/// The reason why a client is not who it has to be. Over HTTP, this is status 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAuthenticated {
    /// The client sent no token.
    #[error("a token is needed")]
    Missing,
    /// No token has this secret, or it was revoked.
    #[error("the token is unknown or was revoked")]
    Unknown,
    /// The token has expired.
    #[error("the token has expired")]
    Expired,
}

/// The reason why an access that was granted has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccessEnd {
    /// The token was revoked, or it now permits something else.
    #[error("the token was revoked or changed")]
    Changed,
    /// The token has expired.
    #[error("the token has expired")]
    Expired,
    /// The first token was created: from now on every client needs one.
    #[error("a token is needed from now on")]
    TokensInForce,
}

/// The tokens that are in force.
struct TokenTable {
    any_created: bool,
    /// By the prefix of their hash, so that hashes are compared only with those that might be the same.
    by_prefix: HashMap<u64, Vec<(TokenHash, Arc<Access>)>>,
    anonymous: Arc<Access>,
}

/// The contract: a change of tokens takes effect within this time.
const EFFECT_TIME_MAX: Duration = Duration::from_secs(10);

/// How often the tokens are read without a reason. This leaves time for a lost notification and one failed attempt, see
/// [`LONGEST_DELAY_MS`].
const REFRESH_INTERVAL: Duration = Duration::from_secs(4);

/// The pause after a failed attempt to read the tokens.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How often the last uses are written.
const MARK_USED_INTERVAL: Duration = Duration::from_mins(1);

/// How long one reading or writing of tokens may take, before it counts as failed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// How long to wait for a connection of the readers. Most queries take less time.
const READER_WAIT: Duration = Duration::from_millis(500);

/// How late a change is read if its notification is lost and the first attempt fails.
const LONGEST_DELAY_MS: u128 =
    REFRESH_INTERVAL.as_millis() + READER_WAIT.as_millis() + ANSWER_TIMEOUT.as_millis() + RETRY_PAUSE.as_millis();

const _: () = assert!(LONGEST_DELAY_MS < EFFECT_TIME_MAX.as_millis());
const _: () = assert!(EXPIRY_CHECK_INTERVAL.as_millis() < EFFECT_TIME_MAX.as_millis());

/// The longest wait for an expiry in one piece. The clock may be set meanwhile, so a long wait looks again.
const EXPIRY_CHECK_INTERVAL: Duration = Duration::from_secs(5);

impl Authenticator {
    /// Reads the tokens. Returns the authenticator and the task that keeps it up to date.
    pub(crate) async fn start(
        readers: Readers,
        changed: Arc<Notify>,
        closing: watch::Receiver<bool>,
    ) -> Result<(Self, impl Future<Output = ()> + Send), Error> {
        let first = TokenTable::new(load(&readers).await?, None);
        let (sender, tokens) = watch::channel(Arc::new(first));
        let run = move || refresh(readers.clone(), sender.clone(), Arc::clone(&changed), closing.clone());
        let refresh = async move { while has_panicked("tokens", run()).await {} };
        Ok((Self { tokens }, refresh))
    }

    /// Returns whether clients need a token: from the first one that was ever created.
    pub fn is_token_needed(&self) -> bool {
        self.tokens.borrow().any_created
    }

    /// Returns the number of tokens, and when the next of them expires.
    pub fn summary(&self) -> (usize, Option<DateTime<Utc>>) {
        let (tokens, now) = (self.tokens.borrow(), Utc::now());
        let all = || {
            tokens
                .by_prefix
                .values()
                .flatten()
                .map(|(_, access)| access.expires_at())
        };
        (all().count(), all().flatten().filter(|at| *at > now).min())
    }

    /// Returns what a client may do that has sent this secret, or none.
    ///
    /// # Errors
    /// If tokens are needed and the secret is not that of a valid one.
    pub fn authenticate(&self, secret: Option<&str>) -> Result<Arc<Access>, NotAuthenticated> {
        let now = Utc::now();
        let tokens = self.tokens.borrow();
        if !tokens.any_created {
            return Ok(Arc::clone(&tokens.anonymous));
        }
        let access = tokens
            .find(secret.ok_or(NotAuthenticated::Missing)?)
            .ok_or(NotAuthenticated::Unknown)?;
        if access.expires_at().is_some_and(|at| at <= now) {
            return Err(NotAuthenticated::Expired);
        }
        access.mark_used(now);
        Ok(Arc::clone(access))
    }

    /// Returns why an access is no longer in force, or `None` while it is.
    pub fn end_of(&self, access: &Arc<Access>) -> Option<AccessEnd> {
        if access.expires_at().is_some_and(|at| at <= Utc::now()) {
            return Some(AccessEnd::Expired);
        }
        (!self.tokens.borrow().contains(access)).then(|| AccessEnd::by_change(access))
    }

    /// Waits until an access is no longer in force. For connections and responses that live long.
    pub async fn ended(&self, access: &Arc<Access>) -> AccessEnd {
        let mut tokens = self.tokens.clone();
        let changed = async {
            let is_gone = |tokens: &Arc<TokenTable>| !tokens.contains(access);
            if tokens.wait_for(is_gone).await.is_err() {
                // The handle was dropped or closed, which ends connections by itself.
                pending::<()>().await;
            }
        };
        tokio::select! {
            () = changed => AccessEnd::by_change(access),
            () = expired(access.expires_at()) => AccessEnd::Expired,
        }
    }
}

impl AccessEnd {
    /// The end of an access that the tokens no longer grant.
    fn by_change(access: &Access) -> Self {
        match access.token_id() {
            Some(_) => Self::Changed,
            None => Self::TokensInForce,
        }
    }
}

impl TokenTable {
    /// Makes a table of what was read. An access that grants the same as before stays the same value, by which
    /// [`Authenticator::ended`] recognises it.
    fn new(read: TokenGrants, before: Option<&Self>) -> Self {
        let mut by_prefix: HashMap<u64, Vec<_>> = HashMap::new();
        for grant in read.grants {
            let hash = grant.hash;
            let known = before.and_then(|before| before.by_hash(&hash));
            let access = match known.filter(|access| access.grants_the_same(&grant)) {
                Some(access) => Arc::clone(access),
                None => Arc::new(Access::of_token(grant)),
            };
            by_prefix.entry(hash.prefix()).or_default().push((hash, access));
        }
        Self {
            // Stays true even if the database was put back to a time before the first token. A server that other
            // machines can reach must not open to everyone then.
            any_created: read.any_created || before.is_some_and(|before| before.any_created),
            by_prefix,
            anonymous: before.map_or_else(|| Arc::new(Access::anonymous()), |before| Arc::clone(&before.anonymous)),
        }
    }

    /// Returns `None` if nothing has changed.
    fn new_unless_same(read: TokenGrants, before: &Self) -> Option<Self> {
        let next = Self::new(read, Some(before));
        (!next.is_same(before)).then_some(next)
    }

    fn find(&self, secret: &str) -> Option<&Arc<Access>> {
        self.by_hash(&TokenHash::of_presented(secret)?)
    }

    fn by_hash(&self, hash: &TokenHash) -> Option<&Arc<Access>> {
        let candidates = self.by_prefix.get(&hash.prefix())?;
        candidates
            .iter()
            .find(|(other, _)| other.is_same(hash))
            .map(|(_, access)| access)
    }

    fn contains(&self, access: &Arc<Access>) -> bool {
        match &access.token {
            Some(token) => self
                .by_hash(&token.hash)
                .is_some_and(|other| Arc::ptr_eq(other, access)),
            None => !self.any_created,
        }
    }

    fn accesses(&self) -> impl Iterator<Item = &Arc<Access>> {
        self.by_prefix.values().flatten().map(|(_, access)| access)
    }

    /// Returns whether both tables hold the very same accesses.
    fn is_same(&self, other: &Self) -> bool {
        self.any_created == other.any_created
            && self.accesses().count() == other.accesses().count()
            && self.accesses().all(|access| other.contains(access))
    }
}

/// Keeps the tokens in memory up to date, until the handle is closed or dropped.
async fn refresh(
    readers: Readers,
    sender: watch::Sender<Arc<TokenTable>>,
    changed: Arc<Notify>,
    mut closing: watch::Receiver<bool>,
) {
    let mut pause = REFRESH_INTERVAL;
    let mut is_failing = false;
    let mut marked_at = Instant::now();
    loop {
        tokio::select! {
            () = sleep(pause) => {}
            () = changed.notified() => {}
            // Also ends if the handle was dropped, which closes the channel.
            _ = closing.wait_for(|closing| *closing) => break,
        }
        match load(&readers).await {
            Ok(read) => {
                let before = Arc::clone(&sender.borrow());
                // With 100 000 tokens this takes some 100 ms. So it neither holds the lock of the channel, which would
                // block every request, nor a thread that serves connections.
                let known = Arc::clone(&before);
                let next = outcome_of(spawn_blocking(move || TokenTable::new_unless_same(read, &known))).await;
                if let Some(next) = next {
                    audit_changes(before.accesses(), next.accesses());
                    sender.send_replace(Arc::new(next));
                }
                pause = REFRESH_INTERVAL;
                is_failing = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!(
                        error = error.chain(),
                        "the tokens could not be read; those that were read last stay in force, trying again"
                    );
                }
                pause = RETRY_PAUSE;
            }
        }
        if marked_at.elapsed() >= MARK_USED_INTERVAL && !is_failing {
            marked_at = Instant::now();
            mark_used(&readers, &sender).await;
        }
    }
    mark_used(&readers, &sender).await;
}

/// Reads the tokens over a connection of the readers. If none is free, over a connection of its own: otherwise the
/// owner of a token could put off its revocation with queries that keep all readers busy.
async fn load(readers: &Readers) -> Result<TokenGrants, Error> {
    let reading = async {
        match timeout(READER_WAIT, checkout(readers)).await {
            Ok(reader) => Ok(tokens::load(&mut *reader?).await?),
            Err(_) => Ok(tokens::load(&mut readers.own_session().await?).await?),
        }
    };
    timeout(ANSWER_TIMEOUT, reading)
        .await
        .unwrap_or(Err(Error::TimedOut(ANSWER_TIMEOUT)))
}

/// Writes when tokens were used last. It only informs people, so a failure is not worth a retry.
async fn mark_used(readers: &Readers, tokens: &watch::Sender<Arc<TokenTable>>) {
    let table = Arc::clone(&tokens.borrow());
    let used: Vec<_> = table.accesses().filter_map(|access| access.take_last_used()).collect();
    if used.is_empty() {
        return;
    }
    let writing = async { Ok(tokens::mark_used(&mut *checkout(readers).await?, &used).await?) };
    let written: Result<(), Error> = timeout(ANSWER_TIMEOUT, writing)
        .await
        .unwrap_or(Err(Error::TimedOut(ANSWER_TIMEOUT)));
    if let Err(error) = written {
        tracing::debug!(error = error.chain(), "the last uses of tokens were not stored");
    }
}

/// Resolves when a time has come, by the clock of the machine.
async fn expired(at: Option<DateTime<Utc>>) {
    let Some(at) = at else { return pending().await };
    // A time in the past has no length.
    while let Ok(left) = (at - Utc::now()).to_std() {
        sleep(left.min(EXPIRY_CHECK_INTERVAL)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests of revocations wait longer than the contract allows, because the machine may be slow.
    #[test]
    fn a_change_takes_effect_in_the_10_s_of_the_contract_also_if_its_notification_is_lost_and_one_reading_fails() {
        assert!(REFRESH_INTERVAL + ANSWER_TIMEOUT + RETRY_PAUSE < Duration::from_secs(10));
    }
}
