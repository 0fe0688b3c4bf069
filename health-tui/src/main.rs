//! The binary of the dashboard. The library contains all of its code.

fn main() -> std::process::ExitCode {
    health_tui::program()
}
