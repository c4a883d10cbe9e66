//! What the kernel tells of one signal, whichever way it came.

use libc::{c_int, c_long, c_uint, siginfo_t};

/// The fields of `siginfo_t` that a program may want. Those that mean nothing for its signal and
/// code are zero.
///
/// Made of integers and without padding, so that a handler can write it to a pipe as it is.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct SignalRecord {
    pub(crate) pointer: u64,
    pub(crate) user_time: u64,
    pub(crate) system_time: u64,
    pub(crate) signo: i32,
    pub(crate) code: i32,
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    pub(crate) status: i32,
    pub(crate) value: i32,
    pub(crate) fd: i32,
    pub(crate) band: u32,
    pub(crate) timer_id: u32,
    pub(crate) overrun: u32,
}

/// The codes whose numbers libc does not give for Linux.
const SI_SIGIO: c_int = -5;
const SI_TIMER: c_int = -2;

/// What the fields of a `siginfo_t` after the first three are (sigaction(2)). Every member is made
/// of integers, so that any bits are a value of each.
#[repr(C)]
union Fields {
    sender: Sender,
    timer: Timer,
    child: Child,
    poll: Poll,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Sender {
    pid: c_int,
    uid: c_uint,
    value: Value,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Timer {
    id: c_int,
    overrun: c_int,
    value: Value,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Child {
    pid: c_int,
    uid: c_uint,
    status: c_int,
    user_time: libc::clock_t,
    system_time: libc::clock_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Poll {
    band: c_long,
    fd: c_int,
}

#[derive(Clone, Copy)]
#[repr(C)]
union Value {
    number: c_int,
    pointer: usize,
}

/// A `siginfo_t` whose fields have names. The kernel aligns what follows the first three as we do,
/// for a pointer.
#[repr(C)]
struct Layout {
    head: [c_int; 3],
    fields: Fields,
}

const _: () = assert!(size_of::<Layout>() <= size_of::<siginfo_t>());
const _: () = assert!(align_of::<Layout>() <= align_of::<siginfo_t>());

impl SignalRecord {
    /// A delivery of which only the number is known.
    #[inline]
    pub(crate) fn of(signo: i32) -> Self {
        Self { signo, ..Self::default() }
    }

    /// Reads what the kernel has given to a handler. Async-signal-safe.
    #[inline]
    pub(super) fn from_siginfo(info: &siginfo_t) -> Self {
        let (signo, code) = (info.si_signo, info.si_code);
        let record = Self { signo, code, ..Self::default() };
        // SAFETY: a `siginfo_t` is at least as long and as aligned, and any bits are a `Layout`.
        let layout = unsafe { &*std::ptr::from_ref(info).cast::<Layout>() };
        let fields = &layout.fields;
        match (signo, code) {
            // Codes between SI_USER and SI_KERNEL are the signal's own.
            (libc::SIGCHLD, 1..0x80) => record.with_child(fields),
            // A trap of the processor or of a filter has an address, which we do not pass on.
            (libc::SIGTRAP | libc::SIGSYS, 1..0x80) => record,
            // A descriptor's signal: SIGIO, or any that has no codes of its own (F_SETSIG).
            (_, 1..0x80 | SI_SIGIO) => record.with_poll(fields),
            (_, SI_TIMER) => record.with_timer(fields),
            _ => record.with_sender(fields, code < 0),
        }
    }

    #[inline]
    fn with_sender(self, fields: &Fields, queued: bool) -> Self {
        // SAFETY: made of integers.
        let sender = unsafe { fields.sender };
        let record = Self { pid: sender.pid as u32, uid: sender.uid, ..self };
        if queued { record.with_value(sender.value) } else { record }
    }

    #[inline]
    fn with_timer(self, fields: &Fields) -> Self {
        // SAFETY: made of integers.
        let timer = unsafe { fields.timer };
        let (timer_id, overrun) = (timer.id as u32, timer.overrun as u32);
        Self { timer_id, overrun, ..self }.with_value(timer.value)
    }

    #[inline]
    fn with_child(self, fields: &Fields) -> Self {
        // SAFETY: made of integers.
        let child = unsafe { fields.child };
        let (pid, uid, status) = (child.pid as u32, child.uid, child.status);
        let (user_time, system_time) = (child.user_time as u64, child.system_time as u64);
        Self { pid, uid, status, user_time, system_time, ..self }
    }

    #[inline]
    fn with_poll(self, fields: &Fields) -> Self {
        // SAFETY: made of integers.
        let poll = unsafe { fields.poll };
        Self { band: poll.band as u32, fd: poll.fd, ..self }
    }

    #[inline]
    fn with_value(self, value: Value) -> Self {
        // SAFETY: an integer.
        let number = unsafe { value.number };
        // SAFETY: an integer.
        let pointer = unsafe { value.pointer };
        Self { value: number, pointer: pointer as u64, ..self }
    }
}

impl From<&libc::signalfd_siginfo> for SignalRecord {
    #[inline]
    fn from(info: &libc::signalfd_siginfo) -> Self {
        Self {
            signo: info.ssi_signo as i32,
            code: info.ssi_code,
            pid: info.ssi_pid,
            uid: info.ssi_uid,
            status: info.ssi_status,
            value: info.ssi_int,
            pointer: info.ssi_ptr,
            user_time: info.ssi_utime,
            system_time: info.ssi_stime,
            fd: info.ssi_fd,
            band: info.ssi_band,
            timer_id: info.ssi_tid,
            overrun: info.ssi_overrun,
        }
    }
}
