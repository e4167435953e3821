//! Compiled code is loaded only if nobody touched it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sluice_sandbox::{LoadError, Sandbox, SandboxConfig};
use tempfile::TempDir;

use crate::guest;
use crate::support::{ask, config, options};

fn sandbox(directory: &Path) -> Sandbox {
    Sandbox::new(SandboxConfig { cache_dir: Some(directory.to_owned()), ..config() }).unwrap()
}

fn echo() -> Vec<u8> {
    guest::pipeline("", "", "(call $answer (local.get $data) (local.get $len))")
}

/// The files of the cache.
fn files(directory: &Path) -> Vec<PathBuf> {
    let inner = fs::read_dir(directory).unwrap().next().unwrap().unwrap().path();
    fs::read_dir(inner).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn the_second_load_takes_the_code_from_the_cache() {
    let directory = TempDir::new().unwrap();
    let first = sandbox(directory.path()).load(&echo(), options()).unwrap();
    assert!(!first.info().compiled_from_cache);
    let second = sandbox(directory.path()).load(&echo(), options()).unwrap();
    assert!(second.info().compiled_from_cache);
    assert_eq!(second.info().digest, first.info().digest);
    assert_eq!(ask(&second, "fine").await.unwrap(), "fine");
    assert_eq!(files(directory.path()).len(), 1);
}

#[tokio::test]
async fn a_file_with_a_flipped_bit_or_a_missing_end_is_compiled_again() {
    let directory = TempDir::new().unwrap();
    sandbox(directory.path()).load(&echo(), options()).unwrap();
    let file = files(directory.path()).remove(0);
    let good = fs::read(&file).unwrap();
    let middle = good.len() / 2;
    for position in [0, 10, 50, 80, middle, good.len() - 1] {
        let mut bad = good.clone();
        bad[position] ^= 1;
        fs::write(&file, &bad).unwrap();
        let plugin = sandbox(directory.path()).load(&echo(), options()).unwrap();
        assert!(!plugin.info().compiled_from_cache, "a flip at {position} went unseen");
        assert_eq!(ask(&plugin, "fine").await.unwrap(), "fine");
    }
    fs::write(&file, &good[..middle]).unwrap();
    assert!(!sandbox(directory.path()).load(&echo(), options()).unwrap().info().compiled_from_cache);
    assert!(sandbox(directory.path()).load(&echo(), options()).unwrap().info().compiled_from_cache, "mended");
}

#[test]
fn what_a_killed_process_has_begun_is_swept_away() {
    let directory = TempDir::new().unwrap();
    sandbox(directory.path()).load(&echo(), options()).unwrap();
    let folder = files(directory.path())[0].parent().unwrap().to_owned();
    for (name, age_seconds) in [(".part-1-1", 3600), (".part-1-2", 0)] {
        let file = fs::File::create(folder.join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age_seconds)).unwrap();
    }
    let _again = sandbox(directory.path());
    let left = files(directory.path());
    assert!(left.iter().any(|path| path.ends_with(".part-1-2")), "it may still be written");
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn code_of_another_component_is_not_taken_under_this_name() {
    let directory = TempDir::new().unwrap();
    let other = guest::pipeline("", "", "(call $answer (i32.const 16) (i32.const 4))");
    sandbox(directory.path()).load(&other, options()).unwrap();
    let wrong = files(directory.path()).remove(0);
    sandbox(directory.path()).load(&echo(), options()).unwrap();
    let right = files(directory.path()).into_iter().find(|file| *file != wrong).unwrap();
    fs::copy(&wrong, &right).unwrap();
    assert!(!sandbox(directory.path()).load(&echo(), options()).unwrap().info().compiled_from_cache);
}

#[test]
fn a_directory_that_others_can_enter_is_refused() {
    let directory = TempDir::new().unwrap();
    drop(sandbox(directory.path()));
    let inner = fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::metadata(&inner).unwrap().permissions().mode() & 0o777, 0o700);
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).unwrap();
    let config = SandboxConfig { cache_dir: Some(directory.path().to_owned()), ..config() };
    assert!(matches!(Sandbox::new(config), Err(LoadError::Io(_))));
}

#[test]
fn compiled_code_is_not_accepted_as_a_plugin() {
    let directory = TempDir::new().unwrap();
    let sandbox = sandbox(directory.path());
    sandbox.load(&echo(), options()).unwrap();
    let file = fs::read(files(directory.path()).remove(0)).unwrap();
    let error = sandbox.load(&file, options()).expect_err("no WebAssembly");
    assert!(matches!(error, LoadError::NotWasm(_)), "{error:?}");
    let error = sandbox.load(&file[104..], options()).expect_err("native code");
    assert!(matches!(error, LoadError::NotComponent(_)), "{error:?}");
}
