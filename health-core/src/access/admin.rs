//! Creates, lists and revokes tokens.

use std::sync::Arc;

use crate::{
    config::Config,
    error::Error,
    store::{
        connection::Session,
        tokens::{self, CreateTokenError},
    },
    token::{NewToken, Token, TokenSecret},
};

/// A connection for managing tokens. The schema must be [up to date](crate::migrate).
///
/// Every change is durable when its call returns. Servers on the same database notice it within some seconds.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use health_core::{Config, access::TokenAdmin, token::NewToken};
///
/// let mut admin = TokenAdmin::connect(&Config::from_url("postgres://localhost/health_db")?).await?;
/// let token = NewToken { name: "watch".parse()?, scopes: "ingest".parse()?, users: None, valid_for: None };
/// let secret = admin.create(&token).await?;
/// println!("{}", secret.as_str()); // it cannot be shown again
/// # Ok(()) }
/// ```
pub struct TokenAdmin {
    session: Session,
}

impl TokenAdmin {
    /// Connects to the database.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the database cannot be reached.
    pub async fn connect(config: &Config) -> Result<Self, Error> {
        let session = Session::writer(config).await?;
        Ok(Self { session })
    }

    /// Creates a token and returns its secret. The secret is not stored, so this is the only moment to show it.
    ///
    /// # Errors
    /// [`Error::TokenExists`] if another token has this name, even one that is expired.
    pub async fn create(&mut self, token: &NewToken) -> Result<TokenSecret, Error> {
        let secret = TokenSecret::generate().map_err(|error| Error::NoRandomNumbers(Arc::new(error)))?;
        match tokens::create(&mut self.session, token, secret.hash()).await {
            Ok(()) => Ok(secret),
            Err(CreateTokenError::NameTaken) => Err(Error::TokenExists(token.name.clone())),
            Err(CreateTokenError::Store(error)) => Err(error.into()),
        }
    }

    /// Returns all tokens that are not revoked, by name.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the database cannot be reached.
    pub async fn list(&mut self) -> Result<Vec<Token>, Error> {
        Ok(tokens::list(&mut self.session).await?)
    }

    /// Revokes a token for ever. Its name can be given to another one.
    ///
    /// # Errors
    /// [`Error::UnknownToken`] if no token has this name.
    pub async fn revoke(&mut self, name: &str) -> Result<(), Error> {
        if tokens::revoke(&mut self.session, name).await? {
            Ok(())
        } else {
            Err(Error::UnknownToken(name.to_owned()))
        }
    }
}
