//! The options of every example that connects to a server: the token and the trusted authority.

use std::path::PathBuf;

use clap::Args;
use health_core::client::{ApiToken, Credentials};

/// The token and the trusted authority.
#[derive(Debug, Clone, Default, Args)]
pub struct CredentialArgs {
    /// The API token, if the server requires one; better set the variable, because others can see a command line
    #[arg(long, value_name = "T", env = "HEALTH_TOKEN", hide_env_values = true)]
    token: Option<ApiToken>,
    /// A file with the API token that only its owner can read; --token wins
    #[arg(long, value_name = "FILE", env = "HEALTH_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// The certificate of a private authority in PEM that has signed the server's
    #[arg(long, value_name = "FILE", env = "HEALTH_CA")]
    ca: Option<PathBuf>,
    /// Send the token also without TLS to another machine: everybody on the way can read it
    #[arg(long)]
    allow_plain_token: bool,
}

impl From<CredentialArgs> for Credentials {
    fn from(args: CredentialArgs) -> Self {
        Self {
            token: args.token,
            token_file: args.token_file,
            ca: args.ca,
            allow_plain_token: args.allow_plain_token,
        }
    }
}
