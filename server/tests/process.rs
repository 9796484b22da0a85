//! The program as an operator runs it: limits of the system, signals, memory.
#![cfg(unix)]

mod common;

use std::{io::Write as _, time::Duration};

use common::{connect, json_request, process::Process, read};

/// A limit of open files below that of connections would have nobody else let in, nor told why.
#[test]
fn connections_are_as_many_as_files_leave_room_for() {
    // The hard limit, then one that can be raised.
    for (limit, connections) in [("ulimit -n 200", 100), ("ulimit -S -n 200", 300)] {
        let server = Process::start(limit, &[]);
        let at = server.address();
        let request = json_request("ListQueues", "{}");
        let held: Vec<_> = (0..connections)
            .map(|_| {
                let mut stream = connect(at);
                stream.write_all(&request).expect("it reads");
                assert_eq!(read(&mut stream).expect("an answer").status, 200);
                stream
            })
            .collect();
        let is_low = !limit.contains("-S");
        let refused = if is_low { 200 } else { 0 };
        for _ in 0..refused {
            assert_eq!(read(&mut connect(at)).expect("an answer").status, 503);
        }
        drop(held);
        server.terminate();
        let (code, log) = server.wait(Duration::from_secs(20));
        assert_eq!(code, Some(0));
        assert_eq!(log.contains("limit of open files"), is_low, "{log}");
    }
}
