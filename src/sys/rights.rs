//! Descriptors that travel with bytes over a Unix socket (`SCM_RIGHTS`, unix(7)).

use libc::{c_int, cmsghdr, msghdr};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// How many descriptors one message may carry (`SCM_MAX_FD`, unix(7)).
pub(crate) const MOST_DESCRIPTORS: usize = 253;

/// Room for as many descriptors, and for what else a socket may be told to deliver with them
/// (credentials, a security label, a time). Words, for a header has to be aligned.
type Control = [u64; 256];

/// Sends bytes, and descriptors with them, and raises no `SIGPIPE`.
pub(crate) fn send(socket: RawFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if fds.len() > MOST_DESCRIPTORS {
        let why = "one message carries at most 253 descriptors (unix(7))";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let mut control: Control = [0; 256];
    let buffer = IoSlice::new(bytes);
    let mut message = message(ptr::from_ref(&buffer).cast_mut().cast(), &mut control);
    match fds {
        [] => message.msg_controllen = 0,
        _ => put(&mut message, fds),
    }
    // SAFETY: the message points at one buffer and at the control data, with their lengths; both
    // live through the call, which only reads them.
    let sent = unsafe { libc::sendmsg(socket, &raw const message, libc::MSG_NOSIGNAL) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// What a message has brought.
#[derive(Debug)]
pub(crate) struct Message {
    /// The length of the record, also if it did not fit; on a stream what was read.
    pub(crate) length: usize,
    pub(crate) descriptors: Vec<OwnedFd>,
    /// Whether some of its descriptors could not be given to this process.
    pub(crate) lost: bool,
}

/// Receives bytes, and the descriptors that came with them, which are close-on-exec from their first
/// moment.
pub(crate) fn receive(socket: RawFd, bytes: &mut [u8]) -> io::Result<Message> {
    let mut control: Control = [0; 256];
    let mut buffer = IoSliceMut::new(bytes);
    let mut message = message(ptr::from_mut(&mut buffer).cast(), &mut control);
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_TRUNC;
    // SAFETY: the message points at one writable buffer and at the control data, with their
    // lengths; both live through the call.
    let received = unsafe { libc::recvmsg(socket, &raw mut message, flags) };
    let length = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    let lost = message.msg_flags & libc::MSG_CTRUNC != 0;
    Ok(Message { length, descriptors: take(&message), lost })
}

/// A message of one buffer, with room for control data.
fn message(buffer: *mut libc::iovec, control: &mut Control) -> msghdr {
    // SAFETY: `msghdr` is made of integers and pointers, for which zeros are a value.
    let mut message: msghdr = unsafe { mem::zeroed() };
    message.msg_iov = buffer;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // The C libraries do not agree on the type.
    message.msg_controllen = size_of::<Control>() as _;
    message
}

/// Writes the descriptors into the control data of a message, whose room is for more.
fn put(message: &mut msghdr, fds: &[BorrowedFd<'_>]) {
    let length = size_of_val(fds) as u32;
    // SAFETY: the macro computes with its argument only.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(length) } as _;
    // SAFETY: the message has control data of more than one header.
    let header = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: the macro computes with its argument only.
    let whole = unsafe { libc::CMSG_LEN(length) };
    // SAFETY: all zeros is a value of integers.
    let mut head: cmsghdr = unsafe { mem::zeroed() };
    head.cmsg_len = whole as _;
    head.cmsg_level = libc::SOL_SOCKET;
    head.cmsg_type = libc::SCM_RIGHTS;
    // SAFETY: `header` points at the beginning of the control data, which are aligned for it.
    unsafe { header.write(head) };
    // SAFETY: the data begin behind the header, within the room.
    let data = unsafe { libc::CMSG_DATA(header) };
    // SAFETY: a `BorrowedFd` is a number in memory (std promises it), and there is room for 253.
    unsafe { ptr::copy_nonoverlapping(fds.as_ptr().cast::<u8>(), data, length as usize) };
}

/// Takes possession of the descriptors in the control data that the kernel has written.
fn take(message: &msghdr) -> Vec<OwnedFd> {
    let mut descriptors = Vec::new();
    // SAFETY: the message is one that the kernel has filled in.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: the macros give headers that lie within the control data, or null.
        let head = unsafe { header.read() };
        if (head.cmsg_level, head.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: the macro computes with its argument only.
            let empty = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = (head.cmsg_len as usize - empty) / size_of::<c_int>();
            // SAFETY: the data begin behind the header.
            let data = unsafe { libc::CMSG_DATA(header) }.cast::<c_int>();
            descriptors.extend((0..count).map(|at| {
                // SAFETY: the header's length says that there are as many numbers.
                let fd = unsafe { data.wrapping_add(at).read_unaligned() };
                // SAFETY: the kernel has made this descriptor for us, and nobody else owns it.
                unsafe { OwnedFd::from_raw_fd(fd) }
            }));
        }
        // SAFETY: the header is one of this message.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    descriptors
}

/// Receives one record; the length is that of the whole, also if it did not fit.
pub(crate) fn receive_record(socket: &impl AsRawFd, bytes: &mut [u8]) -> io::Result<usize> {
    let (fd, target) = (socket.as_raw_fd(), bytes.as_mut_ptr().cast());
    // SAFETY: `target` points at as many writable bytes, which outlive the call.
    let received = unsafe { libc::recv(fd, target, bytes.len(), libc::MSG_TRUNC) };
    usize::try_from(received).map_err(|_| io::Error::last_os_error())
}
