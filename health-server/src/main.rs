//! `health-server`: stores wearable readings, answers queries about them, and streams them live.

use std::process::ExitCode;

use clap::Parser;
use health_server::Args;

fn main() -> ExitCode {
    health_server::main(Args::parse())
}
