//! The network tasks. The event loop never awaits the network: it sends queries and receives [`NetworkEvent`]s.
//!
//! [`NetworkEvent`]: crate::app::NetworkEvent

mod backoff;
mod feed;
mod http;
mod query;

pub use self::http::ServerUrlError;
pub(crate) use self::{
    feed::{FeedClient, FeedOptions},
    http::{HttpClient, ServerUrl},
    query::QueryTasks,
};
