//! How a server is configured: a file in TOML, over it the environment, over that the command line.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::service::{ACCOUNT_DEFAULT, REGION_DEFAULT, is_region};

/// Longest time of a limit: a year. Moments that are too far away cannot be told.
const SECONDS_MAX: u64 = 31_536_000;

/// Everything that can be configured. What a file does not name has its default.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Config {
    /// The address to listen on; port 0 for any that is free.
    pub listen: SocketAddr,
    /// Threads that serve connections, 1..=1,024; one per core unless given.
    pub threads: Option<usize>,
    /// The region of ARNs where a request's signature names none.
    pub region: String,
    /// The account of all queues: twelve digits.
    pub account: String,
    /// What queue URLs begin with, such as `https://sqs.example.org`; otherwise what the request's `Host` says.
    pub public_url: Option<String>,
    /// Whether SQS's rests of 60 seconds are kept: between two purges of a queue, and from a queue's deletion to a new one of its name.
    pub cooldowns: bool,
    /// Memory for messages, in MiB. All queues' tags and attributes may take a quarter as much besides.
    pub memory_mib: u64,
    /// The most queues there may be.
    pub queues_max: usize,
    /// What is logged.
    pub log: Log,
    /// What a client may ask of the server.
    pub limits: Limits,
    /// TLS; plain HTTP if there is none.
    pub tls: Option<Tls>,
    /// Whose requests are served; everybody's if there is none.
    pub auth: Option<Auth>,
    /// Queues to create at the start.
    pub queues: Vec<QueueSpec>,
}

/// What is logged.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,epoq_server=debug`. Requests for messages are logged at
    /// `debug`, others at `info`.
    pub filter: String,
    /// As text for people, or a JSON object a line.
    pub format: LogFormat,
}

/// How it is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What a client may ask of the server.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Limits {
    /// Longest head of a request in bytes, 8,192 at least.
    pub head_bytes: usize,
    /// Longest body of a request in bytes. A message of 1 MiB can take six times as much in JSON.
    pub body_bytes: usize,
    /// Requests' bodies and answers under way on all connections, in MiB. Requests beyond it are to be tried again.
    pub bodies_mib: usize,
    /// Connections at a time. Those beyond are told so and closed.
    pub connections: usize,
    /// How long a connection may be without a complete head of a request, in seconds.
    pub idle_s: u64,
    /// How long a body may take to come, in seconds.
    pub body_s: u64,
    /// How long a client may not read what it is sent, and take for all of it beyond what 64 KiB a second would, in seconds.
    pub stall_s: u64,
    /// How long open connections may take to end when the server does, in seconds.
    pub shutdown_s: u64,
}

/// TLS.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Tls {
    /// The file of the certificate chain, in PEM.
    pub certificate: PathBuf,
    /// The file of the private key, in PEM.
    pub key: PathBuf,
}

/// Whose requests are served.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Auth {
    /// Secret access keys by access key id.
    pub keys: BTreeMap<String, String>,
    /// How far the moment of a signature may be from now, in seconds.
    #[serde(default = "skew_default")]
    pub skew_s: u64,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the secrets.
        f.debug_struct("Auth")
            .field("keys", &self.keys.keys().collect::<Vec<_>>())
            .field("skew_s", &self.skew_s)
            .finish()
    }
}

const fn skew_default() -> u64 {
    900
}

/// A queue to create at the start.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct QueueSpec {
    /// Its name.
    pub name: String,
    /// Its attributes, by SQS's names. Numbers and booleans may stand as such, and policies as tables.
    #[serde(default)]
    pub attributes: BTreeMap<String, toml::Value>,
    /// Its tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9324)),
            threads: None,
            region: REGION_DEFAULT.to_owned(),
            account: ACCOUNT_DEFAULT.to_owned(),
            public_url: None,
            cooldowns: false,
            memory_mib: 1024,
            queues_max: 100_000,
            log: Log::default(),
            limits: Limits::default(),
            tls: None,
            auth: None,
            queues: Vec::new(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 64 << 10,
            body_bytes: 8 << 20,
            bodies_mib: 512,
            connections: 20_000,
            idle_s: 60,
            body_s: 30,
            stall_s: 30,
            shutdown_s: 10,
        }
    }
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, or is not what it should be: the text says where.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    /// Reads a text in TOML.
    ///
    /// # Errors
    /// If it is not what it should be: the text says where.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(toml::from_str(text)?)
    }

    /// Whether all is within its limits.
    ///
    /// # Errors
    /// The first thing that is not.
    pub fn check(&self) -> Result<()> {
        ensure!(
            self.account.len() == 12 && self.account.bytes().all(|byte| byte.is_ascii_digit()),
            "account {:?}: must be twelve digits",
            self.account
        );
        ensure!(
            is_region(&self.region),
            "region {:?}: must be lower-case letters, digits and hyphens",
            self.region
        );
        if let Some(threads) = self.threads {
            ensure!(
                (1..=1024).contains(&threads),
                "threads {threads}: must be 1 to 1024"
            );
        }
        let limits = &self.limits;
        ensure!(
            limits.head_bytes >= 8_192,
            "limits.head-bytes {}: must be 8192 at least",
            limits.head_bytes
        );
        for (name, value) in [
            ("memory-mib", self.memory_mib),
            ("limits.body-bytes", limits.body_bytes as u64),
            ("limits.bodies-mib", limits.bodies_mib as u64),
            ("limits.connections", limits.connections as u64),
            ("limits.idle-s", limits.idle_s),
            ("limits.body-s", limits.body_s),
            ("limits.stall-s", limits.stall_s),
        ] {
            ensure!(value > 0, "{name}: must be 1 at least");
        }
        for (name, seconds) in [
            ("idle-s", limits.idle_s),
            ("body-s", limits.body_s),
            ("stall-s", limits.stall_s),
            ("shutdown-s", limits.shutdown_s),
        ] {
            ensure!(
                seconds <= SECONDS_MAX,
                "limits.{name} {seconds}: must be {SECONDS_MAX} at most"
            );
        }
        if let Some(url) = &self.public_url {
            let is_url = url.starts_with("http://") || url.starts_with("https://");
            ensure!(
                is_url && !url.ends_with('/') && url.is_ascii(),
                "public-url {url:?}: must begin with http:// or https://, without a slash at the end"
            );
        }
        if let Some(auth) = &self.auth {
            ensure!(!auth.keys.is_empty(), "auth.keys: must name one key at least");
            // Anybody can sign with a secret that is empty.
            ensure!(
                auth.keys
                    .iter()
                    .all(|(id, secret)| !id.is_empty() && !secret.is_empty()),
                "auth.keys: neither an id nor a secret may be empty"
            );
        }
        Ok(())
    }

    /// Whether others than this machine can call the server, and need no key for it.
    #[must_use]
    pub fn is_open_to_all(&self) -> bool {
        self.auth.is_none() && !self.listen.ip().is_loopback()
    }
}

impl Auth {
    /// Keys from a text: `ID=SECRET`, separated by commas.
    ///
    /// # Errors
    /// If it is something else. The error repeats nothing of it.
    pub fn parse(text: &str) -> Result<Self> {
        let mut keys = BTreeMap::new();
        for (at, pair) in text.split(',').map(str::trim).enumerate() {
            let key = pair
                .split_once('=')
                .filter(|(id, secret)| !id.is_empty() && !secret.is_empty());
            let (id, secret) =
                key.with_context(|| format!("auth.keys: number {} must be ID=SECRET", at + 1))?;
            ensure!(
                keys.insert(id.to_owned(), secret.to_owned()).is_none(),
                "auth.keys: number {} has the id of another",
                at + 1
            );
        }
        Ok(Self {
            keys,
            skew_s: skew_default(),
        })
    }
}

impl Tls {
    /// TLS with a certificate chain and a private key from these files.
    #[must_use]
    pub fn new(certificate: PathBuf, key: PathBuf) -> Self {
        Self { certificate, key }
    }
}

impl Limits {
    pub(crate) fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_s)
    }

    pub(crate) fn body(&self) -> Duration {
        Duration::from_secs(self.body_s)
    }

    pub(crate) fn stall(&self) -> Duration {
        Duration::from_secs(self.stall_s)
    }

    pub(crate) fn shutdown(&self) -> Duration {
        Duration::from_secs(self.shutdown_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_differs_from_the_defaults() {
        let config = Config::parse(
            r#"
            listen = "127.0.0.1:0"
            cooldowns = true
            [limits]
            idle-s = 5
            [auth.keys]
            AKID = "secret"
            [[queues]]
            name = "jobs"
            attributes = { VisibilityTimeout = 60, RedrivePolicy = { maxReceiveCount = 3 } }
            tags = { team = "a" }
            "#,
        )
        .unwrap();
        assert!(config.cooldowns);
        assert_eq!((config.limits.idle_s, config.limits.body_s), (5, 30));
        assert_eq!(
            config.queues[0].attributes["VisibilityTimeout"].as_integer(),
            Some(60)
        );
        assert!(!format!("{config:?}").contains("secret"));
        config.check().unwrap();
    }

    #[test]
    fn what_is_unknown_or_out_of_range_is_refused() {
        for text in [
            "lissen = 1",
            "listen = 9324",
            "[limits]\nidle = 1",
            "[auth]\nskew-s = 1",
        ] {
            assert!(Config::parse(text).is_err(), "{text}");
        }
        for text in [
            "account = \"1\"",
            "region = \"Europe\"",
            "threads = 0",
            "public-url = \"sqs\"",
            "[limits]\nhead-bytes = 1",
            "[limits]\nidle-s = 0",
            "[limits]\nidle-s = 31536001",
            "[limits]\nbody-s = 9223372036854775807",
            "[limits]\nstall-s = 9223372036854775807",
            "[limits]\nshutdown-s = 9223372036854775807",
            "[auth]\nkeys = {}",
            "[auth]\nkeys = { A = \"s\", B = \"\" }",
            "[auth]\nkeys = { \"\" = \"s\" }",
        ] {
            assert!(Config::parse(text).unwrap().check().is_err(), "{text}");
        }
        Config::default().check().unwrap();
    }

    #[test]
    fn keys_are_read_from_a_text_that_no_error_repeats() {
        let auth = Auth::parse("A=s/+==, B=t").unwrap();
        let keys: Vec<_> = auth.keys.iter().map(|(id, secret)| (&**id, &**secret)).collect();
        assert_eq!((keys, auth.skew_s), (vec![("A", "s/+=="), ("B", "t")], 900));
        for text in ["", "secret", "A=", "=secret", "A=s,", "A=secret,A=t"] {
            let error = format!("{:#}", Auth::parse(text).unwrap_err());
            assert!(
                error.contains("auth.keys") && !error.contains("secret"),
                "{error}"
            );
        }
    }

    #[test]
    fn who_is_open_to_all() {
        let open = |text: &str| Config::parse(text).unwrap().is_open_to_all();
        assert!(!open(""));
        assert!(open("listen = \"0.0.0.0:1\""));
        assert!(!open("listen = \"0.0.0.0:1\"\n[auth.keys]\nA = \"s\""));
    }
}
