//! What the process does at a signal (sigaction(2)), and our handler.
//!
//! A signal that some thread does not block runs a handler there. Ours writes what the kernel tells
//! of the signal to the process's pipe, and at SIGCHLD also to an eventfd that every selector
//! without pidfds watches. Then it calls the handler that it found, as if nothing had come between.
//! It is installed while somebody wants the signal, and the disposition that was found is put back
//! by the last who does, unless somebody has installed a handler on top: then ours stays beneath it
//! and only chains.
//!
//! A forked child inherits the handler, and is to behave as if it had not: the first signal there
//! puts the found disposition back and is raised once more. So it is if the handler on top takes
//! itself away, and puts ours back, when nobody wants the signal any more.

use super::event_fd::EventFd;
use super::fork::{self, PerProcess};
use super::signal_pipe::{self, SignalPipe};
use super::signal_record::SignalRecord;
use super::{MOST_SIGNALS, cvt};
use libc::{c_int, c_void, siginfo_t};
use std::convert::Infallible;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The signal that the kernel sends when a child ends.
pub(crate) const CHILD_SIGNAL: c_int = libc::SIGCHLD;

type Handler = extern "C" fn(c_int);
type InfoHandler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

/// What the handler reads about one signal. It may interrupt anything, so these are atomics, and
/// locks are out of the question.
struct Slot {
    /// The process that has the handler installed for itself. Others have inherited it.
    process: AtomicUsize,
    /// Its number, which tells a child of `vfork(2)`, whose memory is its parent's.
    pid: AtomicI32,
    /// Whether somebody reads the pipe for this signal.
    piped: AtomicBool,
    /// Whether anybody wants this signal, in whatever way.
    wanted: AtomicBool,
    /// Whether the handler may be called: it is on top, or beneath one that chains. Changed under
    /// the lock; an atomic because a forked child has to know it of its parent.
    installed: AtomicBool,
    /// What was found at the last installation. Never freed.
    found: AtomicPtr<Disposition>,
}

static SLOTS: [Slot; MOST_SIGNALS] = [const { Slot::new() }; MOST_SIGNALS];

/// What tells the selectors that children may have ended: watched edge-triggered and never read, so
/// that each write is an edge for each of them.
static NOTICE: PerProcess<EventFd> = PerProcess::new();

static WANTED: PerProcess<Mutex<Wanted>> = PerProcess::new();

/// Who wants which signal in this process.
struct Wanted {
    counts: [Counts; MOST_SIGNALS],
    /// Every disposition that was ever found, once. A handler may be using any of them.
    known: Vec<&'static Disposition>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    pipe: usize,
    notice: usize,
}

/// How a signal is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Pipe,
    Notice,
}

/// Keeps the handler of one signal installed, so that it writes to the pipe.
#[derive(Debug)]
pub(crate) struct Caught {
    signal: usize,
    way: Way,
    process: usize,
}

impl Caught {
    /// Catches a valid signal: from now on it is written to [`SignalPipe`].
    #[inline]
    pub(crate) fn new(signal: c_int) -> io::Result<Self> {
        SignalPipe::get()?;
        Self::acquire(signal, Way::Pipe)
    }

    #[inline]
    fn acquire(signal: c_int, way: Way) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let number = usize::try_from(signal).ok().filter(|&number| number < MOST_SIGNALS);
        let number = number.ok_or_else(invalid)?;
        // Dropped after the lock, if the installation fails.
        let caught = Self { signal: number, way, process: fork::process_id() };
        let mut wanted = Wanted::lock();
        *wanted.count(number, way) += 1;
        // Before the handler is there: it shall miss nothing.
        wanted.tell_handler(number);
        wanted.install(number)?;
        Ok(caught)
    }

    #[inline]
    pub(crate) fn signal(&self) -> c_int {
        self.signal as c_int
    }
}

impl Drop for Caught {
    #[inline]
    fn drop(&mut self) {
        // A forked child's copy is not counted there.
        if self.process != fork::process_id() {
            return;
        }
        let mut wanted = Wanted::lock();
        *wanted.count(self.signal, self.way) -= 1;
        wanted.uninstall_if_unwanted(self.signal);
        wanted.tell_handler(self.signal);
    }
}

/// Keeps SIGCHLD caught for who has to see children end without pidfds.
#[derive(Debug)]
pub(crate) struct ChildNotice {
    _caught: Caught,
    event: &'static EventFd,
}

impl ChildNotice {
    #[inline]
    pub(crate) fn acquire() -> io::Result<Self> {
        let event = NOTICE.get_or_make(EventFd::new)?;
        Ok(Self { _caught: Caught::acquire(CHILD_SIGNAL, Way::Notice)?, event })
    }
}

impl AsFd for ChildNotice {
    /// The eventfd, to be watched edge-triggered and never read.
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// Whether a signal does nothing to the process, or did nothing before we caught it.
#[inline]
pub(crate) fn is_ignored(signal: c_int) -> bool {
    let slot = usize::try_from(signal).ok().and_then(|signal| SLOTS.get(signal));
    Disposition::get(signal).is_ok_and(|current| match slot.and_then(Slot::found) {
        Some(found) if current.is_ours() => found.is_ignored(),
        _ => current.is_ignored(),
    })
}

/// Whether a signal is at its default action.
#[inline]
pub(super) fn is_default(signal: c_int) -> bool {
    Disposition::get(signal).is_ok_and(|current| !current.has_handler() && !current.is_ignored())
}

/// Tells every selector in need that children may have ended. Whoever reads SIGCHLD from a signalfd
/// calls this: what one has read the others will not see.
#[inline]
pub(crate) fn forward_child_notice() {
    if let Some(notice) = NOTICE.get() {
        // An eventfd of our own takes a write; if it was closed through its number there is nobody
        // left to tell.
        _ = notice.signal();
    }
}

/// Passes on a signal that was read from a signalfd by somebody who only wanted to know that it
/// came, to those who want to read it.
#[inline]
pub(crate) fn forward(record: &SignalRecord) {
    let slot = usize::try_from(record.signo).ok().and_then(|signal| SLOTS.get(signal));
    if slot.is_some_and(|slot| slot.is_ours() && slot.piped.load(Ordering::Acquire)) {
        signal_pipe::send(record);
    }
}

impl Wanted {
    #[inline]
    fn lock() -> MutexGuard<'static, Self> {
        let nobody = || Self { counts: [Counts::default(); MOST_SIGNALS], known: Vec::new() };
        let Ok(wanted) = WANTED.get_or_make(|| Ok::<_, Infallible>(Mutex::new(nobody())));
        wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn count(&mut self, signal: usize, way: Way) -> &mut usize {
        match way {
            Way::Pipe => &mut self.counts[signal].pipe,
            Way::Notice => &mut self.counts[signal].notice,
        }
    }

    #[inline]
    fn tell_handler(&self, signal: usize) {
        let Counts { pipe, notice } = self.counts[signal];
        SLOTS[signal].piped.store(pipe > 0, Ordering::Release);
        SLOTS[signal].wanted.store(pipe + notice > 0, Ordering::SeqCst);
    }

    /// Installs the handler, unless it is in place already or beneath another that is taken to
    /// chain to it: on top of that one the two would call each other for ever.
    #[inline]
    fn install(&mut self, signal: usize) -> io::Result<()> {
        let (slot, number) = (&SLOTS[signal], signal as c_int);
        // Before the look: in a forked child the handler that was inherited gives way until then.
        slot.pid.store(std::process::id() as c_int, Ordering::Relaxed);
        slot.process.store(fork::process_id(), Ordering::Release);
        let current = Disposition::get(number)?;
        let in_place = current.is_ours()
            || (slot.installed.load(Ordering::Relaxed) && slot.is_beneath(&current));
        if !in_place {
            slot.found.store(ptr::from_ref(self.known(current)).cast_mut(), Ordering::Release);
            current.with_our_handler().set(number)?;
            slot.installed.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Puts back what was found if nobody wants the signal any more and ours is still on top.
    /// Silent: there is nothing to be done about a failure.
    #[inline]
    fn uninstall_if_unwanted(&mut self, signal: usize) {
        let Counts { pipe: 0, notice: 0 } = self.counts[signal] else { return };
        let (slot, number) = (&SLOTS[signal], signal as c_int);
        let ours_on_top = Disposition::get(number).is_ok_and(|current| current.is_ours());
        if let (true, Some(found)) = (ours_on_top, slot.found()) {
            // What was found stays in the slot: a handler may be running in another thread.
            let put_back = found.set(number);
            slot.installed.store(put_back.is_err(), Ordering::Relaxed);
        }
    }

    #[inline]
    fn known(&mut self, found: Disposition) -> &'static Disposition {
        if let Some(known) = self.known.iter().find(|known| known.equals(&found)) {
            return known;
        }
        let known: &'static Disposition = Box::leak(Box::new(found));
        self.known.push(known);
        known
    }
}

impl Slot {
    #[inline]
    const fn new() -> Self {
        Self {
            process: AtomicUsize::new(0),
            pid: AtomicI32::new(0),
            piped: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
            installed: AtomicBool::new(false),
            found: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Whether this process has installed the handler for itself.
    #[inline]
    fn is_ours(&self) -> bool {
        self.process.load(Ordering::Acquire) == fork::process_id()
            && self.pid.load(Ordering::Relaxed) == std::process::id() as c_int
    }

    /// Whether anybody in this process wants the signal.
    #[inline]
    fn is_wanted(&self) -> bool {
        self.is_ours() && self.wanted.load(Ordering::SeqCst)
    }

    /// Whether ours, once installed, is beneath this. What we have found ourselves was there first:
    /// in a forked child, for instance, that has given it back.
    #[inline]
    fn is_beneath(&self, current: &Disposition) -> bool {
        current.has_handler() && !self.found().is_some_and(|found| found.equals(current))
    }

    #[inline]
    fn found(&self) -> Option<&'static Disposition> {
        // SAFETY: the pointer is null, or comes from a leaked box, which is never changed nor
        // freed.
        unsafe { self.found.load(Ordering::Acquire).as_ref() }
    }
}

/// What happens to the process at a signal (sigaction(2)).
#[derive(Clone, Copy)]
struct Disposition(libc::sigaction);

impl Disposition {
    #[inline]
    fn get(signal: c_int) -> io::Result<Self> {
        // SAFETY: `sigaction` is made of integers and an optional function, for which zeros are a
        // value.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        // SAFETY: `action` is a writable `sigaction` that outlives the call, which changes nothing.
        cvt(unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) })?;
        Ok(Self(action))
    }

    #[inline]
    fn set(&self, signal: c_int) -> io::Result<()> {
        let action = ptr::from_ref(&self.0);
        // SAFETY: `action` outlives the call. Its handler is `on_signal`, or one that the kernel
        // has told us was installed.
        cvt(unsafe { libc::sigaction(signal, action, ptr::null_mut()) })?;
        Ok(())
    }

    #[inline]
    fn has_handler(&self) -> bool {
        self.0.sa_sigaction != libc::SIG_DFL && self.0.sa_sigaction != libc::SIG_IGN
    }

    #[inline]
    fn is_ignored(&self) -> bool {
        self.0.sa_sigaction == libc::SIG_IGN
    }

    #[inline]
    fn is_ours(&self) -> bool {
        self.0.sa_sigaction == on_signal as InfoHandler as usize
    }

    #[inline]
    fn equals(&self, other: &Self) -> bool {
        let masks_differ = |signal| {
            // SAFETY: the mask is one that the kernel gave.
            let ours = unsafe { libc::sigismember(&raw const self.0.sa_mask, signal) };
            // SAFETY: as above.
            ours != unsafe { libc::sigismember(&raw const other.0.sa_mask, signal) }
        };
        self.0.sa_sigaction == other.0.sa_sigaction
            && self.0.sa_flags == other.0.sa_flags
            && !(1..=libc::SIGRTMAX()).any(masks_differ)
    }

    /// Returns our handler with what was found about stopped children and about zombies, and with
    /// the mask that the found handler wants. Where none was found, ours is interrupted by no
    /// other: the stack for signals may have room for two or three at a time (sigaltstack(2)).
    /// Ignoring SIGCHLD means to leave no zombies, which a handler has to say by a flag.
    #[inline]
    fn with_our_handler(mut self) -> Self {
        if !self.has_handler() {
            // SAFETY: the set is a part of `self`, and the call only writes to it.
            unsafe { libc::sigfillset(&raw mut self.0.sa_mask) };
        }
        let kept = self.0.sa_flags & (libc::SA_NOCLDSTOP | libc::SA_NOCLDWAIT);
        let no_zombies = if self.is_ignored() { libc::SA_NOCLDWAIT } else { 0 };
        self.0.sa_flags =
            libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK | kept | no_zombies;
        self.0.sa_sigaction = on_signal as InfoHandler as usize;
        self
    }

    /// Calls the handler, if there is one, with the arguments that the kernel has given to ours.
    #[inline]
    fn call(&self, signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
        if !self.has_handler() {
            return;
        }
        let address = ptr::with_exposed_provenance::<c_void>(self.0.sa_sigaction);
        if self.0.sa_flags & libc::SA_SIGINFO != 0 {
            // SAFETY: the kernel had this address as a handler with `SA_SIGINFO`, so it is a
            // function of this type.
            let handler = unsafe { mem::transmute::<*const c_void, InfoHandler>(address) };
            handler(signal, info, context);
        } else {
            // SAFETY: the kernel had this address as a handler without `SA_SIGINFO`, so it is a
            // function of this type.
            let handler = unsafe { mem::transmute::<*const c_void, Handler>(address) };
            handler(signal);
        }
    }
}

/// The handler: system calls and atomics only, and `errno` as it was (signal-safety(7)).
extern "C" fn on_signal(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: this takes nothing and returns the address of this thread's `errno`.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the address is this thread's `errno`, valid as long as the thread runs.
    let saved = unsafe { *errno };
    if let Some(slot) = usize::try_from(signal).ok().and_then(|signal| SLOTS.get(signal)) {
        let ours = slot.is_ours();
        if ours {
            tell(slot, signal, info);
        }
        let wanted = ours && slot.wanted.load(Ordering::SeqCst);
        if wanted || !give_back(slot, signal, info) {
            if let Some(found) = slot.found() {
                found.call(signal, info, context);
            }
        }
    }
    // SAFETY: as above.
    unsafe { *errno = saved };
}

#[inline]
fn tell(slot: &Slot, signal: c_int, info: *const siginfo_t) {
    if signal == CHILD_SIGNAL {
        forward_child_notice();
    }
    if slot.piped.load(Ordering::Acquire) {
        // SAFETY: the kernel gives a handler with `SA_SIGINFO` a valid `siginfo_t` that lives as
        // long as the call; a handler on top of ours may have none to pass on.
        let record = match unsafe { info.as_ref() } {
            Some(info) => SignalRecord::from_siginfo(info),
            None => SignalRecord::of(signal),
        };
        signal_pipe::send(&record);
    }
}

/// In a child that has inherited the handler, or where nobody wants the signal: puts back what was
/// found and sends the signal to this thread again, with all that came with it. It is blocked here
/// until the handler returns.
///
/// False if another handler is on top of ours: that one has decided what the signal does.
#[inline]
fn give_back(slot: &Slot, signal: c_int, info: *mut siginfo_t) -> bool {
    let Some(found) = slot.found() else { return false };
    let ours_on_top = Disposition::get(signal).is_ok_and(|current| current.is_ours());
    if !ours_on_top || found.set(signal).is_err() {
        return false;
    }
    if slot.is_wanted() {
        // Somebody wants it since a moment ago, and may have seen ours in its place.
        _ = found.with_our_handler().set(signal);
    }
    // SAFETY: `getpid` takes nothing and cannot fail.
    let process = unsafe { libc::getpid() };
    // SAFETY: `gettid` takes nothing and cannot fail.
    let thread = unsafe { libc::syscall(libc::SYS_gettid) };
    let call = libc::SYS_rt_tgsigqueueinfo;
    // SAFETY: `info` is what the kernel has given to the handler, or null, which is an error. To
    // itself a thread may send anything (rt_sigqueueinfo(2)).
    let sent = unsafe { libc::syscall(call, process, thread, signal, info) };
    if sent < 0 {
        // SAFETY: `tgkill` takes no pointer.
        unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) };
    }
    true
}
