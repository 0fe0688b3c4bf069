//! The network tasks. The event loop never awaits the network: it sends queries and receives [`NetworkEvent`]s.
//!
//! `health_core::client` opens the connections, for the feed and for HTTP.
//!
//! [`NetworkEvent`]: crate::app::NetworkEvent

mod feed;
mod http;
mod query;

pub use self::http::ServerUrlError;
pub(crate) use self::{
    feed::{FeedTask, feed_options},
    http::{HttpClient, ServerUrl},
    query::QueryTasks,
};
