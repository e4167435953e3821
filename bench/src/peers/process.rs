//! A peer's processes: started on one core, waited for, and ended with all their children.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use super::description::Description;
use crate::client::Client;
use crate::requests::Requests;

/// How long a server may take to answer rightly. Ray, the slowest, takes 20 seconds on one
/// quiet core.
const START_MAX: Duration = Duration::from_secs(90);

/// Pause between two attempts.
const START_PAUSE: Duration = Duration::from_millis(100);

/// How long one attempt may take.
const ATTEMPT_MAX: Duration = Duration::from_secs(10);

/// How long a server may take to end by itself.
const STOP_MAX: Duration = Duration::from_secs(4);

/// Bytes of a failed server's output that are shown.
const LAST_WORDS_BYTES: usize = 600;

/// A server that runs.
pub(super) struct Running {
    child: Child,
    group: Pid,
    folder: TempDir,
    /// Where it takes requests.
    pub(super) address: SocketAddr,
}

impl Running {
    /// Starts a server on one core, in a folder of its own.
    ///
    /// # Errors
    /// Its program cannot be started.
    pub(super) fn start(peer: &Description, core: usize) -> Result<Self, String> {
        let text = |error: std::io::Error| error.to_string();
        let folder = tempfile::tempdir().map_err(text)?;
        let ports = free_ports().map_err(text)?;
        let fill = |text: &String| {
            let text = text.replace("{work}", &folder.path().display().to_string());
            let keys = ["{port}", "{port2}", "{port3}", "{port4}", "{port5}"];
            keys.iter().zip(ports).fold(text, |text, (key, port)| text.replace(key, &port.to_string()))
        };
        let output = File::create(folder.path().join("output")).map_err(text)?;
        let errors = output.try_clone().map_err(text)?;
        let child = Command::new("taskset")
            .args(["-c", &core.to_string()])
            .args(peer.command.iter().map(fill))
            .envs(peer.environment.iter().map(|(key, value)| (key, fill(value))))
            .env("PYTHONPATH", &peer.common)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(|error| format!("taskset: {error}"))?;
        let group = Pid::from_child(&child);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports[0]));
        Ok(Self { child, group, folder, address })
    }

    /// Waits until each pipeline's first body has its right answer.
    ///
    /// # Errors
    /// The server ended, or took too long.
    pub(super) async fn until_right(&self, requests: &[Requests]) -> Result<(), String> {
        let started = Instant::now();
        for each in requests {
            loop {
                let reason = match timeout(ATTEMPT_MAX, self.ask(each)).await {
                    Ok(Ok(())) => break,
                    Ok(Err(reason)) => reason,
                    Err(_) => "no answer".to_owned(),
                };
                if test_kill_process_group(self.group).is_err() || self.has_ended() {
                    return Err(format!("it has ended: {reason}"));
                }
                if started.elapsed() > START_MAX {
                    return Err(format!("it was not ready within {START_MAX:?}: {reason}"));
                }
                sleep(START_PAUSE).await;
            }
        }
        Ok(())
    }

    async fn ask(&self, requests: &Requests) -> Result<(), String> {
        let answer = Client::connect(self.address).await?.expect(requests, 0).await?;
        (requests.check)(0, &answer.body)
    }

    /// Whether the process itself is gone, though nobody has waited for it yet.
    fn has_ended(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        // The name may hold anything, and ends with the last bracket.
        stat.rsplit(')')
            .next()
            .is_none_or(|rest| matches!(rest.trim_start().chars().next(), None | Some('Z')))
    }

    /// The end of what it has written, for an error.
    pub(super) fn last_words(&self) -> String {
        let text = std::fs::read(self.folder.path().join("output")).unwrap_or_default();
        let end = &text[text.len().saturating_sub(LAST_WORDS_BYTES)..];
        if end.is_empty() {
            String::new()
        } else {
            format!("; its output ends: {}", String::from_utf8_lossy(end))
        }
    }

    /// Ends it and all that it has started: first politely, as some have children in other
    /// groups that only they know.
    pub(super) async fn stop(mut self) {
        // Whoever is gone already needs no signal.
        let _ = kill_process_group(self.group, Signal::TERM);
        let begun = Instant::now();
        while begun.elapsed() < STOP_MAX && test_kill_process_group(self.group).is_ok() {
            // Its zombie would count as a member of the group.
            let _ = self.child.try_wait();
            sleep(START_PAUSE).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = kill_process_group(self.group, Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Ports that nobody has just now, all different.
fn free_ports() -> std::io::Result<[u16; 5]> {
    let listeners = [(); 5].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let mut ports = [0; 5];
    for (port, listener) in ports.iter_mut().zip(listeners) {
        *port = listener?.local_addr()?.port();
    }
    Ok(ports)
}
