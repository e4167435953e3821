//! From a config to a running gateway, and to its end. Every part is built here,
//! from its own piece of the config, and handed to the rooms that use it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sluice_batch::{Clock, Limiter, MonotonicClock};
use sluice_engine::EngineSearch;
use sluice_sandbox::{Sandbox, SandboxConfig, SpanSink};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::admin::{self, Admin};
use crate::admission::Admission;
use crate::auth::Door;
use crate::auth::tls::{Certificates, Keeper, TlsError};
use crate::catalog::plugins::Plugins;
use crate::catalog::repository::Repositories;
use crate::catalog::store::{Store, StoreError};
use crate::catalog::{
    BuildError, Builder, Catalog, Compile, Overrides as Natives, ResponseCache, Stages, engine_name,
    look_after_runs,
};
use crate::config::{self, Config, Scope};
use crate::ingress::grpc;
use crate::ingress::http::{self, Front};
use crate::ingress::listener::{Listener, Service};
use crate::lifecycle::drain::{Drained, Phase, drain};
use crate::lifecycle::reload::{Outcome, Reloader};
use crate::observe::{Metrics, PluginSpans, SpanCounters, Tracer};
use crate::services::Services;
use crate::shared_memory::SharedMemory;

/// How long after a refused reload the same file is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What a start may be given beside the config.
#[derive(Default)]
pub struct StartOptions {
    /// Flags that win over the file, now and at each reload.
    pub overrides: config::Overrides,
    /// Native stand-ins for plugins: the benchmark's.
    pub natives: Natives,
    /// What became of the spans, for the metrics.
    pub span_counters: SpanCounters,
    /// Where components are compiled.
    pub compile: Compile,
    /// Whether this is a check beside a gateway that may be running: then nothing is opened
    /// that belongs to that one.
    pub is_check: bool,
}

/// Why the gateway did not start. No port is open then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be served.
    #[error("{0}")]
    Build(#[from] BuildError),
    /// The state directory cannot be used.
    #[error("state directory: {0}")]
    Store(#[from] StoreError),
    /// Host services cannot be set up.
    #[error("{0}")]
    Services(String),
    /// The sandbox cannot run on this machine.
    #[error("sandbox: {0}")]
    Sandbox(#[from] sluice_sandbox::LoadError),
    /// An address cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Certificates cannot be served.
    #[error("tls: {0}")]
    Tls(#[from] TlsError),
    /// The builder's thread panicked.
    #[error("the start panicked")]
    Panicked,
}

/// A running gateway.
pub struct Gateway {
    catalog: Arc<Catalog>,
    admission: Arc<Admission>,
    reloader: Arc<Reloader>,
    plugins: Arc<Plugins>,
    repositories: Arc<Repositories>,
    phase: watch::Sender<Phase>,
    servers: TaskTracker,
    http: SocketAddr,
    grpc: Option<SocketAddr>,
    admin: SocketAddr,
    config: Arc<Config>,
}

/// Builds what outlives a snapshot. Call it inside a runtime, on a thread that may block.
///
/// # Errors
/// The state directory is in use, or the sandbox cannot run on this machine.
pub fn builder(config: &Config, options: StartOptions) -> Result<Builder, StartError> {
    let metrics = Arc::new(Metrics::new(options.span_counters));
    let verifier = options.compile.verifier(config);
    let runtime = Handle::current();
    let (store, services) = if options.is_check {
        (None, Services::for_a_check(config, runtime))
    } else {
        let store = config.state.dir.as_deref().map(Store::open).transpose()?.map(Arc::new);
        (store, Services::new(config, runtime))
    };
    let services = services.map_err(StartError::Services)?;
    let sandbox = Sandbox::new(SandboxConfig {
        guest_threads: or_cores(config.sandbox.guest_threads),
        instances_max: config.sandbox.instances_max,
        memory_bytes_max: config.sandbox.memory_bytes_max,
        cache_dir: config.sandbox.cache_dir.clone(),
        epoch_tick: config.sandbox.epoch_tick,
        compile_in_process: verifier.is_none(),
        // Without a collector, spans of plugins are not even made.
        spans: config.telemetry.otlp_endpoint.is_some().then(|| Arc::new(PluginSpans) as Arc<dyn SpanSink>),
    })?;
    let clock: Arc<dyn Clock> = Arc::new(MonotonicClock::new());
    Ok(Builder {
        sandbox,
        limiter: Arc::new(Limiter::new(Arc::clone(&clock))),
        clock,
        cache: ResponseCache::new(config.cache.bytes_max, Arc::clone(&metrics)),
        metrics,
        engine_search: engine_search(config.engine.onnxruntime_library.clone()),
        natives: options.natives,
        services,
        verifier,
        store,
    })
}

/// What outlives snapshots, and the first one.
type Loaded = (Arc<Builder>, Arc<Catalog>, Arc<Certificates>);

/// Loads everything that the configuration names. Blocks.
fn load(config: Arc<Config>, options: StartOptions) -> Result<Loaded, StartError> {
    let certificates = Certificates::load(&config.server)?;
    let builder = builder(&config, options)?;
    let catalog = builder.build(config, None, None)?.start(&builder.metrics);
    Ok((Arc::new(builder), Arc::new(catalog), Arc::new(certificates)))
}

impl Gateway {
    /// Loads everything, then opens the ports.
    ///
    /// # Errors
    /// Whatever keeps it from serving; nothing is left running.
    pub async fn start(config: Config, options: StartOptions) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let (loading, overrides) = (Arc::clone(&config), options.overrides.clone());
        let loaded = tokio::task::spawn_blocking(move || load(loading, options)).await;
        let (builder, catalog, certificates) = loaded.map_err(|_| StartError::Panicked)??;

        let (server, metrics) = (&config.server, Arc::clone(&builder.metrics));
        let admission = admission(&server.limits);
        let (phase, phase_seen) = watch::channel(Phase::Serving);
        let turns = Arc::default();
        let reloader = Reloader::new(
            config.source.clone(),
            overrides,
            Arc::clone(&builder),
            Arc::clone(&catalog),
            Arc::clone(&certificates),
            Arc::clone(&metrics),
            Arc::clone(&turns),
        );
        let repositories = Repositories::new(&builder, &catalog, &turns);
        let plugins = Plugins::new(builder, Arc::clone(&catalog), Arc::clone(&metrics), turns);
        let front_door = Door::predictions(Arc::clone(&catalog), Arc::clone(&metrics));
        let back_door = Door::admin(Arc::clone(&catalog), Arc::clone(&metrics), Arc::clone(&plugins));
        let front = Arc::new(Front {
            catalog: Arc::clone(&catalog),
            repositories: Arc::clone(&repositories),
            shared_memory: SharedMemory::new(&server.shared_memory, &metrics),
            tracer: Tracer::new(config.telemetry.triton_trace_file.clone()),
            admission: Arc::clone(&admission),
            metrics: Arc::clone(&metrics),
            limits: server.limits.clone(),
            phase: phase_seen.clone(),
        });
        let rpc = Service::Grpc(grpc::Server::new(Arc::clone(&front), Arc::clone(&front_door)));
        let front = Service::Http(http::router(front, &front_door));
        let back = Admin {
            catalog: Arc::clone(&catalog),
            admission: Arc::clone(&admission),
            metrics: Arc::clone(&metrics),
            reloader: Arc::clone(&reloader),
            plugins: Arc::clone(&plugins),
            phase: phase_seen.clone(),
        };
        let back = Service::Http(admin::router(Arc::new(back), &back_door));
        let bind = |at, it, tls: &_, name| bind(at, it, tls, &server.limits, name, &admission, &metrics);
        let (front, http) = bind(server.http, front, &certificates.http, "http")?;
        let rpc = optional(bind(server.grpc, rpc, &certificates.http, "grpc"), server.grpc_is_chosen())?;
        let (back, admin) = bind(server.admin, back, &certificates.admin, "admin")?;
        let servers = TaskTracker::new();
        servers.spawn(front.serve(phase_seen.clone()));
        let grpc = rpc.map(|(rpc, address)| {
            servers.spawn(rpc.serve(phase_seen.clone()));
            address
        });
        // The admin listener outlives the drain, so that it can be watched.
        tokio::spawn(back.serve(phase_seen));
        Ok(Self {
            catalog,
            admission,
            reloader,
            plugins,
            repositories,
            phase,
            servers,
            http,
            grpc,
            admin,
            config,
        })
    }

    /// Where predictions are served.
    pub fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// Where predictions are served over gRPC, if they are.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc
    }

    /// Where administration is served.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Applies changes of the config and of the files it names until `leave`, then drains;
    /// until `cut` at most, which begins when the drain does. A run that does not return is a
    /// reason to leave too, where the configuration says so.
    pub async fn run_until(self, leave: impl Future<Output = ()>, cut: impl Future<Output = ()>) -> Drained {
        let reloads = tokio::spawn(reload_on_change(Arc::clone(&self.catalog), Arc::clone(&self.reloader)));
        let lookout = tokio::spawn(Arc::clone(&self.plugins).look_after());
        let polls = tokio::spawn(poll_repositories(Arc::clone(&self.repositories)));
        let is_hung = tokio::select! {
            () = leave => false,
            () = look_after_runs(&self.catalog) => true,
        };
        reloads.abort();
        lookout.abort();
        polls.abort();
        tracing::info!(in_flight = self.admission.in_flight(), "draining");
        let drained = tokio::select! {
            drained = self.leave() => drained,
            () = cut => match self.admission.in_flight() {
                0 => Drained::Clean,
                requests => Drained::Cut(requests),
            },
        };
        if is_hung { Drained::Hung } else { drained }
    }

    /// Finishes what is in flight.
    async fn leave(&self) -> Drained {
        let server = &self.config.server;
        let grace_over = tokio::time::Instant::now() + server.drain_delay + server.drain;
        let drained = drain(&self.admission, &self.phase, server.drain_delay, server.drain).await;
        self.servers.close();
        // Connections close within moments once nothing is in flight on them.
        let closed = tokio::time::timeout_at(grace_over, self.servers.wait()).await;
        match (drained, closed) {
            // Everything is answered, but somebody does not read the answer.
            (Drained::Clean, Err(_)) => Drained::Cut(self.servers.len()),
            (drained, _) => drained,
        }
    }

    /// A table of what is served, and where, for people.
    pub fn describe(&self) -> String {
        let snapshot = self.catalog.snapshot();
        let mut rows: BTreeMap<&str, (String, String)> = BTreeMap::new();
        for (name, pipeline) in &snapshot.pipelines {
            let (what, route) = match &pipeline.stages {
                Stages::Whole { plugin } => (format!("plugin {}", plugin.slot.name), "v1"),
                Stages::Ensemble(ensemble) => (format!("ensemble of {} steps", ensemble.steps.len()), "v2"),
                Stages::Staged { pre, model, post } => {
                    let before =
                        pre.as_ref().map_or_else(String::new, |plugin| format!("{} -> ", plugin.slot.name));
                    let after =
                        post.as_ref().map_or_else(String::new, |plugin| format!(" -> {}", plugin.slot.name));
                    let route = if pre.is_some() { "v1" } else { "v2" };
                    (format!("{before}[{}]{after}", model.name()), route)
                }
            };
            rows.insert(name, (what, self.url(route, name)));
        }
        for (name, model) in &snapshot.models {
            let what = format!("model on {}", engine_name(model.engine()));
            rows.insert(name, (what, self.url("v2", name)));
        }
        let widest = |column: fn(&(&str, &str)) -> usize| {
            rows.iter().map(|(name, (what, _))| column(&(name, what))).max().unwrap_or(0)
        };
        let (name_width, what_width) = (widest(|row| row.0.len()), widest(|row| row.1.len()));
        let mut text = format!("sluice {} serves\n", env!("CARGO_PKG_VERSION"));
        for (name, (what, url)) in &rows {
            let _ = writeln!(text, "  {name:name_width$}  {what:what_width$}  POST {url}");
        }
        if rows.is_empty() {
            let _ = writeln!(
                text,
                "  nothing yet  {}://{}/v2",
                scheme(self.config.server.tls.is_some()),
                self.http
            );
        }
        match self.grpc {
            Some(address) => {
                let secure = if self.config.server.tls.is_some() { "s" } else { "" };
                let _ = writeln!(text, "  the same over gRPC  grpc{secure}://{address}");
            }
            None => {
                let address = self.config.server.grpc;
                let _ =
                    writeln!(text, "  no gRPC: another process has {address}, choose an address with --grpc");
            }
        }
        let scheme = scheme(self.config.server.admin_tls.is_some());
        let _ = writeln!(text, "  metrics and status  {scheme}://{}/metrics  /admin/v1/status", self.admin);
        if !has_admin(&self.config) {
            text.push_str(
                "  nobody may use them: `sluice token new` makes a token, and on a loopback address\n",
            );
            text.push_str("  `admin_without_tokens = true` in [server] opens them to whoever reaches it\n");
        }
        text
    }

    fn url(&self, protocol: &str, name: &str) -> String {
        let verb = if protocol == "v1" { ":predict" } else { "/infer" };
        let scheme = scheme(self.config.server.tls.is_some());
        format!("{scheme}://{}/{protocol}/models/{name}{verb}", self.http)
    }
}

/// Whether anybody can administer.
fn has_admin(config: &Config) -> bool {
    let mut tokens = config.tokens.values();
    config.server.admin_without_tokens || tokens.any(|token| token.scopes.contains(&Scope::Admin))
}

fn scheme(is_tls: bool) -> &'static str {
    if is_tls { "https" } else { "http" }
}

/// A listener that may be absent where nobody chose its address.
fn optional<T>(bound: Result<T, StartError>, is_chosen: bool) -> Result<Option<T>, StartError> {
    match bound {
        Ok(bound) => Ok(Some(bound)),
        Err(StartError::Listen { address, source })
            if !is_chosen && source.kind() == io::ErrorKind::AddrInUse =>
        {
            tracing::warn!(%address, "another process has the default address of gRPC, which stays closed");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Bodies that are on their way are as many as connections may be.
fn admission(limits: &config::Limits) -> Arc<Admission> {
    let arriving_max = limits.connections_max.max(limits.in_flight_max);
    Admission::new(limits.in_flight_max, arriving_max, limits.in_flight_bytes_max)
}

fn bind(
    address: SocketAddr,
    service: Service,
    tls: &Option<Arc<Keeper>>,
    limits: &config::Limits,
    name: &'static str,
    admission: &Arc<Admission>,
    metrics: &Arc<Metrics>,
) -> Result<(Listener, SocketAddr), StartError> {
    let fault = |source| StartError::Listen { address, source };
    let listener =
        Listener::bind(address, service, tls.clone(), limits, name, admission, metrics).map_err(fault)?;
    let bound = listener.address().map_err(fault)?;
    Ok((listener, bound))
}

/// Reloads whenever the config file, or a file that it names, has changed.
async fn reload_on_change(catalog: Arc<Catalog>, reloader: Arc<Reloader>) {
    let source = catalog.snapshot().config.source.clone();
    let files = move || catalog.snapshot().config.files();
    // It reads every file once, to know what it compares with.
    let mut watcher = match tokio::task::spawn_blocking(move || config::watch(files)).await {
        Ok(Ok(watcher)) => watcher,
        Ok(Err(error)) => {
            tracing::error!(%error, "cannot watch the configuration, reload it over the admin API");
            return;
        }
        Err(_) => return,
    };
    // What changed between the start and the first look.
    let mut outcome = reloader.reload().await;
    loop {
        // A refused file may only name something that is about to come, such as a plugin
        // that is being built.
        let patience = if matches!(outcome, Outcome::Refused { .. }) { RETRY } else { Duration::MAX };
        let is_told = tokio::time::timeout(patience, watcher.changed()).await.is_ok();
        // Nobody has told that the file is quiet: one that is being written may be empty for
        // a moment, and that would be a valid configuration.
        if is_told || is_quiet(&source) {
            outcome = reloader.reload().await;
        }
    }
}

/// How often it is looked whether any repository is polled: a reload may add one.
const POLL_IDLE: Duration = Duration::from_secs(1);

/// Looks for changes of repositories, as often as the shortest of their intervals.
async fn poll_repositories(repositories: Arc<Repositories>) {
    let mut last = tokio::time::Instant::now();
    loop {
        let interval = repositories.poll_interval();
        let wait =
            interval.map_or(POLL_IDLE, |interval| interval.saturating_sub(last.elapsed()).min(POLL_IDLE));
        tokio::time::sleep(wait.max(Duration::from_millis(10))).await;
        if interval.is_some_and(|interval| last.elapsed() >= interval) {
            repositories.poll().await;
            last = tokio::time::Instant::now();
        }
    }
}

/// Whether nobody has written to a file for as long as the watch waits for quiet.
fn is_quiet(file: &Path) -> bool {
    let written = std::fs::metadata(file).and_then(|metadata| metadata.modified());
    written.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > config::watch::DEBOUNCE))
}

/// Where ONNX Runtime may be: what the config names, then `ORT_DYLIB_PATH`, then
/// what the project's set-up has fetched, newest first.
pub fn engine_search(configured: Option<PathBuf>) -> EngineSearch {
    let from_environment = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let mut fetched: Vec<PathBuf> = cache
        .and_then(|cache| std::fs::read_dir(cache.join("sluice/onnxruntime")).ok())
        .into_iter()
        .flatten()
        .filter_map(|version| Some(version.ok()?.path().join("lib/libonnxruntime.so")))
        .collect();
    fetched.sort_unstable_by(|a, b| b.cmp(a));
    EngineSearch {
        onnxruntime_library: configured,
        candidates: from_environment.into_iter().chain(fetched).collect(),
    }
}

/// A number of threads; 0 is one for each core.
fn or_cores(threads: usize) -> usize {
    match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}
