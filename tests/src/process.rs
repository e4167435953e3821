//! The real program in a process of its own, so that what it holds can be counted, and
//! whether it is alive is a question.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Client, Reply};
use crate::gateway;

/// A running `sluice serve`. Killed when it is dropped.
pub struct Program {
    /// Talks to the prediction listener.
    pub client: Client,
    /// Talks to the admin listener, which asks for no tokens.
    pub admin: Client,
    child: Child,
    folder: TempDir,
}

/// What the program holds while nobody asks it for anything.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Held {
    /// Requests, their bytes and queue places.
    pub in_flight: f64,
    /// File descriptors that are no connections.
    pub descriptors: f64,
    /// Bytes of memory.
    pub resident_bytes: f64,
    /// Files of uploads that are not there yet.
    pub temporary_files: usize,
    /// Children of the process.
    pub children: usize,
}

impl Program {
    /// Starts it with the text of a config; `{repo}` stands for the repository.
    pub fn start(config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("sluice.toml"), gateway::expand(config)).expect("written");
        Self::run(folder)
    }

    fn run(folder: TempDir) -> Self {
        let log = File::options().create(true).append(true).open(folder.path().join("log"));
        let mut child = Command::new(crate::program())
            .args([
                "serve",
                "--http",
                "127.0.0.1:0",
                "--grpc",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
                "--config",
            ])
            .arg(folder.path().join("sluice.toml"))
            .env("SLUICE_SERVER__ADMIN_WITHOUT_TOKENS", "true")
            .stdout(Stdio::piped())
            .stderr(log.expect("a log"))
            .spawn()
            .expect("the program starts");
        let table = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let (mut http, mut admin) = (None, None);
        for line in table {
            let place = if line.contains("/metrics") { &mut admin } else { &mut http };
            *place = address(&line).or(*place);
            if admin.is_some() {
                break;
            }
        }
        let (Some(http), Some(admin)) = (http, admin) else {
            let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            panic!("it does not serve: {log}");
        };
        Self { client: Client::new(http), admin: Client::new(admin), child, folder }
    }

    /// Kills it, lets somebody at its folder, and starts it again.
    pub fn restart_after(mut self, meanwhile: impl FnOnce(&Path)) -> Self {
        self.kill();
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder"));
        drop(self);
        meanwhile(folder.path());
        Self::run(folder)
    }

    fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).expect("a log")
    }

    /// Its folder: the config, the log and whatever the config puts there.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Panics unless the process is alive and says so.
    pub async fn assert_alive(&mut self) {
        let ended = self.child.try_wait().expect("it can be asked");
        assert!(ended.is_none(), "the gateway ended with {ended:?}: {}", self.log());
        assert_eq!(self.admin.get("/livez").await.status, 200);
    }

    /// Uploads a version.
    pub async fn upload(&self, plugin: &str, version: &str, component: &[u8]) -> Reply {
        self.upload_with(plugin, version, &[], component).await
    }

    /// Uploads a version with headers.
    pub async fn upload_with(
        &self,
        plugin: &str,
        version: &str,
        headers: &[(&str, &str)],
        component: &[u8],
    ) -> Reply {
        let path = format!("/admin/v1/plugins/{plugin}/versions/{version}");
        self.admin.try_send(Method::PUT, &path, headers, component.to_vec()).await.expect("an answer")
    }

    /// Lets a version serve.
    pub async fn activate(&self, plugin: &str, version: &str) -> Reply {
        let path = format!("/admin/v1/plugins/{plugin}/activate");
        self.admin.post(&path, json!({ "version": version }).to_string()).await
    }

    /// What the admin API shows of a plugin.
    pub async fn show(&self, plugin: &str) -> Value {
        self.admin.get(&format!("/admin/v1/plugins/{plugin}")).await.ok()
    }

    /// The value of a metric, summed over the lines of that name that have all of these
    /// labels.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let text = self.admin.get("/metrics").await.body;
        sum(std::str::from_utf8(&text).expect("text"), name, labels)
    }

    /// What it holds.
    pub async fn held(&self) -> Held {
        let text = self.admin.get("/metrics").await.body;
        let text = std::str::from_utf8(&text).expect("text");
        let value = |name| sum(text, name, &[]);
        Held {
            in_flight: value("sluice_requests_in_flight")
                + value("sluice_request_bytes_in_flight")
                + value("sluice_queue_depth"),
            descriptors: value("process_open_fds") - value("sluice_connections_open"),
            resident_bytes: value("process_resident_memory_bytes"),
            temporary_files: files(&self.folder.path().join("state/tmp")).len(),
            children: self.children().len(),
        }
    }

    /// The processes that it has started.
    pub fn children(&self) -> Vec<u32> {
        let task = format!("/proc/{0}/task", self.child.id());
        let threads = std::fs::read_dir(task).into_iter().flatten().filter_map(Result::ok);
        let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
        lists
            .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
            .collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// All files below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("readable").path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}

fn address(line: &str) -> Option<SocketAddr> {
    line.split("http://").nth(1)?.split('/').next()?.parse().ok()
}

fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let is_meant = |line: &&str| {
        let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']));
        rest.is_some_and(|rest| {
            labels.iter().all(|(key, value)| rest.contains(&format!("{key}=\"{value}\"")))
        })
    };
    text.lines().filter(is_meant).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
