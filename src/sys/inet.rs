//! Sockets of the internet that are non-blocking and close-on-exec from their first moment, and the
//! kernel's form of their addresses.

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::cvt;
use libc::c_int;

const LENGTH_V4: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;
const LENGTH_V6: libc::socklen_t = size_of::<libc::sockaddr_in6>() as libc::socklen_t;

/// Makes a socket for a TCP connection or listener, in the family of the address.
pub(crate) fn stream(address: &SocketAddr) -> io::Result<OwnedFd> {
    socket(address, libc::SOCK_STREAM, libc::IPPROTO_TCP)
}

/// Makes a socket for UDP, in the family of the address.
pub(crate) fn datagram(address: &SocketAddr) -> io::Result<OwnedFd> {
    socket(address, libc::SOCK_DGRAM, libc::IPPROTO_UDP)
}

fn socket(address: &SocketAddr, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: three integers, no memory.
    let fd = cvt(unsafe { libc::socket(family, kind, protocol) })?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Begins to connect a socket. The connection may be under way still: it has been made, or has
/// failed, when the socket is writable, and `SO_ERROR` tells which.
pub(crate) fn connect(socket: BorrowedFd<'_>, address: &SocketAddr) -> io::Result<()> {
    match with_raw(socket, address, libc::connect) {
        // Interrupted, the connection goes on all the same; see connect(2).
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => {
            Ok(())
        }
        done => done,
    }
}

/// Gives a socket its own address: bind(2).
pub(crate) fn bind(socket: BorrowedFd<'_>, address: &SocketAddr) -> io::Result<()> {
    with_raw(socket, address, libc::bind)
}

/// Makes a call that takes an address.
fn with_raw(
    socket: BorrowedFd<'_>,
    address: &SocketAddr,
    call: unsafe extern "C" fn(c_int, *const libc::sockaddr, libc::socklen_t) -> c_int,
) -> io::Result<()> {
    let fd = socket.as_raw_fd();
    let result = match address {
        SocketAddr::V4(address) => {
            let raw = to_v4(address);
            // SAFETY: `raw` is a `sockaddr_in`, as the length says, and lives through the call,
            // which is bind or connect, and reads it.
            unsafe { call(fd, (&raw const raw).cast(), LENGTH_V4) }
        }
        SocketAddr::V6(address) => {
            let raw = to_v6(address);
            // SAFETY: `raw` is a `sockaddr_in6`, as the length says, and lives through the call,
            // which is bind or connect, and reads it.
            unsafe { call(fd, (&raw const raw).cast(), LENGTH_V6) }
        }
    };
    cvt(result).map(drop)
}

/// Listens, with a queue of this length. The kernel takes any number above `net.core.somaxconn` for
/// that one, and lets a socket listen anew; see listen(2).
pub(crate) fn listen(socket: BorrowedFd<'_>, backlog: u32) -> io::Result<()> {
    let backlog = c_int::try_from(backlog).unwrap_or(c_int::MAX);
    // SAFETY: two integers, no memory.
    cvt(unsafe { libc::listen(socket.as_raw_fd(), backlog) })?;
    Ok(())
}

/// Takes a connection from a listener, in one call: `accept4(2)`.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, SocketAddr)> {
    let mut raw = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the kernel writes at most `length` bytes, the size of `raw`, and the length; both
    // live through the call.
    let fd = cvt(unsafe {
        libc::accept4(listener.as_raw_fd(), raw.as_mut_ptr().cast(), &raw mut length, flags)
    })?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: it is made of integers and was zeroed: every byte is initialised.
    let raw = unsafe { raw.assume_init() };
    Ok((socket, from_raw(&raw)?))
}

/// Whether accepting failed for the connection at hand only, so that the next may be tried at once;
/// see accept(2).
pub(crate) fn is_transient_accept_error(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
        )
    )
}

fn to_v4(address: &SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
        sin_zero: [0; 8],
    }
}

fn to_v6(address: &SocketAddrV6) -> libc::sockaddr_in6 {
    libc::sockaddr_in6 {
        sin6_family: libc::AF_INET6 as libc::sa_family_t,
        sin6_port: address.port().to_be(),
        sin6_flowinfo: address.flowinfo(),
        sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
        sin6_scope_id: address.scope_id(),
    }
}

fn from_raw(raw: &libc::sockaddr_storage) -> io::Result<SocketAddr> {
    const _: () = assert!(size_of::<libc::sockaddr_in6>() <= size_of::<libc::sockaddr_storage>());
    match c_int::from(raw.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the storage, which is larger and zeroed beyond, holds a
            // `sockaddr_in`, made of integers.
            let v4: libc::sockaddr_in = unsafe { mem::transmute_copy(raw) };
            let ip = v4.sin_addr.s_addr.to_ne_bytes().into();
            Ok(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that the storage, which is larger and zeroed beyond, holds a
            // `sockaddr_in6`, made of integers.
            let v6: libc::sockaddr_in6 = unsafe { mem::transmute_copy(raw) };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            Ok(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        family => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the peer of a TCP socket has an address of family {family}"),
        )),
    }
}
