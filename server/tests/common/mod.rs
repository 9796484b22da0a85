//! A server in this process, and raw HTTP to talk to it: what SDKs would not send can be sent too.
#![allow(dead_code, reason = "not every test needs all of it")]

#[cfg(unix)]
pub(crate) mod process;

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use epoq_server::{Config, Running, Server};
use serde_json::Value;

/// A server on a free port, configured by a text in TOML.
pub(crate) fn start(config: &str) -> Running {
    let mut config = Config::parse(config).expect("valid");
    config.listen.set_port(0);
    config.threads = Some(2);
    Server::new(config).start().expect("a free port")
}

/// A connection that gives up after a while.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a socket");
    stream
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Reads one answer.
pub(crate) fn read(stream: &mut TcpStream) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).expect("a head of text");
    let mut answer = Answer {
        status: head
            .split(' ')
            .nth(1)
            .expect("a status")
            .parse()
            .expect("a number"),
        head,
        body: String::new(),
    };
    let length = answer
        .header("content-length")
        .map_or(0, |length| length.parse().expect("a number"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    answer.body = String::from_utf8(body).expect("a body of text");
    Ok(answer)
}

/// Sends what need not be HTTP, and reads one answer.
pub(crate) fn send(address: SocketAddr, bytes: &[u8]) -> io::Result<Answer> {
    let mut stream = connect(address);
    stream.write_all(bytes)?;
    read(&mut stream)
}

/// A request in the JSON protocol, as bytes.
pub(crate) fn json_request(action: &str, body: &str) -> Vec<u8> {
    format!(
        "POST / HTTP/1.1\r\nhost: sqs.test\r\nx-amz-target: AmazonSQS.{action}\r\ncontent-type: application/x-amz-json-1.0\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Calls in the JSON protocol.
pub(crate) fn call(address: SocketAddr, action: &str, body: &str) -> Answer {
    send(address, &json_request(action, body)).expect("an answer")
}

/// Calls in the JSON protocol what has to succeed.
pub(crate) fn ok(address: SocketAddr, action: &str, body: &str) -> Value {
    let answer = call(address, action, body);
    assert_eq!(answer.status, 200, "{action} {body}: {answer:?}");
    if answer.body.is_empty() {
        Value::Null
    } else {
        answer.json()
    }
}

/// Calls in the Query protocol, the parameters in the body.
pub(crate) fn query(address: SocketAddr, path: &str, form: &str) -> Answer {
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: sqs.test\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    );
    send(address, request.as_bytes()).expect("an answer")
}

/// Gets a path.
pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    send(
        address,
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes(),
    )
    .expect("an answer")
}
