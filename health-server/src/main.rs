//! `health-server`: takes wearable readings, keeps them, answers for them, streams them.

use std::process::ExitCode;

use clap::Parser;
use health_server::Args;

fn main() -> ExitCode {
    health_server::main(Args::parse())
}
