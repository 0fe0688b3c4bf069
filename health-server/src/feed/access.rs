//! What a feed connection may hear of, and when that ends.

use std::{collections::BTreeSet, future::Future, net::IpAddr, pin::Pin, sync::Arc, time::Duration};

use health_core::{
    UserId,
    access::{Access, AccessDenied, Authenticator},
    token::Scope,
};
use tokio::time::sleep;

use crate::{
    app::App,
    refusals::{Attempt, Refusal, RefusalReason},
};

/// The access of one connection.
pub(crate) struct SessionAccess<'a> {
    app: &'a App,
    peer: IpAddr,
    access: Arc<Access>,
    /// Resolves with the reason when the access ends.
    end: Pin<Box<dyn Future<Output = String> + Send>>,
}

impl<'a> SessionAccess<'a> {
    /// Begins without a token.
    pub(crate) fn new(app: &'a App, peer: IpAddr) -> Self {
        let authenticator = &app.authenticator;
        let (access, end): (_, Pin<Box<dyn Future<Output = _> + Send>>) = match authenticator.authenticate(None) {
            Ok(access) => (Arc::clone(&access), Box::pin(end(authenticator.clone(), access))),
            Err(reason) => (
                Arc::new(Access::nothing()),
                Box::pin(no_auth_in_time(reason.to_string(), app.limits.auth_timeout)),
            ),
        };
        Self { app, peer, access, end }
    }

    /// Waits until the access ends, and returns the reason. Cancelling it loses nothing.
    pub(crate) async fn ended(&mut self) -> String {
        (&mut self.end).await
    }

    /// Takes the access of a token.
    ///
    /// # Errors
    /// The reason, for the client to read. If the token is wrong, it comes late.
    pub(crate) async fn authenticate(&mut self, secret: &str) -> Result<(), String> {
        match self.app.authenticator.authenticate(Some(secret)) {
            Ok(access) => {
                self.access = Arc::clone(&access);
                self.end = Box::pin(end(self.app.authenticator.clone(), access));
                Ok(())
            }
            Err(reason) => {
                self.app
                    .refusals
                    .add(&Refusal::new(self.attempt("AUTH"), reason.into()));
                sleep(self.app.wrong_tokens.add(self.peer)).await;
                Err(reason.to_string())
            }
        }
    }

    /// Returns the users of a subscription: those that the client names, or all that it may hear of.
    ///
    /// # Errors
    /// The reason, for the client to read, if there is no token, or if it does not permit this.
    pub(crate) fn users_to_hear_of(
        &self,
        named: Option<&BTreeSet<UserId>>,
    ) -> Result<Option<BTreeSet<UserId>>, String> {
        let (attempt, token) = (self.attempt("SUBSCRIBE"), self.access.name());
        let refuse = |refusal: &Refusal<'_>| self.app.refusals.add(refusal);
        if let Err(reason) = self.app.authenticator.authenticate(None)
            && self.access.token_id().is_none()
        {
            refuse(&Refusal::new(attempt, reason.into()));
            return Err(format!("{reason}: send AUTH TOKEN first"));
        }
        if let Some(Err(_)) = self.access.token_id().map(|id| self.app.token_rates.take(id)) {
            refuse(&Refusal {
                token: Some(token),
                ..Refusal::new(attempt, RefusalReason::Rate)
            });
            return Err(format!(
                "the token {token} has sent more than {} requests a second: send SUBSCRIBE again later",
                self.app.limits.max_token_rate
            ));
        }
        self.check(named).map_err(|denied| {
            refuse(&Refusal::of_token(attempt, token, &denied));
            denied.to_string()
        })?;
        Ok(named.or(self.access.users()).cloned())
    }

    fn attempt(&self, verb: &'static str) -> Attempt {
        Attempt {
            verb,
            route: "",
            peer: self.peer,
        }
    }

    fn check(&self, named: Option<&BTreeSet<UserId>>) -> Result<(), AccessDenied> {
        self.access.check_scope(Scope::Read)?;
        named
            .into_iter()
            .flatten()
            .try_for_each(|user| self.access.check_user(*user))
    }
}

async fn end(authenticator: Authenticator, access: Arc<Access>) -> String {
    authenticator.ended(&access).await.to_string()
}

async fn no_auth_in_time(reason: String, timeout: Duration) -> String {
    sleep(timeout).await;
    format!("{reason}, and AUTH was not sent within {timeout:?}")
}
