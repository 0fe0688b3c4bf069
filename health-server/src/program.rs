//! The program around [`run`](crate::run): a database, two ports, signals, and sentences for whoever started it.

use std::{
    future::Future,
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use health_core::{Config, Error, Health, migrate};
use tokio::{
    net::lookup_host,
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep},
};
use tracing_subscriber::EnvFilter;

use crate::{
    accept::Listeners,
    args::{Args, Command, Serve},
    database::Provided,
    error::ProgramError,
    limits::Limits,
    server::run,
};

/// How long a database that is not there yet is waited for.
const DATABASE_WAIT: Duration = Duration::from_mins(1);

/// How long to wait before asking for it again.
const DATABASE_RETRY: Duration = Duration::from_millis(500);

/// How long answers may take that are still due when our own PostgreSQL has ended.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Carries out a command line, and says on stderr why where it could not.
pub fn main(args: Args) -> ExitCode {
    trace();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(ProgramError::System)
        .and_then(|runtime| runtime.block_on(carry_out(args)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With stderr gone there is nobody to tell.
            let _ = match &error {
                // Several lines, made to be read as they stand.
                ProgramError::Embedded(error) => writeln!(io::stderr(), "{error}"),
                error => writeln!(io::stderr(), "health-server: {error}"),
            };
            ExitCode::FAILURE
        }
    }
}

async fn carry_out(args: Args) -> Result<(), ProgramError> {
    match args.command {
        None => serve(args.serve).await,
        Some(Command::Serve(args)) => serve(*args).await,
        Some(Command::Migrate(database)) => {
            let provided = Provided::for_a_moment(&database).await?;
            let migrated = migrate(&provided.config(&Limits::default())?).await;
            provided.stop().await?;
            Ok(migrated?)
        }
    }
}

async fn serve(args: Serve) -> Result<(), ProgramError> {
    if !args.allow_anonymous {
        for (flag, address) in [("--http", &args.http), ("--feed", &args.feed)] {
            refuse_strangers(flag, address).await?;
        }
    }
    raise_open_files();
    // Registered before the first slow step, so that an early Ctrl-C ends it in order as well.
    let mut shutdown = pin!(asked_to_end()?);
    let listeners = Listeners::bind(&args.http, &args.feed).await?;
    let provided = tokio::select! {
        provided = Provided::for_serving(&args.database) => provided?,
        () = &mut shutdown => return Ok(()),
    };
    let served = serve_from(&provided, listeners, args.limits, shutdown).await;
    let stopped = provided.stop().await;
    served?;
    Ok(stopped?)
}

async fn serve_from(
    provided: &Provided,
    listeners: Listeners,
    limits: Limits,
    mut shutdown: impl Future<Output = ()> + Unpin,
) -> Result<(), ProgramError> {
    let config = provided.config(&limits)?;
    let health = tokio::select! {
        opened = open_once_there(config) => opened?,
        error = provided.ended() => return Err(error.into()),
        () = &mut shutdown => return Ok(()),
    };
    say(&listeners).map_err(ProgramError::System)?;
    let mut lost = None;
    let end = async {
        tokio::select! {
            () = shutdown => {}
            error = provided.ended() => lost = Some(error),
        }
    };
    let given_up = async {
        provided.ended().await;
        sleep(LAST_ANSWERS).await;
    };
    let outcome = tokio::select! {
        outcome = run(listeners, health, limits, end) => outcome,
        // Nothing can be stored any more: whoever still waits is not kept for the whole of the deadline.
        () = given_up => Ok(()),
    };
    lost.map_or(Ok(()), |error| Err(error.into()))
        .and(outcome.map_err(ProgramError::Health))
}

/// Opens the database, waiting for it where it is not there yet.
async fn open_once_there(config: Config) -> Result<Health, Error> {
    let deadline = Instant::now() + DATABASE_WAIT;
    let mut told = false;
    loop {
        match Health::open(config.clone()).await {
            Err(error) if error.is_retryable() && Instant::now() < deadline => {
                if !told {
                    tracing::warn!(
                        error = error.chain(),
                        "the database is not there yet, waiting up to {DATABASE_WAIT:?} for it"
                    );
                    told = true;
                }
                sleep(DATABASE_RETRY).await;
            }
            outcome => return outcome,
        }
    }
}

/// Until there are tokens, whoever can connect can read and write everything.
async fn refuse_strangers(flag: &'static str, address: &str) -> Result<(), ProgramError> {
    // What cannot be looked up cannot be bound either, and that has an error of its own.
    let mut found = lookup_host(address).await.into_iter().flatten();
    if found.all(|address: SocketAddr| address.ip().is_loopback()) {
        Ok(())
    } else {
        Err(ProgramError::NotLoopback(format!("{flag} {address}")))
    }
}

/// Thousands of feed connections are thousands of open files, and many systems start programs with 1024.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    ) {
        tracing::debug!(%error, "the number of open files stays as it was");
    }
}

/// Resolves on SIGINT or SIGTERM.
fn asked_to_end() -> Result<impl Future<Output = ()>, ProgramError> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ProgramError::System)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(ProgramError::System)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

fn say(listeners: &Listeners) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{listeners}")?;
    out.flush()
}

fn trace() {
    let filter = EnvFilter::try_from_env("HEALTH_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_ansi(io::stderr().is_terminal())
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .init();
}
