//! A gateway that answers as it is told, for the tests of remote commands.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::ServerArguments;

/// What a request was.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) struct Seen {
    /// The request line without the version.
    pub(in crate::cli) line: String,
    /// The headers, in lower case.
    pub(in crate::cli) headers: String,
    pub(in crate::cli) body: Vec<u8>,
}

/// Answers as many connections as there are answers, one request each.
pub(in crate::cli) struct Scripted {
    pub(in crate::cli) server: ServerArguments,
    seen: mpsc::Receiver<Seen>,
    thread: JoinHandle<()>,
}

impl Scripted {
    /// Answers with these statuses and bodies, in this order.
    pub(in crate::cli) fn start(answers: Vec<(u16, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (tell, seen) = mpsc::sync_channel(answers.len());
        let thread = std::thread::spawn(move || {
            for (status, body) in answers {
                let (mut peer, _) = listener.accept().expect("a client");
                tell.send(read_request(&mut peer)).expect("a test");
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                peer.write_all(head.as_bytes()).expect("written");
            }
        });
        Self { server: arguments(&format!("http://{address}")), seen, thread }
    }

    /// What was asked, in order.
    pub(in crate::cli) fn finish(self) -> Vec<Seen> {
        self.thread.join().expect("no panic");
        self.seen.into_iter().collect()
    }
}

/// No token, no certificates.
pub(in crate::cli) fn arguments(server: &str) -> ServerArguments {
    ServerArguments { server: server.to_owned(), token_file: None, ca: None, client_cert: None, json: false }
}

fn read_request(peer: &mut std::net::TcpStream) -> Seen {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        let count = peer.read(&mut buffer).expect("readable");
        assert!(count > 0, "the request ends in its head");
        bytes.extend_from_slice(&buffer[..count]);
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).expect("text");
    let (line, headers) = head.split_once("\r\n").expect("a request line");
    let headers = headers.to_ascii_lowercase();
    let length = headers.lines().find_map(|header| header.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.trim().parse().expect("a length"));
    let mut body = bytes[head_end + 4..].to_vec();
    while body.len() < length {
        let count = peer.read(&mut buffer).expect("readable");
        assert!(count > 0, "the request ends in its body");
        body.extend_from_slice(&buffer[..count]);
    }
    Seen { line: line.trim_end_matches(" HTTP/1.1").to_owned(), headers, body }
}
