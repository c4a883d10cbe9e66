//! What the kernel says about a signal.

use crate::sys::signal_record::SignalRecord;
use std::fmt;

/// What the kernel says about one delivery of a signal: the fields of `siginfo_t` (sigaction(2)).
///
/// Which of them mean something depends on the signal and on its [`code`](Self::code); the others
/// are zero. A signal sent by `kill(2)` has a sender, one sent by `sigqueue(3)` has a value too,
/// and `SIGCHLD` has a status and times.
///
/// # Examples
///
/// ```
/// # use libc as c;
/// use selio::selector::Selector;
///
/// const SIGWINCH: i32 = 28;
/// let mut selector = Selector::new()?;
/// selector.register_signal(SIGWINCH, ())?;
/// # // SAFETY: the signal is blocked in this thread, to which it is sent.
/// # unsafe { c::raise(SIGWINCH) };
/// let key = selector.select(None)?[0];
/// let info = key.signal_info().expect("the key is a signal's");
/// assert_eq!(info.signo(), SIGWINCH);
/// assert_eq!(info.pid(), std::process::id());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct SignalInfo(SignalRecord);

impl SignalInfo {
    #[inline]
    pub(crate) fn new(record: SignalRecord) -> Self {
        Self(record)
    }

    /// Returns the number of the signal.
    ///
    /// # Examples
    ///
    /// See [`SignalInfo`].
    #[must_use]
    #[inline]
    pub fn signo(&self) -> i32 {
        self.0.signo
    }

    /// Returns `si_code`: where the signal came from, for example `SI_USER` (0) for `kill(2)`,
    /// `SI_QUEUE` (-1) for `sigqueue(3)`, `SI_TKILL` (-6) for `pthread_kill(3)`, and above zero
    /// what the kernel itself sent.
    ///
    /// # Examples
    ///
    /// See [`SignalInfo`].
    #[must_use]
    #[inline]
    pub fn code(&self) -> i32 {
        self.0.code
    }

    /// Returns the process id of the sender, or for `SIGCHLD` of the child; zero from the kernel or
    /// an outer pid namespace.
    ///
    /// # Examples
    ///
    /// See [`SignalInfo`].
    #[must_use]
    #[inline]
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// Returns the real user id of the sender, or for `SIGCHLD` of the child.
    ///
    /// # Examples
    ///
    /// See [`SignalInfo`].
    #[must_use]
    #[inline]
    pub fn uid(&self) -> u32 {
        self.0.uid
    }

    /// Returns, for `SIGCHLD`, the child's exit code or the signal that ended or stopped it; `code`
    /// tells which.
    ///
    /// # Examples
    ///
    /// See [`SignalInfo`].
    #[must_use]
    #[inline]
    pub fn status(&self) -> i32 {
        self.0.status
    }

    /// Returns the number sent along by `sigqueue(3)` or a POSIX timer (`sival_int`).
    ///
    /// # Examples
    ///
    /// See [`SignalInfo`].
    #[must_use]
    #[inline]
    pub fn value(&self) -> i32 {
        self.0.value
    }

    /// Returns the pointer sent along by `sigqueue(3)` or a POSIX timer (`sival_ptr`), as a number.
    ///
    /// # Examples
    ///
    /// See [`SignalInfo`].
    #[must_use]
    #[inline]
    pub fn pointer(&self) -> u64 {
        self.0.pointer
    }

    /// Returns, for `SIGCHLD`, the CPU time the child spent in user space, in clock ticks
    /// (`sysconf(_SC_CLK_TCK)`).
    ///
    /// # Examples
    ///
    /// See [`SignalInfo`].
    #[must_use]
    #[inline]
    pub fn user_time(&self) -> u64 {
        self.0.user_time
    }

    /// Returns, for `SIGCHLD`, the CPU time the kernel spent for the child, in clock ticks
    /// (`sysconf(_SC_CLK_TCK)`).
    ///
    /// # Examples
    ///
    /// See [`SignalInfo`].
    #[must_use]
    #[inline]
    pub fn system_time(&self) -> u64 {
        self.0.system_time
    }

    /// Returns, for `SIGIO` under `F_SETSIG` (fcntl(2)), the descriptor that is ready.
    ///
    /// # Examples
    ///
    /// See [`SignalInfo`].
    #[must_use]
    #[inline]
    pub fn fd(&self) -> i32 {
        self.0.fd
    }

    /// Returns, for `SIGIO` under `F_SETSIG`, what the descriptor is ready for, in the bits of
    /// poll(2).
    ///
    /// # Examples
    ///
    /// See [`SignalInfo`].
    #[must_use]
    #[inline]
    pub fn band(&self) -> u32 {
        self.0.band
    }

    /// Returns, for a POSIX timer, its kernel id.
    ///
    /// # Examples
    ///
    /// See [`SignalInfo`].
    #[must_use]
    #[inline]
    pub fn timer_id(&self) -> u32 {
        self.0.timer_id
    }

    /// Returns, for a POSIX timer, how many expirations were merged into this signal beside the one
    /// that sent it.
    ///
    /// # Examples
    ///
    /// See [`SignalInfo`].
    #[must_use]
    #[inline]
    pub fn overrun(&self) -> u32 {
        self.0.overrun
    }
}

impl fmt::Debug for SignalInfo {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignalInfo")
            .field("signo", &self.signo())
            .field("code", &self.code())
            .field("pid", &self.pid())
            .field("uid", &self.uid())
            .field("status", &self.status())
            .field("value", &self.value())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Several of these are zero, or the same, for whatever a test can send.
    #[test]
    fn each_field_is_its_own() {
        let info = SignalInfo::new(SignalRecord {
            pointer: 10,
            user_time: 11,
            system_time: 12,
            signo: 13,
            code: 14,
            pid: 15,
            uid: 16,
            status: 17,
            value: 18,
            fd: 19,
            band: 20,
            timer_id: 21,
            overrun: 22,
        });
        assert_eq!((info.pointer(), info.user_time(), info.system_time()), (10, 11, 12));
        assert_eq!((info.signo(), info.code(), info.pid(), info.uid()), (13, 14, 15, 16));
        assert_eq!((info.status(), info.value(), info.fd(), info.band()), (17, 18, 19, 20));
        assert_eq!((info.timer_id(), info.overrun()), (21, 22));
    }
}
