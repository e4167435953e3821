//! What the child gives up before it reads a byte of the component: it keeps its
//! processor time and memory, up to limits, and the three pipes to its parent.

use std::collections::BTreeMap;

use rustix::process::{
    Resource, Rlimit, Signal, getrlimit, nice, set_parent_process_death_signal, setrlimit,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use sluice_sandbox::VerifyLimits;

/// The lowest priority: predictions come first, whatever is compiled beside them.
const NICENESS: i32 = 19;

/// File descriptors: the three pipes, and some that the language's start may hold.
const DESCRIPTORS_MAX: u64 = 16;

/// Gives everything up, for good.
///
/// # Errors
/// When the kernel refuses any of it: then nothing may be verified here.
pub(super) fn enter(limits: &VerifyLimits) -> Result<(), String> {
    // A parent that is killed takes the child along. Whoever started it waits for its answer,
    // so the thread that the kernel watches for this lives as long as the process.
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| format!("parent cannot be watched: {error}"))?;
    // When the machine runs out of memory, this goes first. Where it cannot be said, the
    // kernel will see by itself who is large.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let bounds = [
        (Resource::Cpu, limits.cpu_seconds),
        (Resource::As, limits.address_space_bytes),
        // No file can grow by a byte, and pipes are no files.
        (Resource::Fsize, 0),
        (Resource::Nofile, DESCRIPTORS_MAX),
        (Resource::Core, 0),
        // No other process or thread: compiling needs none.
        (Resource::Nproc, 0),
    ];
    for (resource, most) in bounds {
        // A limit that is lower already stays.
        let most = getrlimit(resource).maximum.map_or(most, |maximum| maximum.min(most));
        let bound = Rlimit { current: Some(most), maximum: Some(most) };
        setrlimit(resource, bound).map_err(|error| format!("{resource:?} cannot be limited: {error}"))?;
    }
    nice(NICENESS).map_err(|error| format!("priority cannot be lowered: {error}"))?;
    // Better still, where the kernel has it.
    let _ = sluice_sandbox::priority::only_when_idle();
    let _ = sluice_sandbox::priority::step_aside_often();
    lock().map_err(|error| format!("system calls cannot be limited: {error}"))
}

/// Leaves this thread, and those that it starts, only the system calls of [`calls`].
fn lock() -> Result<(), Box<dyn std::error::Error>> {
    // A refused call fails and does not kill: libraries try this and that, and do without.
    let refuse = SeccompAction::Errno(u32::try_from(libc::EPERM)?);
    let filter =
        SeccompFilter::new(calls()?, refuse, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?;
    seccompiler::apply_filter(&BpfProgram::try_from(filter)?)?;
    Ok(())
}

/// The system calls that remain: to compute, to allocate, to use open pipes and to end.
/// No file is opened, nothing is connected, no process is started or looked at, and no
/// memory is made executable.
fn calls() -> Result<BTreeMap<i64, Vec<SeccompRule>>, Box<dyn std::error::Error>> {
    let free = [
        // The pipes.
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_close,
        libc::SYS_fstat,
        libc::SYS_lseek,
        // Memory.
        libc::SYS_brk,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        // Time, randomness, and what the runtime asks about itself.
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep,
        libc::SYS_getrandom,
        libc::SYS_futex,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_membarrier,
        libc::SYS_rseq,
        libc::SYS_set_robust_list,
        libc::SYS_restart_syscall,
        // Signals to itself, and the end.
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ];
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> =
        free.into_iter().map(|call| (call, Vec::new())).collect();
    let executable = u64::try_from(libc::PROT_EXEC)?;
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        calls.insert(call, when(2, SeccompCmpOp::MaskedEq(executable), 0)?);
    }
    calls.insert(libc::SYS_tgkill, when(0, SeccompCmpOp::Eq, u64::from(std::process::id()))?);
    Ok(calls)
}

/// A call with one condition on one of its arguments.
fn when(
    argument: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<Vec<SeccompRule>, Box<dyn std::error::Error>> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?;
    Ok(vec![SeccompRule::new(vec![condition])?])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a thread behind the filter may do; a filter binds only its own thread.
    fn behind_the_filter<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        let locked = move || {
            lock().expect("the kernel has seccomp");
            work()
        };
        std::thread::spawn(locked).join().expect("it ends")
    }

    fn is_refused<T>(result: &std::io::Result<T>) -> bool {
        matches!(result, Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied)
    }

    #[test]
    fn no_file_is_opened_no_peer_reached_and_no_process_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let (address, file) = (listener.local_addr().expect("bound"), folder.path().join("file"));
        std::fs::write(&file, "x").expect("written");
        let refused = behind_the_filter(move || {
            [
                ("create", is_refused(&std::fs::File::create(file.with_extension("new")))),
                ("read", is_refused(&std::fs::read(&file))),
                ("remove", is_refused(&std::fs::remove_file(&file))),
                ("connect", is_refused(&std::net::TcpStream::connect(address))),
                ("listen", is_refused(&std::net::TcpListener::bind("127.0.0.1:0"))),
                ("datagram", is_refused(&std::net::UdpSocket::bind("127.0.0.1:0"))),
                ("run", is_refused(&std::process::Command::new("/bin/true").status())),
                ("thread", is_refused(&std::thread::Builder::new().spawn(|| ()))),
            ]
        });
        for (what, refused) in refused {
            assert!(refused, "{what} was possible");
        }
        assert!(std::fs::read_dir(folder.path()).expect("a folder").count() == 1);
    }

    #[test]
    fn computing_allocating_and_panicking_go_on() {
        let sum = behind_the_filter(|| {
            let large: Vec<u64> = (0..1_000_000).collect();
            std::panic::catch_unwind(|| std::hint::black_box(1) / std::hint::black_box(0)).ok();
            large.iter().sum::<u64>()
        });
        assert_eq!(sum, 499_999_500_000);
    }
}
