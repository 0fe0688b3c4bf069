//! What a server may do, apart from its database and its sockets.

use crate::limits::ServerLimits;

/// The limits of a server, and the host names that it answers to.
///
/// ```
/// use health_server::{ServerLimits, ServerOptions};
///
/// let options = ServerOptions { allowed_hosts: vec!["health.example".into()], ..ServerLimits::default().into() };
/// assert_eq!(options.limits, ServerLimits::default());
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServerOptions {
    /// The limits of HTTP and the feed.
    pub limits: ServerLimits,
    /// Names that the `Host` of a request may have while no token exists, beside addresses and `localhost`.
    pub allowed_hosts: Vec<String>,
}

impl From<ServerLimits> for ServerOptions {
    fn from(limits: ServerLimits) -> Self {
        Self {
            limits,
            allowed_hosts: Vec::new(),
        }
    }
}
