//! System calls that fail on demand, by a seccomp filter. It needs no privilege and cannot be
//! undone.

use super::must;
use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};
use std::io;

/// One system call that shall fail, always or with one value of one argument.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    pub call: libc::c_long,
    pub errno: i32,
    /// The argument's position, from 0, and the value of its lower 32 bits.
    pub when: Option<(u32, u32)>,
}

/// From now on these system calls fail with these errors, in all threads and children.
///
/// An errno of 0 makes the call return 0 and do nothing. Several filters may be installed one after
/// the other; of two errors for one call the later one wins.
pub fn refuse(calls: &[(libc::c_long, i32)]) {
    let refusals: Vec<Refusal> =
        calls.iter().map(|&(call, errno)| Refusal { call, errno, when: None }).collect();
    refuse_all(&refusals);
}

/// From now on the system call fails if its argument number `argument`, from 0, has this value,
/// such as `refuse_when(libc::SYS_epoll_ctl, 1, libc::EPOLL_CTL_ADD as u32, libc::ENOSPC)`.
pub fn refuse_when(call: libc::c_long, argument: u32, value: u32, errno: i32) {
    let when = Some((argument, value));
    refuse_all(&[Refusal { call, errno, when }]);
}

/// From now on whatever fits one of these fails; the first that fits says how.
pub fn refuse_all(refusals: &[Refusal]) {
    let Some(arch) = audit_arch() else {
        super::pass_over("the kit has no seccomp filter for this architecture");
    };
    install(&program(arch, refusals));
}

/// Whether the kernel has this system call, and lets this process use it. It is tried with a first
/// argument of -1, which has to be a wrong one.
pub fn has_call(call: libc::c_long) -> bool {
    // SAFETY: the call looks at nothing after it has seen that its first argument is wrong.
    let returned = unsafe { libc::syscall(call, -1, 0, 0, 0, 0, 0) };
    let errno = io::Error::last_os_error().raw_os_error();
    returned != -1 || ![Some(libc::ENOSYS), Some(libc::EPERM)].contains(&errno)
}

/// The kernel's number of this architecture (linux/audit.h).
fn audit_arch() -> Option<u32> {
    match std::env::consts::ARCH {
        "x86_64" => Some(0xC000_003E),
        "aarch64" => Some(0xC000_00B7),
        _ => None,
    }
}

/// Offsets in `struct seccomp_data`; arguments are 64 bits wide, their lower half comes first.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

fn program(arch: u32, refusals: &[Refusal]) -> Vec<sock_filter> {
    // Another architecture's calls have other numbers; they are let through.
    let allow = give(libc::SECCOMP_RET_ALLOW);
    let mut program = vec![load(ARCH), skip_if_equal(arch, 1), allow, load(NUMBER)];
    for refusal in refusals {
        let call = u32::try_from(refusal.call).expect("a system call's number");
        let errno = u32::try_from(refusal.errno).expect("an errno");
        let fail = give(libc::SECCOMP_RET_ERRNO | errno);
        match refusal.when {
            None => program.extend([skip_unless_equal(call, 1), fail]),
            Some((argument, value)) => program.extend([
                skip_unless_equal(call, 4),
                load(ARGUMENTS + 8 * argument),
                skip_unless_equal(value, 1),
                fail,
                load(NUMBER),
            ]),
        }
    }
    program.push(allow);
    program
}

const fn load(offset: u32) -> sock_filter {
    instruction(BPF_LD | BPF_W | BPF_ABS, 0, 0, offset)
}

const fn skip_if_equal(value: u32, instructions: u8) -> sock_filter {
    instruction(BPF_JMP | BPF_JEQ | BPF_K, instructions, 0, value)
}

const fn skip_unless_equal(value: u32, instructions: u8) -> sock_filter {
    instruction(BPF_JMP | BPF_JEQ | BPF_K, 0, instructions, value)
}

const fn give(verdict: u32) -> sock_filter {
    instruction(BPF_RET | BPF_K, 0, 0, verdict)
}

const fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    // All codes are below 256.
    let code = code as u16;
    sock_filter { code, jt, jf, k }
}

/// Installs the filter for all threads. A kernel without seccomp passes the case over.
fn install(program: &[sock_filter]) {
    // SAFETY: the call takes numbers.
    let returned = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    must("prctl", returned);
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).expect("a short program"),
        filter: program.as_ptr().cast_mut(),
    };
    let flags = libc::SECCOMP_FILTER_FLAG_TSYNC;
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: `filter` and the program it points to live through the call, which only reads them.
    let returned = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const filter) };
    if returned == -1 {
        let error = io::Error::last_os_error();
        let refused = [libc::ENOSYS, libc::EINVAL, libc::EPERM, libc::EACCES];
        match error.raw_os_error() {
            Some(errno) if refused.contains(&errno) => {
                super::pass_over(&format!("no seccomp filter can be installed here: {error}"))
            }
            _ => panic!("seccomp: {error}"),
        }
    }
    assert_eq!(returned, 0, "a thread could not take the filter");
}
