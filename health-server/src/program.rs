//! The program around [`run`](crate::run): the command line, the database, the listeners, signals and the exit
//! status.

use std::{
    convert::Infallible,
    future::{Future, pending},
    io::{self, Write},
    net::SocketAddr,
    pin::pin,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use health_core::{Config, DatabaseStatus, Error, Health, Limits, backup::BackupError, grants, migrate};
use tokio::{
    net::lookup_host,
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep},
};

use crate::{
    args::{Args, Command, ServeArgs},
    backup,
    database::Postgres,
    descriptors::{raise_open_files_limit, shortage},
    error::ProgramError,
    http::starting,
    import,
    listeners::Listeners,
    logging,
    options::ServerOptions,
    server::run,
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

/// Executes a command line. If that fails, writes the reason to stderr.
pub fn main(args: Args) -> ExitCode {
    logging::init(args.log_format);
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(ProgramError::System)
        .and_then(|runtime| runtime.block_on(execute(args)));
    match outcome {
        Ok(status) => status,
        Err(error) => {
            let message = match &error {
                // Has several lines and needs no prefix.
                ProgramError::Embedded(error) | ProgramError::Backup(BackupError::Embedded(error)) => error.to_string(),
                ProgramError::Health(error) | ProgramError::Backup(BackupError::Database(error)) => {
                    format!("health-server: {}", error.chain())
                }
                error => format!("health-server: {error}"),
            };
            // If stderr is closed, the exit status remains.
            let _ = writeln!(io::stderr(), "{message}");
            ExitCode::FAILURE
        }
    }
}

async fn execute(args: Args) -> Result<ExitCode, ProgramError> {
    match args.command {
        None => serve(args.serve).await?,
        Some(Command::Serve(args)) => serve(*args).await?,
        Some(Command::Import(args)) => return Ok(import::execute(*args).await),
        Some(Command::Token { command }) => tokens::execute(command).await?,
        Some(Command::Backup(args)) => backup::back_up(args).await?,
        Some(Command::Restore(args)) => backup::restore(args).await?,
        Some(Command::Migrate(args)) => {
            let postgres = Postgres::for_command(&args.database).await?;
            let migrated = migrate_and_print(&postgres, args.print_grants.as_deref()).await;
            postgres.stop().await?;
            migrated?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Brings the schema up to date. Prints what to grant to a role, if there is one.
async fn migrate_and_print(postgres: &Postgres, role: Option<&str>) -> Result<(), ProgramError> {
    let config = postgres.config(Limits::default())?;
    tracing::info!("using the {config}");
    migrate(&config).await?;
    if let Some(role) = role {
        let statements = grants(&config, role).await?;
        write!(io::stdout(), "{statements}").map_err(ProgramError::System)?;
    }
    Ok(())
}

async fn serve(args: ServeArgs) -> Result<(), ProgramError> {
    let exposed = if args.allow_anonymous {
        None
    } else {
        exposed_address([("--http", &args.http), ("--feed", &args.feed)]).await
    };
    raise_open_files_limit();
    if let Some((available, needed)) = shortage(&args.core_limits) {
        return Err(ProgramError::TooFewFiles { available, needed });
    }
    let tls = match args.tls_cert.zip(args.tls_key) {
        Some((certificate, key)) => {
            let hangup = signal(SignalKind::hangup()).map_err(ProgramError::System)?;
            Some((Arc::new(ServerTls::load(&certificate, &key)?), hangup))
        }
        None => None,
    };
    // Registered before the first slow step, so that an early Ctrl-C stops PostgreSQL in order, too.
    let mut shutdown = pin!(shutdown_signal()?);
    // Bound before PostgreSQL starts, so that an address in use is reported at once. An address that other machines can
    // reach is bound only after a look at the tokens.
    let certificate = tls.as_ref().map(|(certificate, _)| Arc::clone(certificate));
    let bind = async || {
        let listeners = Listeners::bind(&args.http, &args.feed).await?;
        Ok::<_, ProgramError>(match &certificate {
            Some(certificate) => listeners.with_tls(Arc::clone(certificate)),
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
        let listeners = if let Some(listeners) = bound {
            listeners
        } else {
            require_token(&health, exposed).await?;
            bind().await?
        };
        tokio::select! {
            served = serve_from(&postgres, health, listeners, options, shutdown) => served,
            never = reload_on_hangup(tls) => match never {},
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
    shutdown: impl Future<Output = ()> + Unpin,
) -> Result<(), ProgramError> {
    announce(&listeners).map_err(ProgramError::System)?;
    let mut postgres_error = None;
    let shutdown = async {
        tokio::select! {
            () = shutdown => {}
            error = postgres.ended() => postgres_error = Some(error),
        }
    };
    let last_responses = async {
        postgres.ended().await;
        sleep(LAST_RESPONSES_TIMEOUT).await;
    };
    let outcome = tokio::select! {
        outcome = run(listeners, health, options, shutdown) => outcome,
        // Without a database nothing can be stored, so requests need not wait for their full deadline.
        () = last_responses => Ok(()),
    };
    match postgres_error {
        Some(error) => Err(error.into()),
        None => Ok(outcome?),
    }
}

/// Opens the database. If it is out of reach, tries again until [`DATABASE_TIMEOUT`], or as long as the program starts its
/// own PostgreSQL again.
async fn open_with_retries(config: Config, status: &DatabaseStatus) -> Result<Health, Error> {
    tracing::info!("using the {config}");
    let deadline = Instant::now() + DATABASE_TIMEOUT;
    let mut is_logged = false;
    loop {
        match Health::open(config.clone()).await {
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

/// Returns the first address that other machines can reach, with its flag.
async fn exposed_address<'a>(addresses: [(&'static str, &'a str); 2]) -> Option<(&'static str, &'a str)> {
    for (flag, address) in addresses {
        // An address that cannot be resolved passes here; binding it fails with a message of its own.
        let mut resolved = lookup_host(address).await.into_iter().flatten();
        if resolved.any(|address: SocketAddr| !address.ip().is_loopback()) {
            return Some((flag, address));
        }
    }
    None
}

/// Refuses an address that other machines can reach while no token exists, because every client may then read, write and
/// erase all data.
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

/// Reads the certificate again at each SIGHUP. Without a certificate, SIGHUP ends the program as it ends any other.
async fn reload_on_hangup(tls: Option<(Arc<ServerTls>, Signal)>) -> Infallible {
    if let Some((tls, mut hangup)) = tls {
        while hangup.recv().await.is_some() {
            tls.reload();
        }
    }
    pending().await
}

/// Prints the addresses on stdout.
fn announce(listeners: &Listeners) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{listeners}")?;
    stdout.flush()
}
