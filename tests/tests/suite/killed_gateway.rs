//! The gateway itself, killed while several clients change its plugins over HTTP. What was
//! acknowledged is there after the next start, whole, and serves; what was under way is whole
//! or absent; nothing else is there. `SLUICE_KILL_SEED=n` gives the same operations and
//! moments again (which of them meet is the scheduler's), `SLUICE_KILL_ROUNDS=n` more of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use sluice::oci::Digest;
use sluice_tests::client::Client;
use sluice_tests::plugin_store::Random;
use sluice_tests::process::{Program, files};
use sluice_tests::versions::named;

/// Kills in a run of the suite.
const ROUNDS: u64 = 15;

/// Clients, each with a plugin of its own, so that it knows what must be there.
const CLIENTS: usize = 3;

/// Versions that a client uploads, deletes and uploads again, each with one of two contents.
const VERSIONS: u64 = 6;

/// The latest moment of a kill, in milliseconds after the clients have begun.
const LIFE_MS_MAX: u64 = 700;

fn number(variable: &str, default: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.map_or(default, |text| text.parse().expect("a number"))
}

fn config() -> String {
    let mut config = r#"
    [state]
    dir = "state"
    [models.wide]
    engine = "sim"
    file = "{repo}/tests/models/wide.sim.json"
    "#
    .to_owned();
    for client in 0..CLIENTS {
        let _ = write!(config, "[plugins.p{client}]\ncall_timeout_ms = 5000\ninit_timeout_ms = 10000\n");
        let _ = write!(config, "[pipelines.p{client}]\npre = \"p{client}\"\nmodel = \"wide\"\n");
    }
    config
}

/// A version as its client knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    /// What it answers.
    answer: String,
    is_retired: bool,
}

/// What a client asks for.
#[derive(Debug, Clone)]
enum Move {
    Upload { version: String, answer: String },
    Activate { version: String },
    RollBack,
    Retire { version: String },
    Delete { version: String },
}

/// A client, and what has been acknowledged to it.
#[derive(Debug)]
struct Deployer {
    plugin: String,
    random: Random,
    versions: BTreeMap<String, Version>,
    active: Option<String>,
    /// What was under way when the gateway was killed.
    pending: Option<Move>,
    /// Requests that have changed something.
    acknowledged: Vec<String>,
    requests: u64,
}

impl Deployer {
    fn new(number: usize, seed: u64) -> Self {
        Self {
            plugin: format!("p{number}"),
            random: Random::new(seed.wrapping_mul(31).wrapping_add(number as u64)),
            versions: BTreeMap::new(),
            active: None,
            pending: None,
            acknowledged: Vec::new(),
            requests: 0,
        }
    }

    fn next(&mut self) -> Move {
        let version = format!("v{}", self.random.below(VERSIONS));
        if !self.versions.contains_key(&version) {
            let variant = self.random.below(2);
            let answer = format!("{}-{version}-{variant}", self.plugin);
            return Move::Upload { version, answer };
        }
        match self.random.below(10) {
            0..=4 => Move::Activate { version },
            5..=6 => Move::RollBack,
            7 => Move::Retire { version },
            _ => Move::Delete { version },
        }
    }

    /// Changes things until the gateway is gone.
    async fn work(mut self, admin: Client) -> Self {
        loop {
            let wanted = self.next();
            self.pending = Some(wanted.clone());
            self.requests += 1;
            let id = format!("{}-{}", self.plugin, self.requests);
            let base = format!("/admin/v1/plugins/{}", self.plugin);
            let (method, path, body) = match &wanted {
                Move::Upload { version, answer } => {
                    (Method::PUT, format!("{base}/versions/{version}"), named(answer))
                }
                Move::Activate { version } => {
                    let body = json!({ "version": version }).to_string();
                    (Method::POST, format!("{base}/activate"), body.into_bytes())
                }
                Move::RollBack => (Method::POST, format!("{base}/rollback"), Vec::new()),
                Move::Retire { version } => {
                    (Method::POST, format!("{base}/versions/{version}/retire"), Vec::new())
                }
                Move::Delete { version } => {
                    (Method::DELETE, format!("{base}/versions/{version}"), Vec::new())
                }
            };
            let Ok(reply) = admin.try_send(method, &path, &[("x-request-id", &id)], body).await else {
                return self;
            };
            let text = String::from_utf8_lossy(&reply.body).into_owned();
            assert!(reply.status.is_success() || reply.status.is_client_error(), "{wanted:?}: {text}");
            self.pending = None;
            if reply.status.is_success() {
                let answer = if reply.body.is_empty() { Value::Null } else { reply.json() };
                self.done(wanted, &answer, id);
            }
        }
    }

    fn done(&mut self, wanted: Move, answer: &Value, id: String) {
        let mut is_change = answer["changed"] != json!(false);
        match wanted {
            Move::Upload { version, answer } => {
                self.versions.insert(version, Version { answer, is_retired: false });
            }
            Move::Activate { version } => self.active = Some(version),
            Move::RollBack => self.active = answer["active"].as_str().map(str::to_owned),
            Move::Retire { version } => {
                if let Some(version) = self.versions.get_mut(&version) {
                    is_change = !std::mem::replace(&mut version.is_retired, true);
                }
            }
            Move::Delete { version } => drop(self.versions.remove(&version)),
        }
        if is_change {
            self.acknowledged.push(id);
        }
    }

    /// Compares what is there with what was acknowledged, and takes over what became of
    /// the last move.
    fn check(&mut self, shown: &Value) {
        let found = versions(shown);
        let pending = self.pending.take();
        let names: BTreeSet<&String> = self.versions.keys().chain(found.keys()).collect();
        for name in names {
            let (known, found) = (self.versions.get(name), found.get(name));
            let as_known = match (known, found) {
                (Some(known), Some((digest, state))) => {
                    *digest == digest_of(&known.answer) && (state == "retired") == known.is_retired
                }
                (known, found) => known.is_none() && found.is_none(),
            };
            let is_explained = match (&pending, found) {
                (Some(Move::Upload { version, answer }), Some((digest, state))) => {
                    version == name && *digest == digest_of(answer) && state == "ready"
                }
                (Some(Move::Delete { version }), None) => version == name,
                (Some(Move::Retire { version }), Some((digest, state))) => {
                    let is_same = known.is_some_and(|known| *digest == digest_of(&known.answer));
                    version == name && is_same && state == "retired"
                }
                _ => false,
            };
            let plugin = &self.plugin;
            assert!(
                as_known || is_explained,
                "{plugin}/{name}: acknowledged {known:?}, under way {pending:?}, found {found:?}"
            );
        }
        let active = shown["active"].as_str().map(str::to_owned);
        let is_explained = match &pending {
            Some(Move::Activate { version }) => active.as_ref() == Some(version),
            Some(Move::RollBack) => active.as_ref().is_none_or(|active| self.versions.contains_key(active)),
            _ => false,
        };
        assert!(
            active == self.active || is_explained,
            "{}: active {active:?}, acknowledged {:?}, under way {pending:?}",
            self.plugin,
            self.active
        );
        self.active = active;
        match pending {
            Some(Move::Upload { version, answer }) if found.contains_key(&version) => {
                self.versions.insert(version, Version { answer, is_retired: false });
            }
            Some(Move::Delete { version }) if !found.contains_key(&version) => {
                self.versions.remove(&version);
            }
            Some(Move::Retire { version }) => {
                if let Some(known) = self.versions.get_mut(&version) {
                    known.is_retired = found[&version].1 == "retired";
                }
            }
            _ => {}
        }
    }

    /// What serves answers as the version that is said to serve; and so does some other one,
    /// or every one, once it is activated.
    async fn check_answers(&mut self, program: &Program, are_all: bool) {
        if let Some(version) = self.active.as_ref().and_then(|active| self.versions.get(active)) {
            assert_eq!(answer_of(program, &self.plugin).await, version.answer);
        }
        let usable = self.versions.iter().filter(|(_, version)| !version.is_retired);
        let usable: Vec<_> = usable.map(|(name, version)| (name.clone(), version.answer.clone())).collect();
        let some = self.random.below(usable.len().max(1) as u64);
        for (index, (name, answer)) in usable.into_iter().enumerate() {
            if are_all || index as u64 == some {
                program.activate(&self.plugin, &name).await.ok();
                self.active = Some(name);
                assert_eq!(answer_of(program, &self.plugin).await, answer);
            }
        }
    }
}

async fn answer_of(program: &Program, pipeline: &str) -> String {
    let reply = program.client.predict(pipeline, &json!({})).await;
    String::from_utf8_lossy(&reply.body).into_owned()
}

fn digest_of(answer: &str) -> String {
    Digest::of(&named(answer)).to_string()
}

/// Versions by name: digest and state.
fn versions(shown: &Value) -> BTreeMap<String, (String, String)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let list = shown["versions"].as_array().expect("a list");
    list.iter().map(|it| (text(&it["version"]), (text(&it["digest"]), text(&it["state"])))).collect()
}

/// Every acknowledged change has its audit line, and every file of the store a version.
async fn check_store(
    program: &Program,
    deployers: &mut [Deployer],
    digests: BTreeSet<String>,
    after: u64,
) -> u64 {
    let audit = program.admin.get(&format!("/admin/v1/audit?limit=1000&after={after}")).await.ok();
    let lines = audit["entries"].as_array().expect("a list");
    let written: BTreeSet<&str> = lines
        .iter()
        .filter(|line| line["outcome"] == "ok")
        .filter_map(|line| line["request_id"].as_str())
        .collect();
    for deployer in deployers {
        for id in deployer.acknowledged.drain(..) {
            assert!(written.contains(id.as_str()), "{id} was acknowledged and has no audit line");
        }
    }
    let state = program.folder().join("state");
    let blobs = files(&state.join("blobs"));
    let named =
        |path: &std::path::PathBuf| format!("sha256:{}", path.file_name().expect("a name").to_string_lossy());
    assert_eq!(blobs.iter().map(named).collect::<BTreeSet<_>>(), digests, "components that are kept");
    assert_eq!(files(&state.join("tmp")), Vec::<std::path::PathBuf>::new());
    lines.last().and_then(|line| line["sequence"].as_u64()).unwrap_or(after)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn p24_a_gateway_that_is_killed_at_any_time_comes_back_with_all_that_it_acknowledged() {
    let seed = number("SLUICE_KILL_SEED", u64::from(std::process::id()));
    let rounds = number("SLUICE_KILL_ROUNDS", ROUNDS);
    println!("SLUICE_KILL_SEED={seed}");
    let mut random = Random::new(seed);
    let mut deployers: Vec<_> = (0..CLIENTS).map(|number| Deployer::new(number, seed)).collect();
    let mut program = Program::start(&config());
    let (mut after, mut acknowledged, mut cut) = (0, 0, 0);
    for round in 1..=rounds {
        let address = program.admin.address();
        let work = deployers.into_iter().map(|it| tokio::spawn(it.work(Client::new(address))));
        let work: Vec<_> = work.collect();
        tokio::time::sleep(Duration::from_millis(1 + random.below(LIFE_MS_MAX))).await;
        program = tokio::task::block_in_place(|| program.restart_after(|_| ()));
        deployers = Vec::new();
        for work in work {
            deployers.push(work.await.expect("what it was answered is as documented"));
        }
        acknowledged += deployers.iter().map(|it| it.acknowledged.len()).sum::<usize>();
        cut += deployers.iter().filter(|it| it.pending.is_some()).count();
        let mut digests = BTreeSet::new();
        for deployer in &mut deployers {
            let shown = program.show(&deployer.plugin).await;
            deployer.check(&shown);
            digests.extend(versions(&shown).into_values().map(|(digest, _)| digest));
        }
        after = check_store(&program, &mut deployers, digests, after).await;
        for deployer in &mut deployers {
            deployer.check_answers(&program, round == rounds).await;
        }
    }
    println!("{rounds} kills, {acknowledged} changes acknowledged, {cut} under way");
    assert!(acknowledged > 0 && cut > 0, "{acknowledged} changes acknowledged, {cut} under way");
}
