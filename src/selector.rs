//! An epoll selector: sockets, timers, signals, processes and user events, waited for in one call.
//!
//! [`Selector<T>`] stands on its own, without the executor. Whatever is registered is a descriptor
//! with a value of type `T` beside it; [`select`](Selector::select) waits and returns a
//! [`ReadyKey`] for each that is ready. Everything happens in the thread that calls: there is no
//! hidden thread and no global table.
//!
//! # Examples
//!
//! ```
//! use selio::selector::{Events, Selector};
//! use std::io::Write;
//! use std::os::unix::net::UnixStream;
//! use std::time::Duration;
//!
//! let mut selector = Selector::new()?;
//! let (mine, mut theirs) = UnixStream::pair()?;
//! selector.register_handle(&mine, Events::READ, "socket")?;
//! selector.register_timer(Duration::from_secs(5), true, "time is up")?;
//!
//! theirs.write_all(b"hello")?;
//! for key in selector.select(None)? {
//!     assert_eq!(key.events(), Events::READ);
//!     assert_eq!(selector.get(&key), Some(&"socket"));
//! }
//! # Ok::<(), std::io::Error>(())
//! ```

mod events;
mod handle;
mod kind;
mod poller;
mod process;
mod ready_key;
mod register;
mod reported;
mod select;
mod select_event;
mod signal;
mod signal_info;
mod table;
mod timer;
mod token;

pub use events::Events;
pub use poller::{Poller, RawEvents};
pub use ready_key::ReadyKey;
pub(crate) use reported::Reported;
pub use select_event::SelectEvent;
pub use signal_info::SignalInfo;

use crate::sys::epoll::Epoll;
use crate::sys::event_fd::EventFd;
use crate::sys::socket;
use kind::Kind;
use process::ChildExits;
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use table::Table;
use token::Token;

/// Numbers the selectors of this process; zero is none.
static NEXT_SELECTOR: AtomicUsize = AtomicUsize::new(1);

/// A table of registered descriptors with a value each, and the epoll set that watches them.
///
/// A handle is a descriptor of the user's, who keeps it open while it is registered. Timers,
/// signals and processes are descriptors that the selector makes, returns the number of, and closes
/// at [`unregister`](Self::unregister). The number names the registration in every call; a
/// [`ReadyKey`] names it too, and goes stale with it.
///
/// The table grows with the highest number and has no maximum. Dropping the selector closes what it
/// has made.
///
/// # Descriptors closed too early
///
/// Unregister a handle before closing it. If it was closed first, its number stays taken, even for
/// what the kernel opens under it next, until `unregister` gives the data back; but if a duplicate
/// of the descriptor is alive, in this process or a child, the kernel goes on reporting it
/// (epoll(7), question 6). The selector drops these reports. If they come at every wait it moves to
/// a new epoll set, under the number of the old one. Another epoll set that watched this selector's
/// own descriptor loses it then, and must add it anew.
///
/// # After fork
///
/// A forked child shares the epoll set with its parent. Dropping the child's copy, or unregistering
/// in it, leaves the parent's alone; any other use of it in the child is not supported.
///
/// # Examples
///
/// ```
/// use selio::selector::{Events, Selector};
///
/// let mut selector = Selector::new()?;
/// let (socket, _peer) = std::os::unix::net::UnixStream::pair()?;
/// selector.register_handle(&socket, Events::WRITE, String::from("first"))?;
///
/// let keys = selector.select(None)?;
/// if let Some(name) = selector.get_mut(&keys[0]) {
///     name.push_str(" of many");
/// }
/// assert_eq!(selector.get(&keys[0]).map(String::as_str), Some("first of many"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Selector<T> {
    poller: Poller,
    table: Table<T>,
    /// What `select` waits into; empty between two calls.
    events: RawEvents,
    /// A level-triggered descriptor was closed while it was registered, and may report from
    /// beyond.
    orphans: bool,
    /// Keeps readable the sets that the selector has moved away from, for those who wait in them.
    retired: Option<EventFd>,
    /// A stand-in was triggered by an event that makes no key: there is something to see without
    /// waiting.
    look_again: bool,
    /// One bit for each signal that is registered here.
    signals: u128,
    /// Once there was a child without a pidfd.
    children: Option<Box<dyn ChildExits>>,
}

impl<T> Selector<T> {
    /// Makes a selector that watches nothing.
    ///
    /// # Errors
    ///
    /// Those of epoll_create1(2), for example when the process has no descriptor left.
    ///
    /// # Examples
    ///
    /// ```
    /// let selector = selio::selector::Selector::<()>::new()?;
    /// assert!(selector.is_empty());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn new() -> io::Result<Self> {
        let epoll = Arc::new(Epoll::new()?);
        let selector = NEXT_SELECTOR.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            poller: Poller { epoll, selector },
            table: Table::new(selector),
            events: RawEvents::new(),
            orphans: false,
            retired: None,
            look_again: false,
            signals: 0,
            children: None,
        })
    }

    /// Returns the data of a registered descriptor.
    ///
    /// It goes by the number alone: if that has a new owner since the caller learned it, this is
    /// the new owner's data. [`get`](Self::get) does not mistake one for the other.
    ///
    /// # Examples
    ///
    /// ```
    /// # use selio::selector::{Events, Selector};
    /// # use std::os::fd::AsRawFd;
    /// let mut selector = Selector::new()?;
    /// let (socket, _peer) = std::os::unix::net::UnixStream::pair()?;
    /// selector.register_handle(&socket, Events::WRITE, "first")?;
    /// assert_eq!(selector.data(socket.as_raw_fd()), Some(&"first"));
    /// assert_eq!(selector.data(-1), None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn data(&self, fd: RawFd) -> Option<&T> {
        Some(&self.table.by_fd(fd)?.data)
    }

    /// Returns the data of a registered descriptor, to be changed. It goes by the number alone, as
    /// [`data`](Self::data) does.
    ///
    /// # Examples
    ///
    /// ```
    /// # use selio::selector::{Events, Selector};
    /// # use std::os::fd::AsRawFd;
    /// let mut selector = Selector::new()?;
    /// let (socket, _peer) = std::os::unix::net::UnixStream::pair()?;
    /// selector.register_handle(&socket, Events::WRITE, "first")?;
    /// if let Some(data) = selector.data_mut(socket.as_raw_fd()) {
    ///     *data = "second";
    /// }
    /// assert_eq!(selector.data(socket.as_raw_fd()), Some(&"second"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn data_mut(&mut self, fd: RawFd) -> Option<&mut T> {
        Some(&mut self.table.by_fd_mut(fd)?.1.data)
    }

    /// Replaces the data of a registered descriptor, and returns the old. It goes by the number
    /// alone, as [`data`](Self::data) does.
    ///
    /// # Errors
    ///
    /// The new data, given back, if the descriptor is not registered.
    ///
    /// # Examples
    ///
    /// ```
    /// # use selio::selector::{Events, Selector};
    /// # use std::os::fd::AsRawFd;
    /// let mut selector = Selector::new()?;
    /// let (socket, _peer) = std::os::unix::net::UnixStream::pair()?;
    /// selector.register_handle(&socket, Events::WRITE, "first")?;
    /// assert_eq!(selector.set_data(socket.as_raw_fd(), "second"), Ok("first"));
    /// assert_eq!(selector.set_data(-1, "third"), Err("third"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_data(&mut self, fd: RawFd, data: T) -> Result<T, T> {
        match self.data_mut(fd) {
            Some(place) => Ok(mem::replace(place, data)),
            None => Err(data),
        }
    }

    /// Returns the data that a key belongs to; `None` once it was unregistered, whoever has the
    /// number now.
    ///
    /// # Examples
    ///
    /// ```
    /// # use selio::selector::{Events, Selector};
    /// # use std::os::fd::AsRawFd;
    /// let mut selector = Selector::new()?;
    /// let (socket, _peer) = std::os::unix::net::UnixStream::pair()?;
    /// selector.register_handle(&socket, Events::WRITE, "first")?;
    /// let key = selector.select(None)?[0];
    /// assert_eq!(selector.get(&key), Some(&"first"));
    /// selector.unregister(socket.as_raw_fd())?;
    /// assert_eq!(selector.get(&key), None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    #[inline]
    pub fn get(&self, key: &ReadyKey) -> Option<&T> {
        Some(&self.table.by_token(key.token)?.data)
    }

    /// Returns the data that a key belongs to, to be changed; `None` once it was unregistered.
    ///
    /// # Examples
    ///
    /// See [`Selector`].
    #[must_use]
    #[inline]
    pub fn get_mut(&mut self, key: &ReadyKey) -> Option<&mut T> {
        Some(&mut self.table.by_token_mut(key.token)?.data)
    }

    /// Tells whether a descriptor is registered: suspended handles and finished one-shots are. Any
    /// number may be asked for.
    ///
    /// # Examples
    ///
    /// ```
    /// # use selio::selector::{Events, Selector};
    /// # use std::os::fd::AsRawFd;
    /// let mut selector = Selector::new()?;
    /// let (socket, _peer) = std::os::unix::net::UnixStream::pair()?;
    /// selector.register_handle(&socket, Events::WRITE, "first")?;
    /// assert!(selector.contains(socket.as_raw_fd()));
    /// assert!(!selector.contains(1_000_000));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn contains(&self, fd: RawFd) -> bool {
        self.table.contains(fd)
    }

    /// Returns how many descriptors are registered, without the one-shots that have finished.
    /// Suspended handles count.
    ///
    /// # Examples
    ///
    /// ```
    /// # use selio::selector::Selector;
    /// # use std::time::Duration;
    /// let mut selector = Selector::new()?;
    /// let timer = selector.register_timer(Duration::ZERO, true, ())?;
    /// assert_eq!(selector.len(), 1);
    /// selector.select(None)?;
    /// assert_eq!((selector.len(), selector.contains(timer)), (0, true));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Tells whether nothing is registered but finished one-shots: a loop may end here.
    ///
    /// # Examples
    ///
    /// See [`new`](Self::new).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the error that a key with [`Events::ERROR`] speaks of.
    ///
    /// A socket's error is asked of the kernel, which tells it once (`SO_ERROR`, socket(7)): who
    /// connects or reads afterwards does not see it any more. It is asked now and not when the key
    /// was made, so that whoever never asks leaves it there. A hang-up is no error, and what is no
    /// socket has none to ask for: `None`. If a timer, signal or event could not be read, because
    /// its number was closed or replaced, this tells how.
    ///
    /// # Errors
    ///
    /// [`NotFound`](io::ErrorKind::NotFound) if the key is stale; else those of getsockopt(2).
    ///
    /// # Examples
    ///
    /// ```
    /// # use selio::selector::{Events, Selector};
    /// # use std::os::fd::AsRawFd;
    /// let mut selector = Selector::new()?;
    /// let (socket, _peer) = std::os::unix::net::UnixStream::pair()?;
    /// selector.register_handle(&socket, Events::WRITE, "first")?;
    /// let key = selector.select(None)?[0];
    /// assert!(selector.take_error(&key)?.is_none());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn take_error(&self, key: &ReadyKey) -> io::Result<Option<io::Error>> {
        let entry = self.table.by_token(key.token);
        let entry = entry.ok_or_else(|| not_registered(key.fd()))?;
        if let Some(code) = key.unreadable() {
            return Ok(Some(io::Error::from_raw_os_error(code)));
        }
        match entry.kind {
            Kind::Handle(handle) if socket::is_socket(handle.fd) => socket::take_error(handle.fd),
            _ => Ok(None),
        }
    }

    /// Returns the data of everything that is registered, in no order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.table.values()
    }

    /// Has epoll watch a descriptor under the name that the next entry of the table will have.
    fn watch(&self, fd: RawFd, mask: u32) -> io::Result<()> {
        self.watch_as(self.table.next_token(), fd, mask)
    }

    /// Has epoll watch a descriptor that the table says is not in the set.
    ///
    /// If the kernel says that it is, then the same open file was there before under this number,
    /// was closed while a duplicate lived, and has come back: the old registration becomes the new
    /// one.
    fn watch_as(&self, token: Token, fd: RawFd, mask: u32) -> io::Result<()> {
        let (epoll, data) = (&self.poller.epoll, token.to_data());
        match epoll.add(fd, mask, data) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Not modified, because the kernel refuses that to EXCLUSIVE, and to what was.
                epoll.delete(fd)?;
                epoll.add(fd, mask, data)
            }
            result => result,
        }
    }

    /// Takes what is leaving the table out of epoll. A forked child would take it from its parent,
    /// and leaves it.
    ///
    /// Silent about failures: the descriptor was closed already, and what it leaves behind is
    /// noted.
    fn unwatch(&mut self, fd: RawFd, level_triggered: bool) {
        let epoll = &self.poller.epoll;
        if epoll.is_ours() && epoll.delete(fd).is_err() {
            self.orphans |= level_triggered;
        }
    }
}

impl<T> AsFd for Selector<T> {
    /// Returns the epoll descriptor, which another selector or `poll(2)` can watch: it is readable
    /// when there may be a key.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

impl<T> AsRawFd for Selector<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl<T> fmt::Debug for Selector<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selector")
            .field("fd", &self.as_raw_fd())
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

fn not_registered(fd: RawFd) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("descriptor {fd} is not registered"))
}

fn refused(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}
