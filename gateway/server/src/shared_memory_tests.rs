//! Tests of the room, on real shared memory.

use super::*;

/// A shared memory that goes away with the test.
struct Memory(String);

impl Memory {
    fn new(name: &str, content: &[u8]) -> Self {
        let key = format!("sluice-unit-{}-{name}", std::process::id());
        std::fs::write(Path::new(FOLDER).join(&key), content).expect("written");
        Self(key)
    }

    fn path(&self) -> std::path::PathBuf {
        Path::new(FOLDER).join(&self.0)
    }

    fn segment(&self, offset: u64, byte_size: u64) -> Segment {
        Segment { key: self.0.clone(), offset, byte_size }
    }

    fn cut(&self, length: u64) {
        File::options().write(true).open(self.path()).expect("there").set_len(length).expect("cut");
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.path());
    }
}

fn manager() -> Arc<SharedMemory> {
    let bounds =
        config::SharedMemory { enabled: true, regions_max: 2, bytes_max: 100, key_prefix: String::new() };
    SharedMemory::new(&bounds, &Arc::new(Metrics::new(crate::observe::SpanCounters::default())))
}

fn tenant(name: &str) -> Holder {
    Holder::Owner(name.into())
}

fn place(region: &str, offset: u64, byte_size: u64) -> Place {
    Place { region: region.into(), offset, byte_size }
}

fn kind<T>(result: Result<T>) -> Kind {
    match result {
        Ok(_) => panic!("it was not refused"),
        Err(error) => error.kind(),
    }
}

#[test]
fn a_place_is_said_whole_or_not_at_all() {
    let read = |given: &[(&str, Parameter)]| {
        let given: Vec<_> = given.iter().map(|(name, value)| (Arc::from(*name), value.clone())).collect();
        Place::read(&given, "x").map_err(|error| error.message().to_owned())
    };
    let (region, size, offset) = (
        (PARAMETERS[0], Parameter::Text("r".into())),
        (PARAMETERS[1], Parameter::Integer(4)),
        (PARAMETERS[2], Parameter::Unsigned(u64::MAX)),
    );
    assert_eq!(read(&[("binary_data", Parameter::Bool(true))]), Ok(None));
    assert_eq!(read(&[region.clone(), size.clone()]), Ok(Some(place("r", 0, 4))));
    let whole = [region.clone(), size.clone(), offset.clone()];
    assert_eq!(read(&whole), Ok(Some(place("r", u64::MAX, 4))));
    for (given, expected) in [
        (vec![size.clone()], "can not be specified without 'shared_memory_region'"),
        (vec![offset], "can not be specified without 'shared_memory_region'"),
        (vec![region.clone()], "must be specified along with"),
        (vec![(PARAMETERS[0], Parameter::Integer(1)), size.clone()], "expected string_param"),
        (vec![region.clone(), (PARAMETERS[1], Parameter::Text("4".into()))], "expected int64_param"),
        (vec![region.clone(), (PARAMETERS[1], Parameter::Float(4.0))], "expected int64_param"),
        (vec![region.clone(), (PARAMETERS[1], Parameter::Integer(-1))], "expected 0 or more"),
        (vec![region, size, (PARAMETERS[2], Parameter::Bool(true))], "expected int64_param"),
    ] {
        let message = read(&given).expect_err(expected);
        assert!(message.contains(expected) && message.contains("tensor 'x'"), "{message}");
    }
}

#[test]
fn parts_are_read_and_written_within_their_region_only() {
    let memory = Memory::new("parts", &[7; 64]);
    let (manager, tenant) = (manager(), tenant("a"));
    let segment = Segment { key: format!("/{}", memory.0), offset: 16, byte_size: 32 };
    manager.register(&tenant, "r", segment).expect("registered");
    let part = manager.part(&tenant, place("r", 8, 4)).expect("inside");
    part.check_room("y", 3).expect("room");
    part.write(&[1, 2, 3]).expect("written");
    assert_eq!(part.read().expect("read"), [1, 2, 3, 7][..]);
    assert_eq!(std::fs::read(memory.path()).expect("read")[23..29], [7, 1, 2, 3, 7, 7]);
    let small = part.check_room("y", 5).expect_err("no room");
    assert!(small.message().contains("'y' (4 bytes) should be at least 5 bytes"), "{small}");
    for (offset, size) in [(0, 33), (31, 2), (32, 0), (32, 1), (u64::MAX, 1), (1, u64::MAX)] {
        let refused = manager.part(&tenant, place("r", offset, size));
        assert_eq!(kind(refused), Kind::BadRequest, "{offset} {size}");
    }
    assert_eq!(kind(manager.part(&tenant, place("other", 0, 1))), Kind::NotFound);
}

#[test]
fn memory_that_is_cut_short_fails_the_request_and_is_not_made_longer() {
    let memory = Memory::new("cut", &[7; 64]);
    let (manager, tenant) = (manager(), tenant("a"));
    manager.register(&tenant, "r", memory.segment(0, 64)).expect("registered");
    let part = manager.part(&tenant, place("r", 0, 64)).expect("inside");
    memory.cut(10);
    assert_eq!(kind(part.read()), Kind::BadRequest);
    assert_eq!(kind(part.check_room("y", 64)), Kind::BadRequest);
    assert_eq!(std::fs::metadata(memory.path()).expect("there").len(), 10);
    part.check_room("y", 10).expect("what is left has room");
}

#[test]
fn a_part_outlives_the_registration_and_the_name_of_its_memory() {
    let memory = Memory::new("gone", &[7; 64]);
    let (manager, tenant) = (manager(), tenant("a"));
    manager.register(&tenant, "r", memory.segment(0, 64)).expect("registered");
    let part = manager.part(&tenant, place("r", 0, 64)).expect("inside");
    manager.unregister(&tenant, Some("r"));
    std::fs::remove_file(memory.path()).expect("removed");
    assert_eq!(part.read().expect("still there"), [7; 64][..]);
    assert_eq!(kind(manager.part(&tenant, place("r", 0, 64))), Kind::NotFound);
}

#[test]
fn a_key_is_an_ordinary_file_of_the_folder_and_nothing_else() {
    let memory = Memory::new("file", &[7; 64]);
    let link = Memory::new("link", b"");
    std::fs::remove_file(link.path()).expect("removed");
    std::os::unix::fs::symlink(memory.path(), link.path()).expect("linked");
    let folder = tempfile::tempdir_in(FOLDER).expect("a folder");
    let nested = folder.path().file_name().expect("a name").to_string_lossy();
    std::fs::write(folder.path().join("inside"), [7; 64]).expect("written");
    let (manager, tenant) = (manager(), tenant("a"));
    let semaphore = Path::new(FOLDER).join(format!("sem.sluice-unit-{}", std::process::id()));
    std::fs::write(&semaphore, [7; 64]).expect("written");
    let semaphore_key = semaphore.file_name().expect("a name").to_string_lossy().into_owned();
    let pipe = Memory::new("pipe", b"");
    std::fs::remove_file(pipe.path()).expect("removed");
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, pipe.path(), FileType::Fifo, mode, 0).expect("a pipe");
    for key in [
        "",
        "/",
        ".",
        "..",
        "../etc/passwd",
        "/../dev/shm/x",
        "//etc/passwd",
        "a/b",
        "a\0b",
        &"x".repeat(300),
        &format!("/dev/shm/{}", memory.0),
        &format!("./{}", memory.0),
        &link.0,
        &pipe.0,
        &nested,
        &format!("{nested}/inside"),
        &semaphore_key,
        "sluice-nobody-has-this",
    ] {
        let segment = Segment { key: key.to_owned(), offset: 0, byte_size: 1 };
        let error = manager.register(&tenant, "r", segment).expect_err(key);
        let expected = format!("Unable to open shared memory region: '{}'", shown(key));
        assert_eq!((error.kind(), error.message()), (Kind::BadRequest, &*expected));
    }
    std::fs::remove_file(semaphore).expect("removed");
    for (offset, size) in [(0, 65), (64, 1), (u64::MAX, 2), (0, 0), (65, u64::MAX)] {
        let refused = manager.register(&tenant, "r", memory.segment(offset, size));
        assert_eq!(kind(refused), Kind::BadRequest, "{offset} {size}");
    }
    for name in ["", "a\nb", &"x".repeat(256)] {
        assert_eq!(kind(manager.register(&tenant, name, memory.segment(0, 1))), Kind::BadRequest, "{name}");
    }
}

#[test]
fn keys_may_be_bound_to_a_beginning() {
    let memory = Memory::new("prefix", &[7; 64]);
    let register = |prefix: &str| open(Path::new(FOLDER), &memory.0, prefix).map(drop);
    assert!(register("sluice-unit-").is_ok());
    assert_eq!(kind(register("sluice-other-")), Kind::BadRequest);
}

#[test]
fn regions_are_bounded_and_each_holders_own() {
    let memory = Memory::new("own", &[7; 64]);
    let (manager, a, b) = (manager(), tenant("a"), Holder::Token("a".into()));
    manager.register(&a, "r", memory.segment(0, 60)).expect("registered");
    let again = manager.register(&a, "r", memory.segment(0, 60)).expect_err("taken");
    assert_eq!(
        (again.kind(), again.message()),
        (Kind::AlreadyExists, "shared memory region 'r' already in manager")
    );
    assert_eq!(kind(manager.register(&b, "r", memory.segment(0, 60))), Kind::TenantLimit, "bytes");
    manager.register(&b, "r", memory.segment(0, 1)).expect("another holder's name");
    assert_eq!(kind(manager.register(&b, "s", memory.segment(0, 1))), Kind::TenantLimit, "regions");
    assert_eq!(kind(manager.part(&b, place("r", 1, 1))), Kind::BadRequest, "b has its own of one byte");
    manager.unregister(&b, None);
    assert_eq!(kind(manager.status(&b, Some("r"))), Kind::NotFound);
    assert_eq!(manager.status(&a, None).expect("a list"), [("r".to_owned(), memory.segment(0, 60))]);
    manager.unregister(&a, Some("nobody"));
    manager.unregister(&a, Some("r"));
    assert!(manager.status(&a, None).expect("a list").is_empty());
}
