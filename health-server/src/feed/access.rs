//! What a feed connection may hear of, and when that ends.

use std::{collections::BTreeSet, future::Future, net::IpAddr, pin::Pin, sync::Arc, time::Duration};

use health_core::{
    UserId,
    access::{Access, AccessDenied, Authenticator},
    token::Scope,
};
use tokio::time::sleep;

use crate::{audit, wrong_tokens::WrongTokens};

/// The access of one connection.
pub(crate) struct SessionAccess {
    authenticator: Authenticator,
    peer: IpAddr,
    access: Arc<Access>,
    /// Resolves with the reason when the access ends.
    end: Pin<Box<dyn Future<Output = String> + Send>>,
}

/// How long a client may take to send AUTH, if it needs a token. Others may need the connection.
const AUTH_TIMEOUT: Duration = Duration::from_secs(30);

impl SessionAccess {
    /// Begins without a token.
    pub(crate) fn new(authenticator: Authenticator, peer: IpAddr) -> Self {
        let (access, end): (_, Pin<Box<dyn Future<Output = _> + Send>>) = match authenticator.authenticate(None) {
            Ok(access) => (Arc::clone(&access), Box::pin(end(authenticator.clone(), access))),
            Err(reason) => (
                Arc::new(Access::nothing()),
                Box::pin(no_auth_in_time(reason.to_string())),
            ),
        };
        Self {
            authenticator,
            peer,
            access,
            end,
        }
    }

    /// Waits until the access ends, and returns the reason. Cancelling it loses nothing.
    pub(crate) async fn ended(&mut self) -> String {
        (&mut self.end).await
    }

    /// Takes the access of a token.
    ///
    /// # Errors
    /// The reason, for the client to read. If the token is wrong, it comes late.
    pub(crate) async fn authenticate(&mut self, secret: &str, wrong_tokens: &WrongTokens) -> Result<(), String> {
        match self.authenticator.authenticate(Some(secret)) {
            Ok(access) => {
                self.access = Arc::clone(&access);
                self.end = Box::pin(end(self.authenticator.clone(), access));
                Ok(())
            }
            Err(reason) => {
                audit::not_authenticated(reason, self.peer);
                sleep(wrong_tokens.add(self.peer)).await;
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
        if let Err(reason) = self.authenticator.authenticate(None)
            && self.access.token_id().is_none()
        {
            return Err(format!("{reason}: send AUTH TOKEN first"));
        }
        self.check(named).map_err(|denied| {
            audit::denied(&denied, self.peer);
            denied.to_string()
        })?;
        Ok(named.or(self.access.users()).cloned())
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

async fn no_auth_in_time(reason: String) -> String {
    sleep(AUTH_TIMEOUT).await;
    format!("{reason}, and AUTH was not sent within {AUTH_TIMEOUT:?}")
}
