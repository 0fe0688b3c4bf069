//! AUTH, and what a token permits a client that speaks TCP. Over HTTP, `http/auth.rs` does this before the stream
//! begins.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use health_core::UserId;
use tokio::time::sleep;

use crate::{
    app::App,
    feed::access::FeedAccess,
    refusals::{Attempt, Refusal, RefusalReason},
};

/// Checks the tokens of one connection, and reports what it is refused.
pub(crate) struct Login<'a> {
    app: &'a App,
    peer: IpAddr,
}

impl<'a> Login<'a> {
    pub(crate) fn new(app: &'a App, peer: IpAddr) -> Self {
        Self { app, peer }
    }

    /// Returns the access of a client that has not sent a token.
    pub(crate) fn anonymous(&self) -> FeedAccess {
        match self.app.authenticator.authenticate(None) {
            Ok(access) => FeedAccess::new(self.app, access),
            Err(reason) => FeedAccess::before_auth(self.app, reason),
        }
    }

    /// Tells the operator that a client has sent a token, which a server without tokens ignores.
    pub(crate) fn warn_of_unneeded_token(&self) {
        self.app.unneeded_tokens.warn(self.peer);
    }

    /// Returns the access of a token.
    ///
    /// # Errors
    /// The reason, for the client to read. If the token is wrong, it comes late.
    pub(crate) async fn authenticate(&self, secret: &str) -> Result<FeedAccess, String> {
        match self.app.authenticator.authenticate(Some(secret)) {
            Ok(access) => Ok(FeedAccess::new(self.app, Arc::clone(&access))),
            Err(reason) => {
                self.refuse(&Refusal::new(self.attempt("AUTH"), reason.into()));
                sleep(self.app.wrong_tokens.add(self.peer)).await;
                Err(reason.to_string())
            }
        }
    }

    /// Returns the users of a SUBSCRIBE command: those that it names, or all that the client may hear of.
    ///
    /// # Errors
    /// The reason, for the client to read, if there is no token, or if it does not permit this.
    pub(crate) fn users_of_subscription(
        &self,
        access: &FeedAccess,
        named: Option<BTreeSet<UserId>>,
    ) -> Result<Option<BTreeSet<UserId>>, String> {
        let (attempt, token) = (self.attempt("SUBSCRIBE"), access.token());
        if let Err(reason) = self.app.authenticator.authenticate(None)
            && access.token_id().is_none()
        {
            self.refuse(&Refusal::new(attempt, reason.into()));
            return Err(format!("{reason}: send AUTH TOKEN first"));
        }
        if let Some(Err(_)) = access.token_id().map(|id| self.app.token_rates.take(id)) {
            self.refuse(&Refusal {
                token: Some(token),
                ..Refusal::new(attempt, RefusalReason::Rate)
            });
            return Err(format!(
                "the token {token} has sent more than {} requests a second: send SUBSCRIBE again later",
                self.app.limits.max_token_rate
            ));
        }
        access.users_of_subscription(named).map_err(|denied| {
            self.refuse(&Refusal::of_token(attempt, token, &denied));
            denied.to_string()
        })
    }

    fn refuse(&self, refusal: &Refusal<'_>) {
        self.app.refusals.add(refusal);
    }

    fn attempt(&self, verb: &'static str) -> Attempt {
        Attempt {
            verb,
            route: "",
            peer: self.peer,
        }
    }
}
