//! The dashboard's binary; all of it is in the library.

#[tokio::main]
async fn main() -> std::process::ExitCode {
    health_tui::program().await
}
