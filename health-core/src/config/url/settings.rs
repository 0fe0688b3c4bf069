//! From the parameters of a URL to the settings of the driver.

use std::{net::IpAddr, str::FromStr, time::Duration};

use tokio_postgres::config::{ChannelBinding, Host, LoadBalanceHosts, SslNegotiation, TargetSessionAttrs};

use crate::config::url::{fault::UrlFault, parameters::Parameters};

/// How long a database machine may leave bytes unacknowledged before its connections are given up.
///
/// The operating system's own timeout is 15 minutes or more. 30 s is well above any delay of a healthy network.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);

/// How long one attempt to connect to the database may take, unless the URL says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the driver's settings. Those of TLS are in [`Tls`](crate::config::tls::Tls).
///
/// Without a host the list of hosts is empty: the default socket is chosen when a connection is made.
pub(crate) fn driver_settings(parameters: &Parameters) -> Result<tokio_postgres::Config, UrlFault> {
    let mut settings = tokio_postgres::Config::new();
    set_identity(&mut settings, parameters)?;
    set_hosts(&mut settings, parameters)?;
    set_timeouts(&mut settings, parameters)?;
    set_choices(&mut settings, parameters)?;
    Ok(settings)
}

/// Sets who connects to which database. As in libpq, the user is that of the system, and the database has its name.
fn set_identity(settings: &mut tokio_postgres::Config, parameters: &Parameters) -> Result<(), UrlFault> {
    let user = match parameters.text("user")? {
        Some(user) => user.to_owned(),
        None => whoami::username().map_err(|_| UrlFault::NoUser)?,
    };
    settings.dbname(parameters.text("dbname")?.unwrap_or(&user)).user(&user);
    if let Some(password) = parameters.bytes("password") {
        settings.password(password);
    }
    if let Some(options) = parameters.text("options")? {
        settings.options(options);
    }
    if let Some(name) = parameters.text("application_name")? {
        settings.application_name(name);
    }
    Ok(())
}

fn set_hosts(settings: &mut tokio_postgres::Config, parameters: &Parameters) -> Result<(), UrlFault> {
    let addresses = parameters
        .text("hostaddr")?
        .map_or_else(Vec::new, |list| list.split(',').collect());
    for address in &addresses {
        let parsed = IpAddr::from_str(address).map_err(|_| UrlFault::Value {
            name: "hostaddr",
            value: (*address).to_owned(),
            expected: "an IP address for each host, and names as `host`",
        })?;
        settings.hostaddr(parsed);
    }
    // TLS checks the name of the host. Without one, the certificate must name the address.
    let hosts: Vec<&[u8]> = match parameters.bytes("host") {
        Some(hosts) => hosts.split(|byte| *byte == b',').collect(),
        None => addresses.iter().map(|address| address.as_bytes()).collect(),
    };
    for host in &hosts {
        set_host(settings, host)?;
    }
    check_count("hostaddr", hosts.len(), addresses.len(), 0)?;
    let Some(ports) = parameters.text("port")? else {
        return Ok(());
    };
    let ports: Vec<_> = ports.split(',').collect();
    check_count("port", hosts.len().max(1), ports.len(), 1)?;
    for port in ports {
        match if port.is_empty() { Ok(5432) } else { port.parse() } {
            Ok(0) | Err(_) => return Err(UrlFault::Port),
            Ok(port) => settings.port(port),
        };
    }
    Ok(())
}

fn set_host(settings: &mut tokio_postgres::Config, host: &[u8]) -> Result<(), UrlFault> {
    if host.first() == Some(&b'/') {
        use std::os::unix::ffi::OsStrExt;
        settings.host_path(std::ffi::OsStr::from_bytes(host));
    } else {
        let host = std::str::from_utf8(host).map_err(|_| UrlFault::NotUtf8("host"))?;
        settings.host(if host.is_empty() { "localhost" } else { host });
    }
    Ok(())
}

/// Checks that there is a value for each host, or exactly `shared` values for all of them.
fn check_count(name: &'static str, hosts: usize, others: usize, shared: usize) -> Result<(), UrlFault> {
    if others == hosts || others == shared {
        Ok(())
    } else {
        Err(UrlFault::Count { name, hosts, others })
    }
}

fn set_timeouts(settings: &mut tokio_postgres::Config, parameters: &Parameters) -> Result<(), UrlFault> {
    let seconds = |name| Ok(number(parameters, name)?.map(Duration::from_secs));
    let milliseconds = |name| Ok(number(parameters, name)?.map(Duration::from_millis));
    settings.connect_timeout(seconds("connect_timeout")?.unwrap_or(CONNECT_TIMEOUT));
    settings.tcp_user_timeout(milliseconds("tcp_user_timeout")?.unwrap_or(UNACKNOWLEDGED_MAX));
    let idle = seconds("keepalives_idle")?.unwrap_or(UNACKNOWLEDGED_MAX);
    settings.keepalives_idle(idle.min(UNACKNOWLEDGED_MAX));
    if let Some(interval) = seconds("keepalives_interval")? {
        settings.keepalives_interval(interval);
    }
    if let Some(count) = number(parameters, "keepalives_count")? {
        settings.keepalives_retries(u32::try_from(count).unwrap_or(u32::MAX));
    }
    if let Some(keepalives) = choice(parameters, "keepalives", "0 or 1", &[("1", true), ("0", false)])? {
        settings.keepalives(keepalives);
    }
    Ok(())
}

fn set_choices(settings: &mut tokio_postgres::Config, parameters: &Parameters) -> Result<(), UrlFault> {
    let sessions = [
        ("any", TargetSessionAttrs::Any),
        ("read-write", TargetSessionAttrs::ReadWrite),
        ("primary", TargetSessionAttrs::ReadWrite),
        ("read-only", TargetSessionAttrs::ReadOnly),
    ];
    if let Some(attributes) = choice(
        parameters,
        "target_session_attrs",
        "any, read-write or read-only",
        &sessions,
    )? {
        settings.target_session_attrs(attributes);
    }
    let bindings = [
        ("disable", ChannelBinding::Disable),
        ("prefer", ChannelBinding::Prefer),
        ("require", ChannelBinding::Require),
    ];
    if let Some(binding) = choice(parameters, "channel_binding", "disable, prefer or require", &bindings)? {
        settings.channel_binding(binding);
    }
    let orders = [
        ("disable", LoadBalanceHosts::Disable),
        ("random", LoadBalanceHosts::Random),
    ];
    if let Some(order) = choice(parameters, "load_balance_hosts", "disable or random", &orders)? {
        settings.load_balance_hosts(order);
    }
    let negotiations = [
        ("postgres", SslNegotiation::Postgres),
        ("direct", SslNegotiation::Direct),
    ];
    if let Some(negotiation) = choice(parameters, "sslnegotiation", "postgres or direct", &negotiations)? {
        settings.ssl_negotiation(negotiation);
    }
    // What these say is always so: no GSSAPI, UTF-8, no compression by TLS.
    let always = |name, expected, values: &[(&'static str, ())]| choice(parameters, name, expected, values).map(|_| ());
    always("gssencmode", "disable or prefer", &[("disable", ()), ("prefer", ())])?;
    always(
        "client_encoding",
        "UTF8",
        &[("utf8", ()), ("utf-8", ()), ("auto", ()), ("unicode", ())],
    )?;
    always("sslcompression", "0", &[("0", ())])
}

/// Returns the number that a parameter has. Zero means the default, as in libpq.
fn number(parameters: &Parameters, name: &'static str) -> Result<Option<u64>, UrlFault> {
    let Some(text) = parameters.text(name)? else {
        return Ok(None);
    };
    let number: u32 = text.parse().map_err(|_| UrlFault::Value {
        name,
        value: text.to_owned(),
        expected: "a whole number; 0 means the default",
    })?;
    Ok((number > 0).then_some(u64::from(number)))
}

/// Returns what the value of a parameter stands for.
pub(crate) fn choice<T: Copy>(
    parameters: &Parameters,
    name: &'static str,
    expected: &'static str,
    values: &[(&'static str, T)],
) -> Result<Option<T>, UrlFault> {
    let Some(text) = parameters.text(name)? else {
        return Ok(None);
    };
    let chosen = values.iter().find(|(value, _)| text.eq_ignore_ascii_case(value));
    match chosen {
        Some((_, meaning)) => Ok(Some(*meaning)),
        None => Err(UrlFault::Value {
            name,
            value: text.to_owned(),
            expected,
        }),
    }
}

/// Returns whether any host is a socket of this machine, and whether any is in the network.
pub(crate) fn kinds_of_hosts(settings: &tokio_postgres::Config) -> (bool, bool) {
    let hosts = settings.get_hosts();
    let has_socket = hosts.is_empty() || hosts.iter().any(|host| matches!(host, Host::Unix(_)));
    (has_socket, hosts.iter().any(|host| matches!(host, Host::Tcp(_))))
}
