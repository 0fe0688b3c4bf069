//! The options of `check`.

use crate::args::ServeArgs;

/// Options of `check`: those of the server whose configuration and database are checked.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CheckArgs {
    /// Only ask the server at --http whether it can store samples: for health checks of containers and load balancers.
    #[arg(long)]
    pub(crate) ready: bool,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}
