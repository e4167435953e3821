//! The store of plugins, killed: at every fault point, and from outside at any time.
//! What was acknowledged is there afterwards, whole; what was under way is whole or
//! absent; nothing else is there. `SLUICE_STORE_SEED=n` replays a run.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use sluice::catalog::store::{RegistryState, Store};
use sluice_tests::plugin_store::{Random, check_whole, shown};

const SIGKILL: i32 = 9;

/// Random operations of the script that is killed at its fault points, after it has
/// done everything once.
const OPERATIONS: &str = "15";

/// Passes at which each point kills; where there are more, they are picked by the seed.
const PASSES_MAX: u64 = 20;

/// Kills from outside.
const RANDOM_KILLS: usize = 160;

fn seed() -> u64 {
    let given = std::env::var("SLUICE_STORE_SEED").ok();
    given.map_or_else(|| u64::from(std::process::id()), |text| text.parse().expect("a number"))
}

/// What a driver said before it ended.
struct Run {
    status: ExitStatus,
    lines: Vec<String>,
}

impl Run {
    fn was_killed(&self) -> bool {
        use std::os::unix::process::ExitStatusExt as _;
        assert!(self.status.success() || self.status.signal() == Some(SIGKILL), "{}", self.status);
        self.status.signal() == Some(SIGKILL)
    }

    /// The last registry that was acknowledged, and the one that was under way.
    fn outcome(&self, before: &str) -> (String, Option<String>) {
        let (mut acknowledged, mut intended) = (before.to_owned(), None);
        for line in &self.lines {
            match line.split_once(' ') {
                Some(("open" | "done", state)) => (acknowledged, intended) = (state.to_owned(), None),
                Some(("intend", state)) => intended = Some(state.to_owned()),
                _ => {}
            }
        }
        (acknowledged, intended)
    }
}

/// Runs a driver to its end; with `kill_after`, kills it that long after it has begun.
fn run(
    directory: &Path,
    seed: &str,
    operations: &str,
    fault: Option<&str>,
    kill_after: Option<Duration>,
) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_store-driver"));
    command.args([directory.as_os_str(), seed.as_ref(), operations.as_ref()]).stdout(Stdio::piped());
    command.envs(fault.map(|fault| ("SLUICE_FAULT", fault)));
    let mut child = command.spawn().expect("starts");
    let mut out = BufReader::new(child.stdout.take().expect("is a pipe"));
    let mut lines = Vec::new();
    // A last line without its end was cut by the kill: nobody has seen it.
    let mut next = move || {
        let mut line = String::new();
        out.read_line(&mut line).expect("reads");
        line.strip_suffix('\n').map(str::to_owned)
    };
    if let Some(after) = kill_after {
        lines.extend(next());
        let reader = std::thread::spawn(move || std::iter::from_fn(next).collect::<Vec<_>>());
        std::thread::sleep(after);
        child.kill().expect("is ours to kill");
        lines.extend(reader.join().expect("no panic"));
    } else {
        lines.extend(std::iter::from_fn(next));
    }
    Run { status: child.wait().expect("ends"), lines }
}

/// Opens the store as a restart does and checks that it holds what it must. Gives what
/// it holds.
fn check(directory: &Path, run: &Run, before: &str, may_be_restored: bool) -> Result<String, String> {
    let (acknowledged, intended) = run.outcome(before);
    let store = Store::open(directory).map_err(|error| error.to_string())?;
    let problems = store.problems();
    if !may_be_restored && !problems.is_empty() {
        return Err(format!("{problems:?}"));
    }
    let state = store.snapshot();
    let found = shown(state.generation(), &state);
    if found != acknowledged && Some(&found) != intended.as_ref() {
        return Err(format!("acknowledged {acknowledged}\nunder way {intended:?}\nfound {found}"));
    }
    check_whole(&store, directory)?;
    Ok(found)
}

fn nothing() -> String {
    shown(0, &RegistryState::default())
}

/// Which passes of a point to kill at: all of a few, else some, the last among them.
fn picked(passes: u64, random: &mut Random) -> Vec<u64> {
    if passes <= PASSES_MAX {
        return (1..=passes).collect();
    }
    let mut picked: Vec<u64> = (1..PASSES_MAX).map(|_| 1 + random.below(passes)).collect();
    picked.push(passes);
    picked
}

/// L3.
#[test]
fn killed_at_every_fault_point_the_store_holds_what_it_acknowledged() {
    let seed = seed();
    let script = seed.to_string();
    let whole = tempfile::tempdir().expect("a directory");
    let counted = run(whole.path(), &script, OPERATIONS, None, None);
    assert!(!counted.was_killed());
    check(whole.path(), &counted, &nothing(), false).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    let mut random = Random::new(seed);
    let mut faults = Vec::new();
    for line in counted.lines.iter().filter_map(|line| line.strip_prefix("passes ")) {
        let (point, passes) = line.split_once(' ').expect("a name and a number");
        let passes = passes.parse().expect("a number");
        assert!(passes > 0, "nothing comes by {point}");
        faults.extend(picked(passes, &mut random).into_iter().map(|pass| format!("{point}:{pass}")));
    }
    let kills = std::sync::atomic::AtomicUsize::new(0);
    let each = |fault: &String| {
        let directory = tempfile::tempdir().expect("a directory");
        let run = run(directory.path(), &script, OPERATIONS, Some(fault), None);
        kills.fetch_add(usize::from(run.was_killed()), std::sync::atomic::Ordering::Relaxed);
        let found = check(directory.path(), &run, &nothing(), false);
        found.unwrap_or_else(|error| panic!("SLUICE_STORE_SEED={seed} SLUICE_FAULT={fault}: {error}"));
    };
    std::thread::scope(|scope| {
        for half in faults.chunks(faults.len().div_ceil(2)) {
            scope.spawn(|| half.iter().for_each(each));
        }
    });
    let kills = kills.into_inner();
    println!("SLUICE_STORE_SEED={seed}: {kills} kills");
    // The number of page writes may differ by a few from run to run.
    assert!(kills + 5 > faults.len() && kills > 100, "{kills} kills for {} faults", faults.len());
}

/// L3, at moments that nobody chose, on one registry that grows older.
#[test]
fn killed_from_outside_at_any_time_the_store_holds_what_it_acknowledged() {
    let seed = seed();
    let mut random = Random::new(seed);
    let directory = tempfile::tempdir().expect("a directory");
    let mut before = nothing();
    for kill in 0..RANDOM_KILLS {
        let after = Duration::from_micros(random.below(40_000));
        let script = random.below(u64::MAX).to_string();
        let run = run(directory.path(), &script, "100000", None, Some(after));
        assert!(run.was_killed());
        let found = check(directory.path(), &run, &before, false);
        before = found.unwrap_or_else(|error| panic!("SLUICE_STORE_SEED={seed}, kill {kill}: {error}"));
    }
    println!("SLUICE_STORE_SEED={seed}: {RANDOM_KILLS} kills");
    let generation: u64 = before.split(' ').next().and_then(|text| text.parse().ok()).expect("a number");
    assert!(generation > RANDOM_KILLS as u64 / 2, "only {generation} commits between the kills");
}

/// L3 and L5 at once: the registry is broken, and the process dies while it restores it.
#[test]
fn killed_while_it_restores_a_broken_registry_the_store_restores_it_the_next_time() {
    let seed = seed();
    let base = tempfile::tempdir().expect("a directory");
    let first = run(base.path(), &seed.to_string(), OPERATIONS, None, None);
    assert!(!first.was_killed());
    let (before, _) = first.outcome(&nothing());
    let mut kills = 0;
    for point in [
        "open.locked",
        "open.swept",
        "redb.set_len",
        "redb.write",
        "redb.sync",
        "backup.write",
        "backup.rename",
        "open.read",
    ] {
        for pass in [1, 2, 3, 5, 9] {
            let directory = tempfile::tempdir().expect("a directory");
            copy(base.path(), directory.path());
            let registry = directory.path().join("registry.redb");
            let length = registry.metadata().expect("is there").len();
            let file = std::fs::OpenOptions::new().write(true).open(&registry).expect("opens");
            file.set_len(length / 2).expect("shortens");
            let run = run(directory.path(), "1", "0", Some(&format!("{point}:{pass}")), None);
            kills += usize::from(run.was_killed());
            let found = check(directory.path(), &run, &before, true);
            let found =
                found.unwrap_or_else(|error| panic!("SLUICE_STORE_SEED={seed} {point}:{pass}: {error}"));
            assert_eq!(found, before, "{point}:{pass}");
        }
    }
    assert!(kills >= 15, "{kills}");
}

/// L4, with the kernel's own refusals: files may not grow.
#[test]
fn a_store_that_ran_full_lost_nothing_and_goes_on_when_there_is_room() {
    let directory = tempfile::tempdir().expect("a directory");
    // The signal that comes with the refusal is ignored, as servers do.
    let driver = env!("CARGO_BIN_EXE_store-driver");
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$1\" fill 0", driver])
        .arg(directory.path())
        .output()
        .expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let lines = text.lines().map(str::to_owned).collect();
    let run = Run { status: output.status, lines };
    check(directory.path(), &run, &nothing(), false).unwrap_or_else(|error| panic!("{error}"));
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        let target: PathBuf = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir_all(&target).expect("creates");
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copies");
        }
    }
}
