//! HTTPS with a certificate made for the occasion.

mod common;

use std::{
    fs,
    io::{Read as _, Write as _},
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use common::{connect, json_request, start};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring, pki_types::ServerName,
};

/// Files that go with the test.
struct Files(PathBuf);

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn https() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let files = Files(std::env::temp_dir().join(format!("epoq-tls-{}", std::process::id())));
    fs::create_dir_all(&files.0).expect("a folder");
    let (certificate, key) = (files.0.join("certificate.pem"), files.0.join("key.pem"));
    fs::write(&certificate, made.cert.pem()).expect("a file");
    fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
    let running = start(&format!(
        "[[queues]]\nname = \"q\"\n[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n"
    ));

    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut stream = StreamOwned::new(client, connect(running.address()));
    stream
        .write_all(&json_request("GetQueueUrl", r#"{"QueueName":"q"}"#))
        .expect("it reads");
    let mut answer = String::new();
    while !answer.ends_with('}') {
        let mut bytes = [0; 1024];
        let read = stream.read(&mut bytes).expect("an answer");
        answer += &String::from_utf8_lossy(&bytes[..read]);
    }
    assert!(answer.contains("https://sqs.test/000000000000/q"), "{answer}");

    // Who speaks plain HTTP there is not heard.
    assert!(common::send(running.address(), b"GET /health HTTP/1.1\r\n\r\n").is_err());

    // Nor is anybody waited for at the end who says nothing.
    let _silent = connect(running.address());
    thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    running.shutdown();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn files_that_are_not_there_are_named() {
    let mut config = epoq_server::Config::default();
    config.listen.set_port(0);
    config.tls = Some(epoq_server::config::Tls::new(
        "nowhere.pem".into(),
        "nowhere.key".into(),
    ));
    let error = epoq_server::Server::new(config)
        .start()
        .expect_err("no such file");
    assert!(format!("{error:#}").contains("nowhere.pem"));
}
