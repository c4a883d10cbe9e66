//! The program's own descriptors: which numbers are open, and which open file each of them is.

use crate::kit;
use selio::selector::Events;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// An open file, which may have several numbers; what it is does not change with them.
pub(super) type FileId = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Pipe,
    Socket,
    Tcp,
    Counter,
    /// Nothing that epoll watches.
    Regular,
}

#[derive(Debug, Default)]
pub(super) struct Files {
    kinds: Vec<FileKind>,
    numbers: BTreeMap<RawFd, (FileId, OwnedFd)>,
    last_closed: Option<(RawFd, FileId)>,
}

impl Files {
    /// Opens something new, one end or both.
    pub(super) fn open(&mut self, kind: FileKind) {
        let ends: Vec<OwnedFd> = match kind {
            FileKind::Pipe => <[_; 2]>::from(kit::pipe()).into(),
            FileKind::Socket => <[_; 2]>::from(kit::socketpair(libc::SOCK_STREAM)).into(),
            FileKind::Tcp => {
                let (client, server) = kit::tcp_pair();
                vec![client.into(), server.into()]
            }
            // SAFETY: the call takes two numbers, and returns one that is nobody else's.
            FileKind::Counter => vec![own(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) })],
            // SAFETY: the name lives through the call, which returns a number of its own.
            FileKind::Regular => vec![own(unsafe { libc::memfd_create(c"file".as_ptr(), 0) })],
        };
        for end in ends {
            kit::set_nonblocking(&end, true);
            self.numbers.insert(end.as_raw_fd(), (self.kinds.len(), end));
            self.kinds.push(kind);
        }
    }

    pub(super) fn numbers(&self) -> Vec<RawFd> {
        self.numbers.keys().copied().collect()
    }

    /// Which file a number of the program's own is.
    pub(super) fn file(&self, number: RawFd) -> Option<FileId> {
        Some(self.numbers.get(&number)?.0)
    }

    pub(super) fn kind(&self, file: FileId) -> FileKind {
        self.kinds[file]
    }

    pub(super) fn borrow(&self, number: RawFd) -> &OwnedFd {
        &self.numbers[&number].1
    }

    /// A number by which a file can be reached, if there is one left.
    pub(super) fn number_of(&self, file: FileId) -> Option<RawFd> {
        let mut all = self.numbers.iter();
        all.find(|(_, (other, _))| *other == file).map(|(number, _)| *number)
    }

    pub(super) fn close(&mut self, number: RawFd) {
        if let Some((file, _)) = self.numbers.remove(&number) {
            self.last_closed = Some((number, file));
        }
    }

    pub(super) fn duplicate(&mut self, number: RawFd) {
        let (file, fd) = &self.numbers[&number];
        let (file, copy) = (*file, kit::dup(fd));
        self.numbers.insert(copy.as_raw_fd(), (file, copy));
    }

    /// Has the file that was closed last come back under its number, if both can be had.
    pub(super) fn come_back(&mut self) {
        let Some((number, file)) = self.last_closed else { return };
        let Some(living) = self.number_of(file) else { return };
        // SAFETY: the call takes numbers, and returns one of its own.
        let copy = own(unsafe { libc::fcntl(living, libc::F_DUPFD_CLOEXEC, number) });
        self.numbers.insert(copy.as_raw_fd(), (file, copy));
    }

    /// Puts a duplicate under another number of the program's own, which was open.
    pub(super) fn replace(&mut self, number: RawFd, over: RawFd) {
        let file = self.numbers[&number].0;
        if number != over {
            kit::dup2(&self.numbers[&number].1, over);
            self.numbers.get_mut(&over).expect("an open number").0 = file;
        }
    }

    /// Writes a byte, or what there is room for.
    pub(super) fn write(&self, number: RawFd, fill: bool) {
        let kind = self.kinds[self.numbers[&number].0];
        let bytes = [1_u8; 16_384];
        let len = match kind {
            FileKind::Counter => 8,
            _ if fill => bytes.len(),
            _ => 1,
        };
        let times = if fill && kind != FileKind::Tcp { 64 } else { 1 };
        // SAFETY: the bytes live through the calls. What they return does not matter.
        (0..times).all(|_| unsafe { libc::write(number, bytes.as_ptr().cast(), len) } > 0);
    }

    /// Reads a byte, or all there is.
    pub(super) fn read(&self, number: RawFd, drain: bool) {
        let mut bytes = [0_u8; 65_536];
        let len = if drain { bytes.len() } else { 8 };
        let times = if drain { 64 } else { 1 };
        // SAFETY: the buffer is as long as it is said to be, and lives through the calls.
        (0..times).all(|_| unsafe { libc::read(number, bytes.as_mut_ptr().cast(), len) } > 0);
    }

    pub(super) fn shut_down(&self, number: RawFd, how: i32) {
        // SAFETY: the call takes numbers; what is no socket is refused.
        unsafe { libc::shutdown(number, how) };
    }

    /// Sends a byte out of band, where there are such.
    pub(super) fn send_urgent(&self, number: RawFd) {
        let flags = libc::MSG_OOB | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the byte lives through the call, which refuses what cannot send it.
        unsafe { libc::send(number, [1_u8].as_ptr().cast(), 1, flags) };
    }
}

fn own(number: RawFd) -> OwnedFd {
    assert!(number >= 0, "{}", io::Error::last_os_error());
    // SAFETY: every caller has just got the number from the kernel and given it to nobody else.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// A signal has ended a call, and nothing else.
#[track_caller]
pub(super) fn assert_interrupted() {
    let error = io::Error::last_os_error();
    assert_eq!(error.kind(), io::ErrorKind::Interrupted, "{error}");
}

/// What the kernel says of a number, asked by `poll(2)`, which keeps nothing.
pub(super) fn poll(number: RawFd, events: i16, millis: i32) -> i16 {
    let mut asked = libc::pollfd { fd: number, events, revents: 0 };
    // SAFETY: the one entry lives through the call.
    while unsafe { libc::poll(&raw mut asked, 1, millis) } == -1 {
        assert_interrupted();
    }
    asked.revents
}

/// What a key for a handle with this interest has to say of its file as it is now.
pub(super) fn readiness(number: RawFd, interest: Events) -> Events {
    let asks = |event, bits| if interest.contains(event) { bits } else { 0 };
    let exclusive = interest.contains(Events::EXCLUSIVE);
    let hangup = if exclusive { 0 } else { asks(Events::READ, libc::POLLRDHUP) };
    let mask = asks(Events::READ, libc::POLLIN)
        | hangup
        | asks(Events::WRITE, libc::POLLOUT)
        | asks(Events::PRIORITY, libc::POLLPRI);
    if mask == 0 {
        return Events::NONE;
    }
    let found = poll(number, mask, 0);
    let says = |bits, events| if found & bits != 0 { events } else { Events::NONE };
    let directions = Events::READ | Events::WRITE | Events::PRIORITY;
    let ready = says(libc::POLLIN | libc::POLLRDHUP, Events::READ)
        | says(libc::POLLOUT, Events::WRITE)
        | says(libc::POLLPRI, Events::PRIORITY)
        | says(libc::POLLHUP | libc::POLLERR, Events::READ | Events::WRITE);
    let told = ready & interest & directions
        | says(libc::POLLRDHUP | libc::POLLHUP, Events::HANGUP)
        | says(libc::POLLERR, Events::ERROR);
    if told.is_empty() { told } else { told | interest & Events::ONESHOT }
}

/// The number that the kernel will give next.
pub(super) fn next_number() -> RawFd {
    // SAFETY: the descriptor is standard output, which stays open.
    let output = unsafe { BorrowedFd::borrow_raw(2) };
    kit::dup(output).as_raw_fd()
}
