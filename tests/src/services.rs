//! Real servers that the gateway talks to: Redis, and a registry of OCI artifacts. Each
//! runs on a free port of this machine, with its data in a folder of its own.
//!
//! `scripts/setup-services.sh` fetches the programs. Without them a test skips itself
//! and says so; where `CI=true`, it fails.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// How long a server may take to open its port.
const START: Duration = Duration::from_secs(20);

/// A server that runs until it is stopped or dropped.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where its data lies.
    pub folder: TempDir,
    program: PathBuf,
    arguments: Vec<String>,
    child: Option<Child>,
}

/// A Redis server that keeps nothing; `None` if the program is not there.
pub fn redis() -> Option<Server> {
    let program = program("redis-server")?;
    let (folder, address) = (tempfile::tempdir().expect("a folder"), free_address());
    let (port, place) = (address.port().to_string(), folder.path().display().to_string());
    let arguments =
        ["--bind", "127.0.0.1", "--port", &port, "--dir", &place, "--save", "", "--appendonly", "no"];
    Some(Server::new(program, &arguments, folder, address))
}

/// The same over TLS only, with a certificate and its key, both PEM.
pub fn redis_over_tls(certificate: &str, key: &str) -> Option<Server> {
    let program = program("redis-server")?;
    let (folder, address) = (tempfile::tempdir().expect("a folder"), free_address());
    let (port, place) = (address.port().to_string(), folder.path().display().to_string());
    let files = ["cert.pem", "key.pem"].map(|name| folder.path().join(name).display().to_string());
    for (file, content) in files.iter().zip([certificate, key]) {
        std::fs::write(file, content).expect("written");
    }
    let [certificate, key] = &files;
    let arguments = [
        "--bind",
        "127.0.0.1",
        "--port",
        "0",
        "--tls-port",
        &port,
        "--dir",
        &place,
        "--save",
        "",
        "--tls-cert-file",
        certificate,
        "--tls-key-file",
        key,
        "--tls-auth-clients",
        "no",
        "--requirepass",
        "secret-word",
    ];
    Some(Server::new(program, &arguments, folder, address))
}

/// A registry; `None` if the program is not there. With `users`, lines of an `htpasswd`
/// file, it asks for a password.
pub fn registry(users: Option<&str>) -> Option<Server> {
    let program = program("docker-registry")?;
    let (folder, address) = (tempfile::tempdir().expect("a folder"), free_address());
    let place = folder.path().display();
    let mut config = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {place}/data}}, delete: {{enabled: true}}}}\n\
         http: {{addr: '{address}'}}\n"
    );
    if let Some(users) = users {
        std::fs::write(folder.path().join("users"), users).expect("written");
        config.push_str(&format!("auth: {{htpasswd: {{realm: test, path: {place}/users}}}}\n"));
    }
    let file = folder.path().join("config.yml");
    std::fs::write(&file, config).expect("written");
    let file = file.display().to_string();
    Some(Server::new(program, &["serve", &file], folder, address))
}

impl Server {
    fn new(program: PathBuf, arguments: &[&str], folder: TempDir, address: SocketAddr) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut server = Self { address, folder, program, arguments, child: None };
        server.start();
        server
    }

    /// Starts it, on the port that it had before.
    pub fn start(&mut self) {
        let log = std::fs::File::create(self.folder.path().join("log")).expect("a log");
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("the program starts");
        self.child = Some(child);
        let step = Duration::from_millis(20);
        let mut waited = Duration::ZERO;
        while TcpStream::connect(self.address).is_err() {
            let ended = self.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
            if ended || waited > START {
                let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                panic!("{} does not serve: {log}", self.program.display());
            }
            std::thread::sleep(step);
            waited += step;
        }
    }

    /// Ends it at once; its data stays.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The child may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Where its data lies.
    pub fn data(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A program of the system, or the copy in the cache.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let copy = cache.map(|cache| cache.join("sluice/services/bin"));
    let found =
        std::env::split_paths(&path).chain(copy).map(|folder| folder.join(name)).find(|file| file.is_file());
    if found.is_none() {
        let why = format!("{name} is not installed: run scripts/setup-services.sh");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}");
        eprintln!("SKIPPED: {why}");
    }
    found
}

/// An address of this machine that nobody listens on.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("an address")
}
