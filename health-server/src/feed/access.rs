//! Whom a feed client may subscribe to, and when its stream ends.

use std::{collections::BTreeSet, future::Future, pin::Pin, sync::Arc, time::Duration};

use health_core::{
    UserId,
    access::{Access, AccessDenied, Authenticator, NotAuthenticated},
    token::Scope,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::app::App;

/// The access of one feed client.
pub(crate) struct FeedAccess {
    access: Arc<Access>,
    /// Resolves with the reason when the access ends.
    access_ended: Pin<Box<dyn Future<Output = String> + Send>>,
    closing: CancellationToken,
}

/// Why the stream of a client ends.
#[derive(Debug)]
pub(crate) enum StreamEnd {
    /// The access has ended, or the client has not sent AUTH in time. The reason is for the client.
    Access(String),
    /// The server shuts down.
    Shutdown,
    /// The subscription has no further events: its replay panicked, or the program that embeds the server closed the
    /// handle.
    SubscriptionEnded,
}

impl FeedAccess {
    /// The access of a token, or that of every client while no token exists.
    pub(crate) fn new(app: &App, access: Arc<Access>) -> Self {
        let (authenticator, of_end) = (app.authenticator.clone(), Arc::clone(&access));
        Self::ending(app, access, async move { ended(&authenticator, &of_end).await })
    }

    /// The access of a client that has to send AUTH first.
    pub(crate) fn before_auth(app: &App, reason: NotAuthenticated) -> Self {
        let timeout = app.limits.auth_timeout;
        Self::ending(app, Arc::new(Access::nothing()), no_auth_in_time(reason, timeout))
    }

    /// Waits for the end of the stream. Cancelling it loses nothing.
    pub(crate) async fn ended(&mut self) -> StreamEnd {
        tokio::select! {
            biased; // The more specific reason.
            reason = &mut self.access_ended => StreamEnd::Access(reason),
            () = self.closing.cancelled() => StreamEnd::Shutdown,
        }
    }

    /// Returns the users of a subscription: those that the client names, or else all that it may subscribe to.
    ///
    /// # Errors
    /// Why the client may not subscribe to them.
    pub(crate) fn users_of_subscription(
        &self,
        named: Option<BTreeSet<UserId>>,
    ) -> Result<Option<BTreeSet<UserId>>, AccessDenied> {
        self.access.check_scope(Scope::Read)?;
        let mut all_named = named.iter().flatten();
        all_named.try_for_each(|user| self.access.check_user(*user))?;
        Ok(named.or_else(|| self.access.users().cloned()))
    }

    /// Returns the name of the token.
    pub(crate) fn token(&self) -> &str {
        self.access.name()
    }

    pub(crate) fn token_id(&self) -> Option<i64> {
        self.access.token_id()
    }

    fn ending(app: &App, access: Arc<Access>, ended: impl Future<Output = String> + Send + 'static) -> Self {
        Self {
            access,
            access_ended: Box::pin(ended),
            closing: app.closing.clone(),
        }
    }
}

impl StreamEnd {
    /// Returns the reason, for the client to read.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Access(reason) => reason,
            Self::Shutdown => "the server is shutting down",
            Self::SubscriptionEnded => "the subscription ended in the server: connect again with the last cursor",
        }
    }
}

async fn ended(authenticator: &Authenticator, access: &Arc<Access>) -> String {
    authenticator.ended(access).await.to_string()
}

async fn no_auth_in_time(reason: NotAuthenticated, timeout: Duration) -> String {
    sleep(timeout).await;
    format!("{reason}, and AUTH was not sent within {timeout:?}")
}
