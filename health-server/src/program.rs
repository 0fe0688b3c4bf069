//! The program around [`run`](crate::run): the command line, the database, the listeners, signals and the exit
//! status.

use std::{
    env,
    ffi::OsString,
    fmt::Display,
    future::{Future, pending},
    io::{self, Write},
    pin::pin,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::CommandFactory;
use futures_util::TryFutureExt;
use health_core::{Config, DatabaseStatus, Error, Health, backup::BackupError};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep},
};

use crate::{
    args::{Args, Command, ServeArgs},
    backup, check,
    config::{self, ConfigError, Loaded, Sources},
    database::Postgres,
    descriptors::{raise_open_files_limit, shortage},
    distribute,
    error::ProgramError,
    http::starting,
    import,
    listeners::{Listeners, exposed_address},
    logging, migrate,
    options::ServerOptions,
    reload::{ConfigFile, FailedReloads, reload_on_hangup},
    server::run_reloadable,
    service_manager,
    tls::ServerTls,
    tokens,
};

/// How long the program waits at its start for a database that is out of reach. Both may start together with the
/// machine.
const DATABASE_TIMEOUT: Duration = Duration::from_mins(1);

/// The pause between two attempts to reach the database.
const DATABASE_RETRY_PAUSE: Duration = Duration::from_millis(500);

/// How long the server may still send responses after its embedded PostgreSQL has ended. Nothing can be stored any
/// more.
const LAST_RESPONSES_TIMEOUT: Duration = Duration::from_secs(1);

const PROGRAM: &str = "health-server";

/// Variables that have no effect, and the right ones. All others begin with `HEALTH_`, so users try that here too.
const MISTAKEN_VARIABLES: [(&str, &str); 2] = [
    ("HEALTH_DATABASE_URL", "DATABASE_URL"),
    ("HEALTH_DATABASE_URL_FILE", "DATABASE_URL_FILE"),
];

/// The exit status of wrong usage, as clap has it.
const WRONG_USAGE: u8 = 2;

/// Executes a command line, whose first word is the name of the program. If that fails, writes the reason to stderr.
pub fn main(argv: impl IntoIterator<Item = OsString>) -> ExitCode {
    let argv: Vec<_> = argv.into_iter().collect();
    let loaded = match config::load(&argv) {
        Ok(loaded) => loaded,
        Err(ConfigError::CommandLine(error)) => error.exit(),
        Err(error) => {
            print_error(&error);
            return ExitCode::from(WRONG_USAGE);
        }
    };
    let outcome = match loaded.args.command {
        _ if loaded.args.print_config => print(config::print().as_bytes()).map(|()| ExitCode::SUCCESS),
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), PROGRAM, &mut script);
            print(&script).map(|()| ExitCode::SUCCESS)
        }
        Some(Command::Man) => {
            let mut page = Vec::new();
            let rendered = clap_mangen::Man::new(Args::command()).render(&mut page);
            rendered
                .map_err(ProgramError::System)
                .and_then(|()| print(&page))
                .map(|()| ExitCode::SUCCESS)
        }
        _ => run_to_end(argv, loaded),
    };
    match outcome {
        Ok(status) => status,
        Err(error) => {
            match &error {
                // Has several lines and needs no prefix.
                ProgramError::Embedded(error) | ProgramError::Backup(BackupError::Embedded(error)) => {
                    write_to_stderr(&error.to_string());
                }
                ProgramError::Health(error) | ProgramError::Backup(BackupError::Database(error)) => {
                    print_error(&error.chain());
                }
                error => print_error(error),
            }
            ExitCode::FAILURE
        }
    }
}

/// Runs a command that needs a database.
fn run_to_end(argv: Vec<OsString>, loaded: Loaded) -> Result<ExitCode, ProgramError> {
    let Loaded {
        args,
        values,
        shows_password,
        ignores_data_dir,
        sources,
    } = loaded;
    let log = logging::init(args.log_format, &args.log);
    if let Some(path) = shows_password {
        tracing::warn!(
            "others can read {}, and it has the database URL: make it private with `chmod 600`, or use database-url-file",
            path.display()
        );
    }
    if ignores_data_dir {
        tracing::warn!(
            "--data-dir has no effect, because a database URL is set. For the server's own PostgreSQL, leave out --database-url \
             and unset DATABASE_URL"
        );
    }
    for (mistaken, right) in MISTAKEN_VARIABLES {
        if env::var_os(mistaken).is_some() {
            tracing::warn!(
                "the environment variable {mistaken} has no effect: write its value to {right}, and unset it"
            );
        }
    }
    let config = sources.file.clone().map(|path| ConfigFile {
        path,
        argv,
        values,
        log,
        reloads: Arc::default(),
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(ProgramError::System)?;
    let outcome = runtime.block_on(execute(args, config, &sources));
    // What is under way may wait for a disk that does not answer.
    runtime.shutdown_background();
    outcome
}

fn print_error(error: &dyn Display) {
    write_to_stderr(&format!("{PROGRAM}: {error}"));
}

fn write_to_stderr(message: &str) {
    // If stderr is closed, the exit status remains.
    let _ = writeln!(io::stderr(), "{message}");
}

/// Writes to stdout. A reader that has closed the pipe, as `head` does, is no failure.
fn print(bytes: &[u8]) -> Result<(), ProgramError> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(ProgramError::System(error)),
        _ => Ok(()),
    }
}

async fn execute(args: Args, config: Option<ConfigFile>, sources: &Sources) -> Result<ExitCode, ProgramError> {
    match args.command {
        None => serve(args.serve, config).await?,
        Some(Command::Serve(args)) => serve(*args, config).await?,
        Some(Command::Import(args)) => return Ok(import::execute(*args).await),
        Some(command) => {
            let shutdown = shutdown_signal()?;
            tokio::select! {
                outcome = execute_once(command, sources) => outcome?,
                // Returning drops the future of the command, which removes unfinished files such as the copy of a
                // verification.
                () = shutdown => return Err(ProgramError::Interrupted),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a command that ends by itself.
async fn execute_once(command: Command, sources: &Sources) -> Result<(), ProgramError> {
    match command {
        Command::Token { command } => tokens::execute(command).await,
        Command::Backup(args) => backup::back_up(args).await,
        Command::Restore(args) => backup::restore(args).await,
        Command::Migrate(args) => migrate::execute(args).await,
        Command::Distribute(args) => distribute::execute(args).await,
        Command::Check(args) => check::check(*args, sources).await,
        // Others were executed elsewhere.
        Command::Serve(_) | Command::Import(_) | Command::Completions { .. } | Command::Man => Ok(()),
    }
}

async fn serve(args: ServeArgs, config_file: Option<ConfigFile>) -> Result<(), ProgramError> {
    let exposed = if args.allow_anonymous {
        None
    } else {
        exposed_address([("--http", &args.http), ("--feed", &args.feed)]).await
    };
    raise_open_files_limit();
    if let Some((available, needed)) = shortage(&args.core_limits) {
        return Err(ProgramError::TooFewFiles { available, needed });
    }
    let tls = load_tls(&args)?;
    let hangup = match (&tls, &config_file) {
        (None, None) => None,
        _ => Some(signal(SignalKind::hangup()).map_err(ProgramError::System)?),
    };
    // Registered before the first slow step, so that an early Ctrl-C stops PostgreSQL in order, too.
    let mut shutdown = pin!(shutdown_signal()?);
    // Bound before PostgreSQL starts, so that an address in use is reported at once. An address that other machines can
    // reach is bound only after a look at the tokens.
    let bind = async || {
        let listeners = Listeners::bind(&args.http, &args.feed).await?;
        Ok::<_, ProgramError>(match &tls {
            Some(tls) => listeners.with_tls(Arc::clone(tls)),
            None => listeners,
        })
    };
    let bound = match exposed {
        None => Some(bind().await?),
        Some(_) => None,
    };
    let status = DatabaseStatus::default();
    let mut answering = Box::pin(async {
        match &bound {
            Some(listeners) => starting::answer(listeners, &status).await,
            None => pending().await,
        }
    });
    let postgres = tokio::select! {
        postgres = Postgres::for_serving(&args.database, &status) => postgres?,
        () = &mut shutdown => return Ok(()),
        never = &mut answering => match never {},
    };
    let options = ServerOptions {
        limits: args.server_limits,
        allowed_hosts: args.allow_host,
    };
    let reloads = config_file
        .as_ref()
        .map(|file| Arc::clone(&file.reloads))
        .unwrap_or_default();
    let opening = async {
        let config = postgres.config(args.core_limits.clone())?.status(status.clone());
        tokio::select! {
            opened = open_with_retries(config, &status) => Ok(Some(opened?)),
            error = postgres.ended() => Err(error.into()),
            () = &mut shutdown => Ok(None),
            never = answering => match never {},
        }
    };
    let opened: Result<_, ProgramError> = opening.await;
    let served = async {
        let Some(health) = opened? else { return Ok(()) };
        let listeners = match bound {
            Some(listeners) => listeners,
            None => match require_token(&health, exposed).and_then(|()| bind()).await {
                Ok(listeners) => listeners,
                Err(error) => {
                    // Otherwise its tasks would warn that PostgreSQL stops, and these lines would hide the error.
                    let _ = health.close().await;
                    return Err(error);
                }
            },
        };
        tokio::select! {
            served = serve_from(&postgres, health, listeners, options, reloads, shutdown) => served,
            never = reload_on_hangup(hangup, tls.clone(), config_file) => match never {},
        }
    };
    let served = served.await;
    let stopped = postgres.stop().await;
    served?;
    Ok(stopped?)
}

/// Serves until `shutdown` resolves, or the embedded PostgreSQL ends and starting it again cannot help.
async fn serve_from(
    postgres: &Postgres,
    health: Health,
    listeners: Listeners,
    options: ServerOptions,
    reloads: Arc<FailedReloads>,
    shutdown: impl Future<Output = ()> + Unpin,
) -> Result<(), ProgramError> {
    announce(&listeners).map_err(ProgramError::System)?;
    service_manager::ready();
    let watchdog = Box::pin(service_manager::keep_watchdog(listeners.http_address()));
    let mut postgres_error = None;
    let shutdown = async {
        tokio::select! {
            () = shutdown => {}
            error = postgres.ended() => postgres_error = Some(error),
            never = watchdog => match never {},
        }
        service_manager::stopping();
    };
    let last_responses = async {
        postgres.ended().await;
        sleep(LAST_RESPONSES_TIMEOUT).await;
    };
    let outcome = tokio::select! {
        outcome = run_reloadable(listeners, health, options, reloads, shutdown) => outcome,
        // Without a database nothing can be stored, so requests need not wait for their full deadline.
        () = last_responses => Ok(()),
    };
    match postgres_error {
        Some(error) => Err(error.into()),
        None => Ok(outcome?),
    }
}

/// Opens the database. If it is out of reach, tries again until [`DATABASE_TIMEOUT`], or as long as the program starts
/// its own PostgreSQL again.
async fn open_with_retries(config: Config, status: &DatabaseStatus) -> Result<Health, Error> {
    tracing::info!("using the {config}");
    let deadline = Instant::now() + DATABASE_TIMEOUT;
    let mut is_logged = false;
    loop {
        match open(config.clone()).await {
            Err(error) if error.is_retryable() && (Instant::now() < deadline || status.outage().is_some()) => {
                if !is_logged {
                    tracing::warn!(
                        error = error.chain(),
                        "the database is not available yet: waiting up to {DATABASE_TIMEOUT:?} for it"
                    );
                    is_logged = true;
                }
                sleep(DATABASE_RETRY_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

/// Opens the database and reads the tokens, without which nothing can be served.
async fn open(config: Config) -> Result<Health, Error> {
    let health = Health::open(config).await?;
    health.authenticator().await?;
    Ok(health)
}

/// Refuses an address that other machines can reach while no token exists, because every client may then read, write
/// and erase all data.
async fn require_token(health: &Health, exposed: Option<(&'static str, &str)>) -> Result<(), ProgramError> {
    match exposed {
        Some((flag, address)) if !health.authenticator().await?.is_token_needed() => Err(ProgramError::NotLoopback {
            flag,
            address: address.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Registers for SIGINT and SIGTERM. The returned future resolves when one arrives.
fn shutdown_signal() -> Result<impl Future<Output = ()>, ProgramError> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ProgramError::System)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(ProgramError::System)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Reads the certificate and its key, if the server speaks TLS.
fn load_tls(args: &ServeArgs) -> Result<Option<Arc<ServerTls>>, ProgramError> {
    match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => Ok(Some(Arc::new(ServerTls::load(certificate, key)?))),
        (None, None) => Ok(None),
        (given, _) => {
            let (given, missing) = match given {
                Some(_) => ("--tls-cert", "--tls-key"),
                None => ("--tls-key", "--tls-cert"),
            };
            Err(ProgramError::HalfOfTls { given, missing })
        }
    }
}

/// Prints the addresses on stdout.
fn announce(listeners: &Listeners) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{listeners}")?;
    stdout.flush()
}
