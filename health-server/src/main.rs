//! `health-server`: stores wearable readings, answers queries about them, and streams them live.

use std::{env::args_os, process::ExitCode};

fn main() -> ExitCode {
    health_server::main(args_os())
}
