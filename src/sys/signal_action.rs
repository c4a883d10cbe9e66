//! A process-wide handler for SIGCHLD, for who has to see children end without pidfds.
//!
//! The handler writes to one eventfd that every selector in need watches, edge-triggered, and that
//! nobody reads: each write is an edge for each of them, so the handler keeps no list. The
//! descriptor is made once and never closed, because a handler may be running in any thread at any
//! time. After the write the handler that was found is called, as if nothing had come between.

use super::event_fd::EventFd;
use super::{cvt, fork};
use libc::{c_int, c_void, siginfo_t};
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The signal that the kernel sends when a child ends.
pub(crate) const CHILD_SIGNAL: c_int = libc::SIGCHLD;

type Handler = extern "C" fn(c_int);
type InfoHandler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

// What the handler reads. It may interrupt anything, so these are atomics, and locks are out of the
// question.

/// The eventfd, once there is one; it is never freed.
static NOTICE: AtomicPtr<EventFd> = AtomicPtr::new(ptr::null_mut());
/// The process that the eventfd belongs to. A forked child inherits the handler, and must not wake
/// its parent by it.
static NOTICE_PROCESS: AtomicUsize = AtomicUsize::new(0);
/// The handler that was found, if it takes the number alone; zero if there was none.
static FOUND: AtomicUsize = AtomicUsize::new(0);
/// The handler that was found, if it was set with `SA_SIGINFO`; zero if there was none.
static FOUND_WITH_INFO: AtomicUsize = AtomicUsize::new(0);

static STATE: Mutex<State> = Mutex::new(State { process: 0, notice: None, guards: 0, found: None });

/// What the guards share.
struct State {
    /// The process that the other fields speak of.
    process: usize,
    notice: Option<&'static EventFd>,
    guards: usize,
    /// What was found when the handler was installed; present as long as the handler may be
    /// called.
    found: Option<Disposition>,
}

/// Keeps the handler installed. When the last guard goes, the disposition that was found is put
/// back, unless somebody has installed a handler on top: then ours stays beneath it and only
/// chains.
#[derive(Debug)]
pub(crate) struct ChildNotice {
    process: usize,
    event: &'static EventFd,
}

impl ChildNotice {
    pub(crate) fn acquire() -> io::Result<Self> {
        let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
        let event = state.notice_of_this_process()?;
        if state.guards == 0 {
            state.install()?;
        }
        state.guards += 1;
        Ok(Self { process: state.process, event })
    }
}

impl AsFd for ChildNotice {
    /// The eventfd, to be watched edge-triggered and never read.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl Drop for ChildNotice {
    fn drop(&mut self) {
        let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
        // A forked child's copy is not counted there.
        if state.process != self.process || self.process != fork::process_id() {
            return;
        }
        state.guards -= 1;
        if state.guards == 0 {
            state.uninstall();
        }
    }
}

/// Tells every selector in need that children may have ended. Whoever reads SIGCHLD from a signalfd
/// calls this: what one has read the others will not see.
pub(crate) fn forward_child_notice() {
    if NOTICE_PROCESS.load(Ordering::Acquire) != fork::process_id() {
        return;
    }
    // SAFETY: the pointer is null, or comes from a leaked box, which is never changed nor freed.
    if let Some(notice) = unsafe { NOTICE.load(Ordering::Acquire).as_ref() } {
        // An eventfd of our own takes a write; if it was closed through its number there is nobody
        // left to tell.
        _ = notice.signal();
    }
}

impl State {
    /// Returns the eventfd, made at the first call in this process: a forked child must not share
    /// its parent's.
    fn notice_of_this_process(&mut self) -> io::Result<&'static EventFd> {
        let process = fork::process_id();
        if let Some(notice) = self.notice.filter(|_| self.process == process) {
            return Ok(notice);
        }
        let notice: &'static EventFd = Box::leak(Box::new(EventFd::new()?));
        (self.process, self.notice, self.guards) = (process, Some(notice), 0);
        NOTICE.store(ptr::from_ref(notice).cast_mut(), Ordering::Release);
        NOTICE_PROCESS.store(process, Ordering::Release);
        Ok(notice)
    }

    /// Installs the handler, unless it is in place already or beneath another that is taken to
    /// chain to it: on top of that one the two would call each other for ever.
    fn install(&mut self) -> io::Result<()> {
        let current = Disposition::get()?;
        if current.is_ours() || (self.found.is_some() && current.has_handler()) {
            return Ok(());
        }
        let with_info = current.0.sa_flags & libc::SA_SIGINFO != 0;
        let address = if current.has_handler() { current.0.sa_sigaction } else { 0 };
        FOUND.store(if with_info { 0 } else { address }, Ordering::Release);
        FOUND_WITH_INFO.store(if with_info { address } else { 0 }, Ordering::Release);
        current.with_our_handler().set()?;
        self.found = Some(current);
        Ok(())
    }

    /// Puts back what was found, if ours is still on top. Silent: there is nothing to be done about
    /// a failure.
    fn uninstall(&mut self) {
        let ours_on_top = Disposition::get().is_ok_and(|current| current.is_ours());
        if !ours_on_top {
            return;
        }
        if let Some(found) = self.found.take() {
            _ = found.set();
        }
    }
}

/// What happens to the process at SIGCHLD (sigaction(2)).
#[derive(Clone, Copy)]
struct Disposition(libc::sigaction);

impl Disposition {
    fn get() -> io::Result<Self> {
        // SAFETY: `sigaction` is made of integers and an optional function, for which zeros are a
        // value.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        // SAFETY: `action` is a writable `sigaction` that outlives the call, which changes nothing.
        cvt(unsafe { libc::sigaction(CHILD_SIGNAL, ptr::null(), &raw mut action) })?;
        Ok(Self(action))
    }

    fn set(&self) -> io::Result<()> {
        let action = ptr::from_ref(&self.0);
        // SAFETY: `action` outlives the call. Its handler is `on_child`, or one that the kernel has
        // told us was installed.
        cvt(unsafe { libc::sigaction(CHILD_SIGNAL, action, ptr::null_mut()) })?;
        Ok(())
    }

    fn has_handler(&self) -> bool {
        self.0.sa_sigaction != libc::SIG_DFL && self.0.sa_sigaction != libc::SIG_IGN
    }

    fn is_ours(&self) -> bool {
        self.0.sa_sigaction == on_child as InfoHandler as usize
    }

    /// Returns our handler with what was found about stopped children and about zombies, and with
    /// the mask that the found handler wants. Ignoring SIGCHLD means to leave no zombies, which a
    /// handler has to say by a flag.
    fn with_our_handler(mut self) -> Self {
        let kept = self.0.sa_flags & (libc::SA_NOCLDSTOP | libc::SA_NOCLDWAIT);
        let ignored = self.0.sa_sigaction == libc::SIG_IGN;
        let no_zombies = if ignored { libc::SA_NOCLDWAIT } else { 0 };
        self.0.sa_flags =
            libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK | kept | no_zombies;
        self.0.sa_sigaction = on_child as InfoHandler as usize;
        self
    }
}

/// The handler: system calls and atomics only, and `errno` as it was (signal-safety(7)).
extern "C" fn on_child(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: this takes nothing and returns the address of this thread's `errno`.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the address is this thread's `errno`, valid as long as the thread runs.
    let saved = unsafe { *errno };
    forward_child_notice();
    call_found(signal, info, context);
    // SAFETY: as above.
    unsafe { *errno = saved };
}

/// Calls the handler that was found with the arguments that the kernel has given to ours.
fn call_found(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let plain = ptr::with_exposed_provenance::<c_void>(FOUND.load(Ordering::Acquire));
    let with_info = ptr::with_exposed_provenance::<c_void>(FOUND_WITH_INFO.load(Ordering::Acquire));
    if !plain.is_null() {
        // SAFETY: the kernel had this address as a handler without `SA_SIGINFO`, so it is a
        // function of this type.
        let handler = unsafe { mem::transmute::<*const c_void, Handler>(plain) };
        handler(signal);
    }
    if !with_info.is_null() {
        // SAFETY: the kernel had this address as a handler with `SA_SIGINFO`, so it is a function
        // of this type.
        let handler = unsafe { mem::transmute::<*const c_void, InfoHandler>(with_info) };
        handler(signal, info, context);
    }
}
