//! The process and its files: it ends, its certificate expires, its files have faults, it may open few files.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use chrono::{Datelike, TimeDelta, Utc};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use test_support::{Authority, Certificate, ReservedPort, Signal, TempDir, TestDatabase, TestProcess, test_directory};
use tokio::join;

use super::prometheus::{Prometheus, Target};

/// A server in a process of its own.
struct Program {
    process: TestProcess,
    http: SocketAddr,
    /// The port of `http`, also while the process is down.
    _port: ReservedPort,
    database: TestDatabase,
    directory: TempDir,
}

async fn start(http: SocketAddr, database: &TestDatabase, arguments: &[&str]) -> TestProcess {
    let arguments = [&["--database-url", database.url()], arguments].concat();
    let program = env!("CARGO_BIN_EXE_health-server");
    let (process, _) = TestProcess::health_server(program, &http.to_string(), &arguments, Stdio::null()).await;
    process
}

impl Program {
    /// Starts a server with these files in its directory and these options, whose values are files if their names say
    /// so.
    async fn with_files(files: &[(&str, &str)], options: &[(&str, &str)]) -> Self {
        let (directory, database) = (test_directory(), TestDatabase::new().await);
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let paths: Vec<(&str, PathBuf)> = options
            .iter()
            .map(|(option, file)| (*option, directory.path().join(file)))
            .collect();
        let arguments: Vec<&str> = paths
            .iter()
            .flat_map(|(option, path)| [*option, path.to_str().unwrap()])
            .collect();
        let port = ReservedPort::new();
        let http = port.address();
        Self {
            process: start(http, &database, &arguments).await,
            http,
            _port: port,
            database,
            directory,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Replaces files, and tells the server to read them.
    fn replace(&self, files: &[(&str, &str)]) {
        for (name, text) in files {
            fs::write(self.path(name), text).unwrap();
        }
        self.process.signal(Signal::HUP);
    }

    fn replace_certificate(&self, certificate: &Certificate) {
        self.replace(&[
            ("certificate.pem", certificate.certificate.as_str()),
            ("key.pem", certificate.key.as_str()),
        ]);
    }
}

/// A certificate that is valid for so many days.
fn certificate_for(authority: &Authority, days: i64) -> Certificate {
    let end = Utc::now() + TimeDelta::days(days);
    let (month, day) = (u8::try_from(end.month()).unwrap(), u8::try_from(end.day()).unwrap());
    authority.sign_until("health", &["127.0.0.1"], (end.year(), month, day))
}

/// The certificate is about to expire, its successor cannot be read, and the next one is good.
async fn certificates(prometheus: &Prometheus, program: &Program, authority: &Authority) {
    program.replace_certificate(&certificate_for(authority, 10));
    prometheus.fires("HealthCertificateExpires", program.http).await;
    program.replace(&[("certificate.pem", "damaged")]);
    prometheus.fires("HealthCertificateNotRead", program.http).await;
    program.replace_certificate(&certificate_for(authority, 90));
    prometheus.ends("HealthCertificateExpires", program.http).await;
}

/// An operator mistypes a setting.
async fn configuration(prometheus: &Prometheus, program: &Program) {
    program.replace(&[("server.toml", "raeders = 8\n")]);
    prometheus.fires("HealthConfigurationNotRead", program.http).await;
}

/// The limit of open files is lowered while the server runs. It never opens so many by itself if the limit is lower
/// than 30 000, because its listeners leave an eighth of it free.
async fn few_files(prometheus: &Prometheus, program: &Program) {
    let id = i32::try_from(program.process.id()).unwrap();
    let open = fs::read_dir(Path::new("/proc").join(id.to_string()).join("fd"));
    let open = u64::try_from(open.unwrap().count()).unwrap();
    let set = |current| {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        prlimit(Pid::from_raw(id), Resource::Nofile, Rlimit { current, maximum }).unwrap()
    };
    let before = set(Some((open * 10 - 1) / 9));
    prometheus.fires("HealthFewFiles", program.http).await;
    set(before.current);
    prometheus.ends("HealthFewFiles", program.http).await;
}

/// The process is killed again and again, and is started each time.
async fn restarts(prometheus: &Prometheus, program: Program) {
    let Program {
        mut process,
        http,
        database,
        ..
    } = program;
    for restart in 1..=3_u8 {
        process.kill().await;
        if restart == 1 {
            prometheus.fires("HealthServerDown", http).await;
        }
        process = start(http, &database, &[]).await;
        let changes = "changes(process_start_time_seconds[1h])";
        prometheus.reaches(changes, f64::from(restart), http).await;
    }
    prometheus.fires("HealthRestarts", http).await;
    prometheus.ends("HealthServerDown", http).await;
}

#[tokio::test]
async fn alerts_about_the_process_and_its_files_fire_at_real_faults() {
    let authority = Authority::new("authority");
    let certificate = certificate_for(&authority, 90);
    let secure = Program::with_files(
        &[
            ("authority.pem", authority.certificate().as_str()),
            ("certificate.pem", certificate.certificate.as_str()),
            ("key.pem", certificate.key.as_str()),
        ],
        &[("--tls-cert", "certificate.pem"), ("--tls-key", "key.pem")],
    )
    .await;
    let configured = Program::with_files(&[("server.toml", "readers = 4\n")], &[("--config", "server.toml")]).await;
    let (few, restarted) = (Program::with_files(&[], &[]).await, Program::with_files(&[], &[]).await);
    let mut targets = [configured.http, few.http, restarted.http].map(Target::from).to_vec();
    targets.push(Target {
        authority: Some(secure.path("authority.pem")),
        ..Target::from(secure.http)
    });
    let Some(prometheus) = Prometheus::watch(targets).await else {
        return;
    };
    join!(
        certificates(&prometheus, &secure, &authority),
        configuration(&prometheus, &configured),
        few_files(&prometheus, &few),
        restarts(&prometheus, restarted),
    );
    prometheus.stop().await;
}
