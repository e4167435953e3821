//! A real gateway in the test process, on free ports.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use sluice::app::{Gateway, StartOptions};
use sluice::catalog::Compile;
use sluice::config::{self, Overrides};
use sluice::lifecycle::drain::Drained;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::repository;

/// A gateway that runs until it is stopped or dropped.
pub struct Running {
    /// Talks to the prediction listener.
    pub client: Client,
    /// Where gRPC is served.
    pub grpc: SocketAddr,
    /// Talks to the admin listener.
    pub admin: Client,
    /// The config file.
    pub config: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    finished: Option<JoinHandle<Drained>>,
    folder: Option<TempDir>,
}

/// Starts a gateway from the text of a config. `{repo}` stands for the repository.
///
/// # Errors
/// Why it did not start.
pub async fn try_start(config: &str) -> Result<Running, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sluice.toml");
    std::fs::write(&path, whole(config)).expect("written");
    start_file(&path, folder).await
}

/// The same for a config that is right.
pub async fn start(config: &str) -> Running {
    try_start(config).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Starts a gateway from a config file of the repository.
pub async fn start_config(name: &str) -> Running {
    let path = repository().join("config").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    start(&text.replace("\"../", "\"{repo}/")).await
}

/// A config as it is written to the file: with a small sandbox, if it says nothing of one.
/// Each gateway reserves address space for all of its instances, and the suite runs many
/// gateways in one process.
pub fn whole(config: &str) -> String {
    let sandbox = if config.contains("[sandbox") { "" } else { "\n[sandbox]\ninstances_max = 200\n" };
    expand(config) + sandbox
}

/// Puts the repository's path into a config; and, where components are under test that
/// were built just now, theirs.
pub fn expand(config: &str) -> String {
    let repository = repository().display().to_string();
    let built = std::env::var("SLUICE_GUESTS_DIR").unwrap_or_else(|_| repository.clone());
    let guests = ["guest-examples/dist", "tests/guests/dist"];
    let config = guests.iter().fold(config.to_owned(), |config, folder| {
        config.replace(&format!("{{repo}}/{folder}"), &format!("{built}/{folder}"))
    });
    config.replace("{repo}", &repository)
}

/// Starts a gateway whose admin listener asks for tokens.
pub async fn start_guarded(config: &str) -> Running {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sluice.toml");
    std::fs::write(&path, whole(config)).expect("written");
    start_with(&path, folder, overrides()).await.unwrap_or_else(|error| panic!("{error}"))
}

fn overrides() -> Overrides {
    Overrides::from_environment()
        .with_environment(bench_folder())
        .flag("server.http", "127.0.0.1:0")
        .flag("server.grpc", "127.0.0.1:0")
        .flag("server.admin", "127.0.0.1:0")
}

async fn start_file(path: &Path, folder: TempDir) -> Result<Running, String> {
    start_with(path, folder, overrides().flag("server.admin_without_tokens", true)).await
}

async fn start_with(path: &Path, folder: TempDir, overrides: Overrides) -> Result<Running, String> {
    let loaded = config::load(path, &overrides).map_err(|error| error.to_string())?;
    let compile = Compile::Child(crate::program());
    let options = StartOptions { overrides, compile, ..StartOptions::default() };
    let gateway = Gateway::start(loaded, options).await.map_err(|error| error.to_string())?;
    let (client, admin) = (Client::new(gateway.http_address()), Client::new(gateway.admin_address()));
    let grpc = gateway.grpc_address().expect("a free port");
    let (stop, stopped) = oneshot::channel::<()>();
    let leave = async {
        // A dropped sender stops the gateway as well.
        let _ = stopped.await;
    };
    let finished = tokio::spawn(gateway.run_until(leave, std::future::pending()));
    let config = path.to_owned();
    Ok(Running {
        client,
        grpc,
        admin,
        config,
        stop: Some(stop),
        finished: Some(finished),
        folder: Some(folder),
    })
}

/// Whether nobody holds the lock of a state directory.
fn is_free(lock: &Path) -> bool {
    let file = std::fs::File::open(lock).expect("there");
    file.try_lock().is_ok()
}

/// Where the benchmark's models are, unless the environment says it.
fn bench_folder() -> Option<(String, String)> {
    const NAME: &str = "SLUICE_BENCH_DIR";
    if std::env::var_os(NAME).is_some() {
        return None;
    }
    let cache = std::env::var("XDG_CACHE_HOME")
        .or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cache")))
        .expect("a home folder");
    Some((NAME.to_owned(), format!("{cache}/sluice/bench")))
}

/// The folder of the benchmark's models and golden answers.
pub fn bench_data() -> PathBuf {
    let given = std::env::var("SLUICE_BENCH_DIR").ok();
    given.or_else(|| bench_folder().map(|(_, folder)| folder)).map(PathBuf::from).expect("a folder")
}

impl Running {
    /// Replaces the config file's text and waits until the gateway has looked at it.
    pub async fn reload(&self, config: &str) -> serde_json::Value {
        std::fs::write(&self.config, whole(config)).expect("written");
        self.admin.post("/admin/v1/reload", "").await.json()
    }

    /// The same with a text that is taken over: now, or by the file's watcher just before.
    pub async fn apply(&self, config: &str) {
        let outcome = self.reload(config).await;
        assert!(outcome["outcome"] == "applied" || outcome["outcome"] == "unchanged", "{outcome}");
    }

    /// Stops it, and starts another one on the same folder.
    pub async fn restart(mut self) -> Self {
        self.stop().await.expect("it stopped");
        let folder = self.folder.take().expect("restarted once");
        // Its admin listener lingers for a moment, and with it the state directory's lock.
        let lock = self.config.parent().expect("a folder").join("state/lock");
        crate::versions::until(|| async { is_free(&lock) }).await;
        start_file(&self.config, folder).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// The names of the files in a folder of the state directory `state`.
    pub fn state_files(&self, folder: &str) -> Vec<String> {
        let root = self.config.parent().expect("a folder").join("state").join(folder);
        let mut folders = vec![root];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).expect("readable") {
                let path = entry.expect("readable").path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => files.push(path.display().to_string()),
                }
            }
        }
        files
    }

    /// Begins to stop, and gives what resolves when it has.
    pub fn stop(&mut self) -> JoinHandle<Drained> {
        drop(self.stop.take());
        self.finished.take().expect("stopped once")
    }

    /// The value of a metric, summed over the lines that start with `name` and hold
    /// `labels`.
    pub async fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = self.admin.get("/metrics").await.body;
        let text = std::str::from_utf8(&text).expect("text").to_owned();
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(labels));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}
