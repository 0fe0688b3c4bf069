//! A client of the live feed of Health.
//!
//! [`FeedClient`] reconnects after every failure and resumes where it was, so that its caller gets every sample at
//! least once. The dashboard, `health-tui record`, `health-tui --plain` and the example `tail` all use it.
//!
//! ```no_run
//! # async fn example() {
//! use health_core::client::{FeedClient, FeedOptions, FeedUpdate};
//!
//! let mut client = FeedClient::new(FeedOptions {
//!     address: "127.0.0.1:8001".to_owned(),
//!     ..FeedOptions::default()
//! });
//! loop {
//!     if let FeedUpdate::Samples(samples) = client.next().await {
//!         // Process the samples here. The next call of `next` tells the client that this is done.
//!         drop(samples);
//!     }
//! }
//! # }
//! ```

mod address;
mod api_token;
mod backoff;
mod credentials;
mod feed;
mod tls;
mod transport;

pub use self::{
    address::FeedAddress,
    api_token::{ApiToken, TokenError},
    credentials::{Access, Credentials, CredentialsError},
    feed::{FeedClient, FeedError, FeedOptions, FeedUpdate},
    tls::{Tls, TlsFault, TrustError},
    transport::{
        BoxedStream, ByteStream, CONNECT_TIMEOUT, ConnectError, connect, host_and_port, port_of_authority,
        without_error_code,
    },
};
