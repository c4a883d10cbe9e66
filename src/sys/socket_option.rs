//! setsockopt(2): what may be asked of a socket before it is used.

use std::error::Error;
use std::fmt;
use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use super::cvt;
use libc::c_int;

/// An option and its value, as the user has given it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SocketOption {
    ReuseAddress(bool),
    ReusePort(bool),
    ReceiveBuffer(usize),
    SendBuffer(usize),
    OnlyV6(bool),
    NoDelay(bool),
    KeepAlive(bool),
    KeepAliveIdle(Duration),
    KeepAliveInterval(Duration),
    KeepAliveProbes(u32),
    Device(String),
}

/// The options of sockets, of IPv6 and of TCP: three levels.
const SOCKET: c_int = libc::SOL_SOCKET;
const IPV6: c_int = libc::IPPROTO_IPV6;
const TCP: c_int = libc::IPPROTO_TCP;

/// The longest name of a network device (`IFNAMSIZ` less the zero at its end, netdevice(7)).
const LONGEST_DEVICE: usize = libc::IFNAMSIZ - 1;

impl SocketOption {
    /// Sets it. The error names the option, and its source is the kernel's.
    pub(crate) fn set(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let (level, name, label) = self.names();
        let result = match self.value() {
            Ok(Value::Number(number)) => set(socket, level, name, &number),
            Ok(Value::Text(text)) => set(socket, level, name, text.as_bytes()),
            Err(why) => Err(io::Error::new(io::ErrorKind::InvalidInput, why)),
        };
        result.map_err(|error| io::Error::new(error.kind(), Refused { label, error }))
    }

    fn names(&self) -> (c_int, c_int, &'static str) {
        match self {
            Self::ReuseAddress(_) => (SOCKET, libc::SO_REUSEADDR, "SO_REUSEADDR"),
            Self::ReusePort(_) => (SOCKET, libc::SO_REUSEPORT, "SO_REUSEPORT"),
            Self::ReceiveBuffer(_) => (SOCKET, libc::SO_RCVBUF, "SO_RCVBUF"),
            Self::SendBuffer(_) => (SOCKET, libc::SO_SNDBUF, "SO_SNDBUF"),
            Self::OnlyV6(_) => (IPV6, libc::IPV6_V6ONLY, "IPV6_V6ONLY"),
            Self::NoDelay(_) => (TCP, libc::TCP_NODELAY, "TCP_NODELAY"),
            Self::KeepAlive(_) => (SOCKET, libc::SO_KEEPALIVE, "SO_KEEPALIVE"),
            Self::KeepAliveIdle(_) => (TCP, libc::TCP_KEEPIDLE, "TCP_KEEPIDLE"),
            Self::KeepAliveInterval(_) => (TCP, libc::TCP_KEEPINTVL, "TCP_KEEPINTVL"),
            Self::KeepAliveProbes(_) => (TCP, libc::TCP_KEEPCNT, "TCP_KEEPCNT"),
            Self::Device(_) => (SOCKET, libc::SO_BINDTODEVICE, "SO_BINDTODEVICE"),
        }
    }

    fn value(&self) -> Result<Value<'_>, &'static str> {
        let number = match self {
            Self::ReuseAddress(on)
            | Self::ReusePort(on)
            | Self::OnlyV6(on)
            | Self::NoDelay(on)
            | Self::KeepAlive(on) => c_int::from(*on),
            Self::ReceiveBuffer(bytes) | Self::SendBuffer(bytes) => {
                c_int::try_from(*bytes).map_err(|_| "a buffer has less than 2 GiB")?
            }
            Self::KeepAliveIdle(time) | Self::KeepAliveInterval(time) => seconds(*time)?,
            Self::KeepAliveProbes(count @ 1..=127) => *count as c_int,
            Self::KeepAliveProbes(_) => return Err("there are 1 to 127 probes"),
            Self::Device(name) if name.len() > LONGEST_DEVICE || name.contains('\0') => {
                return Err("the name of a device has at most 15 bytes, none of them zero");
            }
            Self::Device(name) => return Ok(Value::Text(name)),
        };
        Ok(Value::Number(number))
    }
}

enum Value<'a> {
    Number(c_int),
    Text(&'a str),
}

/// Whole seconds, rounded up, within what the kernel takes (tcp(7)).
fn seconds(time: Duration) -> Result<c_int, &'static str> {
    let seconds = time.as_nanos().div_ceil(1_000_000_000);
    match c_int::try_from(seconds) {
        Ok(seconds @ 1..=32_767) => Ok(seconds),
        _ => Err("the time is more than nothing and at most 32767 seconds"),
    }
}

fn set<T: ?Sized>(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    let length = size_of_val(value) as libc::socklen_t;
    let value = std::ptr::from_ref(value).cast();
    // SAFETY: `value` points at as many readable bytes as the length says, which outlive the call.
    cvt(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value, length) })?;
    Ok(())
}

/// Which option could not be set, and why.
#[derive(Debug)]
struct Refused {
    label: &'static str,
    error: io::Error,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.label, self.error)
    }
}

impl Error for Refused {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}
