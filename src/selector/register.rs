//! Registering and unregistering, kind by kind.

use super::handle::Handle;
use super::kind::{Kind, Object};
use super::process::{Children, Process};
use super::signal::Signal;
use super::timer::Timer;
use super::token::Token;
use super::{Events, SelectEvent, Selector, not_registered, refused};
use crate::sys::epoll::mask;
use crate::sys::event_fd::EventFd;
use crate::sys::pid_fd::{Pid, PidFd};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

impl<T> Selector<T> {
    /// Registers a descriptor of the user's, to be watched for `READ`, `WRITE`, `PRIORITY`, some of
    /// them, or none.
    ///
    /// With none of the three the handle is kept and not watched, until
    /// [`update_handle`](Self::update_handle). With `READ` the hang-up of a peer is reported as
    /// well. [`ERROR`](Events::ERROR) and [`HANGUP`](Events::HANGUP) come unasked, together with
    /// the directions that were asked for: a read or write that fails at once need not be waited
    /// for.
    ///
    /// A handle is reported as long as it is ready. With [`EDGE`](Events::EDGE) it is reported once
    /// for each change, so it has to be read until it would block; with
    /// [`ONESHOT`](Events::ONESHOT) it is reported once, until it is updated;
    /// [`EXCLUSIVE`](Events::EXCLUSIVE) goes with `READ`, `WRITE` and `EDGE` alone. The descriptor
    /// should be non-blocking, because readiness is a hint: somebody else may read first.
    ///
    /// # Errors
    ///
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if the number is registered,
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a set that no handle can have,
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied) for regular files and directories,
    /// which are always ready; else those of epoll_ctl(2). The selector is as it was then.
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::selector::{Events, Selector};
    /// use std::os::fd::AsRawFd;
    /// use std::os::unix::net::UnixStream;
    ///
    /// let mut selector = Selector::new()?;
    /// let (socket, _peer) = UnixStream::pair()?;
    /// selector.register_handle(&socket, Events::WRITE, "mine")?;
    /// assert_eq!(selector.select(None)?[0].events(), Events::WRITE);
    /// assert_eq!(selector.unregister(socket.as_raw_fd())?, "mine");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn register_handle(&mut self, fd: impl AsFd, events: Events, data: T) -> io::Result<()> {
        self.register_number(fd.as_fd().as_raw_fd(), events, data)
    }

    /// As [`register_handle`](Self::register_handle), for who knows the number of a descriptor that
    /// somebody else keeps open.
    pub(crate) fn register_number(&mut self, fd: RawFd, events: Events, data: T) -> io::Result<()> {
        let handle = Handle::new(fd, events)?;
        self.refuse_registered(fd)?;
        let in_set = !handle.is_suspended();
        if in_set {
            self.watch(fd, handle.epoll_mask())?;
        }
        self.table.insert(fd, in_set, Kind::Handle(handle), data);
        Ok(())
    }

    /// Changes what a handle is watched for; the set is as for
    /// [`register_handle`](Self::register_handle).
    ///
    /// A `ONESHOT` handle that has fired is armed by this, and an `EDGE` one that is ready is
    /// reported once more, even if the set is the same. The kernel changes nothing about an
    /// `EXCLUSIVE` handle, nor makes one: suspend it first, with the empty set.
    ///
    /// # Errors
    ///
    /// [`NotFound`](io::ErrorKind::NotFound) if the number is not registered,
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for what is no handle and for a set that no
    /// handle can have; else those of epoll_ctl(2), for example if the descriptor was closed. The
    /// handle is as it was then.
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::selector::{Events, Selector};
    /// use std::os::fd::AsRawFd;
    /// use std::os::unix::net::UnixStream;
    /// use std::time::Duration;
    ///
    /// let mut selector = Selector::new()?;
    /// let (socket, _peer) = UnixStream::pair()?;
    /// selector.register_handle(&socket, Events::WRITE, ())?;
    /// selector.update_handle(socket.as_raw_fd(), Events::READ)?;
    /// assert!(selector.select(Some(Duration::ZERO))?.is_empty());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn update_handle(&mut self, fd: RawFd, events: Events) -> io::Result<()> {
        let new = Handle::new(fd, events)?;
        let (token, entry) = self.table.by_fd_mut(fd).ok_or_else(|| not_registered(fd))?;
        let Kind::Handle(old) = entry.kind else {
            return Err(refused(
                "only handles can be updated: this is a timer, signal, process or event",
            ));
        };
        let was_in_set = entry.in_set;
        self.change(token, fd, was_in_set.then_some(old), new)?;
        if let Some((_, entry)) = self.table.by_fd_mut(fd) {
            entry.in_set = !new.is_suspended();
            entry.kind = Kind::Handle(new);
        }
        Ok(())
    }

    /// Tells epoll about a handle that becomes another; `old` if it is in the set.
    fn change(&self, token: Token, fd: RawFd, old: Option<Handle>, new: Handle) -> io::Result<()> {
        let epoll = &self.poller.epoll;
        match old {
            None if new.is_suspended() => Ok(()),
            None => self.watch_as(token, fd, new.epoll_mask()),
            Some(_) if new.is_suspended() => epoll.delete(fd),
            Some(old) if old.is_exclusive() || new.is_exclusive() => Err(refused(
                "EXCLUSIVE cannot be changed: suspend the handle first, then update it",
            )),
            Some(_) => epoll.modify(fd, new.epoll_mask(), token.to_data()),
        }
    }

    /// Registers a timer that expires after a duration, once or again and again, and returns its
    /// number.
    ///
    /// The clock is monotonic and stands still while the machine is suspended. A one-shot of zero
    /// expires at once, in the next `select`; a duration that the kernel cannot express (292 years)
    /// never expires. Expirations that nobody looked at are counted in the key
    /// ([`expirations`](super::ReadyKey::expirations)). A one-shot key carries
    /// [`FINISHED`](Events::FINISHED): the timer stays registered and is counted no more.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a repeating timer of zero, which would
    /// always be ready; else those of timerfd_create(2) and epoll_ctl(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::selector::{Events, Selector};
    /// use std::time::Duration;
    ///
    /// let mut selector = Selector::new()?;
    /// let timer = selector.register_timer(Duration::from_millis(2), false, "tick")?;
    /// let keys = selector.select(None)?;
    /// assert_eq!((keys[0].fd(), keys[0].events()), (timer, Events::TIMER));
    /// assert!(keys[0].expirations() >= 1);
    /// selector.unregister(timer)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn register_timer(&mut self, after: Duration, oneshot: bool, data: T) -> io::Result<RawFd> {
        let timer = Timer::start(after, oneshot)?;
        self.register_object(Box::new(timer), data)
    }

    /// Registers a signal, and returns the number of its signalfd(2).
    ///
    /// The signal is blocked in the calling thread, and in no other, until it is unregistered;
    /// several registrations in one thread are counted. The last that is unregistered *on that
    /// thread* takes what is pending and then unblocks the signal, if it was not blocked before.
    /// Unregistered on another thread, the signal stays blocked where it was, for good: a mask can
    /// only be changed by its own thread.
    ///
    /// A program that has several threads, starts children, or runs a
    /// [`block_on`](crate::block_on) is better off with [`Signals`](crate::signal::Signals), which
    /// blocks nothing. A signal for the process arrives here only if no other thread leaves it
    /// unblocked: the program registers it before it starts them
    /// ([`unblock`](crate::unblock()) starts some), for they inherit the mask. So do children,
    /// which `std::process::Command` starts with the signal blocked.
    ///
    /// Each delivery reaches one reader: if another selector or a `Signals` has the same signal,
    /// one of them gets it, and so it is if a selector takes `SIGCHLD` to watch children without
    /// pidfds. The kernel merges ordinary signals that come while one is pending, and queues
    /// real-time ones, which come as one key each
    /// ([`signal_info`](super::ReadyKey::signal_info)).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for numbers that are no signals, for `SIGKILL`
    /// and `SIGSTOP`, for the faults `SIGSEGV`, `SIGBUS`, `SIGFPE` and `SIGILL`, and for the C
    /// library's own; [`AlreadyExists`](io::ErrorKind::AlreadyExists) if this selector has the
    /// signal; else those of signalfd(2) and epoll_ctl(2). The mask is as it was then.
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::selector::{Events, Selector};
    ///
    /// const SIGWINCH: i32 = 28;
    /// let mut selector = Selector::new()?;
    /// let resized = selector.register_signal(SIGWINCH, "resized")?;
    /// assert_eq!(selector.data(resized), Some(&"resized"));
    /// selector.unregister(resized)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn register_signal(&mut self, signal: i32, data: T) -> io::Result<RawFd> {
        let mut source = Signal::open(signal)?;
        if self.has_signal(signal) {
            let text = format!("signal {signal} is registered with this selector");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        let fd = source.fd();
        self.refuse_registered(fd)?;
        self.watch(fd, mask::IN)?;
        source.block();
        self.signals |= 1 << signal;
        self.table.insert(fd, true, Kind::Object(Box::new(source)), data);
        Ok(fd)
    }

    /// Tells whether a valid signal is registered here.
    pub(super) fn has_signal(&self, signal: i32) -> bool {
        self.signals & (1 << signal) != 0
    }

    /// Registers a process, to be told once when it has ended, and returns the number of a
    /// descriptor that stands for it.
    ///
    /// Any process will do, not only a child, and one that has ended already and was not reaped is
    /// reported at once. The key carries [`FINISHED`](Events::FINISHED). The process is not reaped
    /// and its status not taken: a parent still has to wait for it, for example by `Child::wait`,
    /// which does not block then.
    ///
    /// From Linux 5.3 on this is a pidfd. Where the system gives none, SIGCHLD tells when to look
    /// at each child: its disposition is borrowed while such children are registered, a handler
    /// found there is called, and no mask is changed. A program that replaces the disposition
    /// meanwhile, or reads the signal in another way, can keep the exits from being seen. And where
    /// every thread blocks SIGCHLD, the selector takes what is pending of it: a signalfd of the
    /// program's own does not see it then.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for zero and numbers above `i32::MAX`, ESRCH
    /// (or EINVAL or ENOENT, for a thread) if there is no such process,
    /// [`Unsupported`](io::ErrorKind::Unsupported) where there is no pidfd and the process is no
    /// child of ours; else those of pidfd_open(2) and epoll_ctl(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::selector::{Events, Selector};
    /// use std::process::Command;
    ///
    /// let mut selector = Selector::new()?;
    /// let mut child = Command::new("true").spawn()?;
    /// selector.register_process(child.id(), "true")?;
    /// let keys = selector.select(None)?;
    /// assert!(keys[0].events().contains(Events::PROCESS | Events::FINISHED));
    /// assert!(child.wait()?.success());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn register_process(&mut self, pid: u32, data: T) -> io::Result<RawFd> {
        let pid = Pid::new(pid)?;
        let process = match PidFd::open(pid)? {
            Some(fd) => Process::PidFd(fd),
            None => Process::StandIn(Arc::new(EventFd::new()?)),
        };
        let fd = process.fd();
        self.refuse_registered(fd)?;
        self.watch(fd, mask::IN)?;
        if let Process::StandIn(event) = &process {
            // Should this fail, dropping the stand-in takes it out of epoll: nobody else has its
            // descriptor.
            let children = self.children.get_or_insert_with(|| Box::new(Children::default()));
            children.expect(&self.poller.epoll, pid, event)?;
        }
        self.table.insert(fd, true, Kind::Object(Box::new(process)), data);
        Ok(fd)
    }

    /// Registers an event that the program triggers itself; its number is that of the event's
    /// descriptor.
    ///
    /// The selector keeps the event alive. Of several selectors that have the same event, one
    /// reports each trigger and the rest stay silent.
    ///
    /// # Errors
    ///
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if this selector has the event; else those
    /// of epoll_ctl(2).
    ///
    /// # Examples
    ///
    /// See [`SelectEvent`].
    pub fn register_event(&mut self, event: &SelectEvent, data: T) -> io::Result<()> {
        self.register_object(Box::new(event.clone()), data).map(drop)
    }

    fn register_object(&mut self, object: Box<dyn Object>, data: T) -> io::Result<RawFd> {
        let fd = object.fd();
        self.refuse_registered(fd)?;
        self.watch(fd, mask::IN)?;
        self.table.insert(fd, true, Kind::Object(object), data);
        Ok(fd)
    }

    /// Unregisters a descriptor of any kind, and gives its data back.
    ///
    /// What the selector has made for it is closed; handles and events stay open. It works for a
    /// handle that was closed before, too. Keys of the registration are stale from here on.
    ///
    /// # Errors
    ///
    /// [`NotFound`](io::ErrorKind::NotFound) if the number is not registered.
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::selector::Selector;
    /// use std::time::Duration;
    ///
    /// let mut selector = Selector::new()?;
    /// let timer = selector.register_timer(Duration::from_secs(60), true, "late")?;
    /// assert_eq!(selector.unregister(timer)?, "late");
    /// assert!(selector.unregister(timer).is_err());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn unregister(&mut self, fd: RawFd) -> io::Result<T> {
        let entry = self.table.remove(fd).ok_or_else(|| not_registered(fd))?;
        if entry.in_set {
            self.unwatch(fd, entry.kind.is_level_triggered());
        }
        if let Kind::Object(object) = &entry.kind {
            if let Some(signal) = object.signal() {
                self.signals &= !(1 << signal);
            }
            if let (Some(children), Some(event)) = (&mut self.children, object.stand_in()) {
                children.forget(&self.poller.epoll, event);
            }
        }
        Ok(entry.data)
    }

    /// Unregisters an event, and gives its data back.
    ///
    /// # Errors
    ///
    /// [`NotFound`](io::ErrorKind::NotFound) if it is not registered.
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::selector::{SelectEvent, Selector};
    ///
    /// let mut selector = Selector::new()?;
    /// let event = SelectEvent::new()?;
    /// selector.register_event(&event, "mine")?;
    /// assert_eq!(selector.unregister_event(&event)?, "mine");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn unregister_event(&mut self, event: &SelectEvent) -> io::Result<T> {
        self.unregister(event.as_raw_fd())
    }

    /// Refuses a number that is in the table, before the kernel is asked.
    ///
    /// A number that the kernel has just given the selector is in the table only if the user has
    /// closed a handle of that number without unregistering it.
    fn refuse_registered(&self, fd: RawFd) -> io::Result<()> {
        if self.contains(fd) {
            let text = format!("descriptor {fd} is registered with this selector");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        Ok(())
    }
}
