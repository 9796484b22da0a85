//! A server of its own for each test.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::config::{BehaviorVersion, Config, Credentials, Region};
use aws_sdk_sqs::types::QueueAttributeName;

use crate::queue::Queue;

/// Longer than any long poll here: what is not answered by then is a failure, and no hanging test.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A process on a port that was free, which has to end well when the test does.
pub(crate) struct Server {
    process: Child,
    /// Kept, or what it prints would have nowhere to go.
    _output: BufReader<ChildStdout>,
    url: String,
    sqs: Client,
}

impl Server {
    pub(crate) fn start() -> Self {
        let program = env::var_os("EPOQ_SERVER").expect("EPOQ_SERVER names the server's program");
        let mut process = Command::new(program)
            .args(["--listen", "127.0.0.1:0", "--threads", "2", "--log", "warn"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut output = BufReader::new(process.stdout.take().expect("its output is piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("it says where it listens");
        let url = line
            .split_whitespace()
            .last()
            .expect("it says where it listens")
            .to_owned();
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(&url)
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("any", "thing", None, None, "suite"))
            // An error that goes away when tried again is one.
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().operation_timeout(ANSWER_MAX).build())
            .build();
        Self {
            process,
            _output: output,
            url,
            sqs: Client::from_conf(config),
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn sqs(&self) -> &Client {
        &self.sqs
    }

    pub(crate) async fn queue<const N: usize>(
        &self,
        name: &str,
        attributes: [(QueueAttributeName, &str); N],
    ) -> Queue {
        let mut create = self.sqs.create_queue().queue_name(name);
        for (attribute, value) in attributes {
            create = create.attributes(attribute, value);
        }
        let url = create.send().await.unwrap().queue_url.unwrap();
        Queue::new(self.sqs.clone(), url)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.process.kill();
            let _ = self.process.wait();
            return;
        }
        // As an operator would.
        #[cfg(unix)]
        {
            let process = rustix::process::Pid::from_child(&self.process);
            rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
            let status = self.process.wait().unwrap();
            assert!(status.success(), "the server ended with {status}");
        }
        #[cfg(not(unix))]
        {
            self.process.kill().unwrap();
            self.process.wait().unwrap();
        }
    }
}
