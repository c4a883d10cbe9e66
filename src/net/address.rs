//! Where to connect to, or to listen at.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};

use crate::unblock::unblock;

/// What can be connected to or listened at: an address, several, or a name with a port, in every
/// form that std takes.
///
/// Strings may be `"127.0.0.1:80"`, `"[::1]:80"` or `"localhost:80"`, pairs `("localhost", 80)`.
/// Numeric addresses cost no system call. Names are looked up by the C library, in a thread of
/// [`unblock`](crate::unblock()), so that the loop runs on.
///
/// This trait cannot be implemented outside of the crate.
///
/// # Examples
///
/// ```
/// use selio::net::{TcpListener, ToAddresses};
///
/// async fn listen(at: impl ToAddresses) -> std::io::Result<TcpListener> {
///     TcpListener::bind(at).await
/// }
/// # fn main() -> std::io::Result<()> {
/// selio::block_on(async {
///     listen("127.0.0.1:0").await?;
///     listen((std::net::Ipv4Addr::LOCALHOST, 0)).await.map(drop)
/// })
/// # }
/// ```
pub trait ToAddresses: ToSocketAddrs + sealed::Sealed {}

mod sealed {
    pub trait Sealed {
        /// The name that has to be looked up; `None` if there are addresses already.
        fn name(&self) -> Option<super::Name> {
            None
        }
    }
}

/// What the C library is asked for.
#[derive(Debug)]
pub enum Name {
    Host(String, u16),
    /// A host and a port in one.
    Text(String),
}

impl Name {
    /// Blocks, for as long as name servers take to answer.
    fn look_up(self) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::Host(host, port) => (host, port).to_socket_addrs(),
            Self::Text(text) => text.to_socket_addrs(),
        }
        .map(Iterator::collect)
    }
}

macro_rules! addresses {
    ($($form:ty),* $(,)?) => {
        $(
            impl sealed::Sealed for $form {}
            impl ToAddresses for $form {}
        )*
    };
}

addresses!(
    SocketAddr,
    SocketAddrV4,
    SocketAddrV6,
    (IpAddr, u16),
    (Ipv4Addr, u16),
    (Ipv6Addr, u16),
    &[SocketAddr],
);

impl ToAddresses for str {}
impl ToAddresses for String {}
impl ToAddresses for (&str, u16) {}
impl ToAddresses for (String, u16) {}

impl sealed::Sealed for str {
    fn name(&self) -> Option<Name> {
        self.parse::<SocketAddr>().is_err().then(|| Name::Text(self.to_owned()))
    }
}

impl sealed::Sealed for String {
    fn name(&self) -> Option<Name> {
        self.as_str().name()
    }
}

impl sealed::Sealed for (&str, u16) {
    fn name(&self) -> Option<Name> {
        let (host, port) = *self;
        host.parse::<IpAddr>().is_err().then(|| Name::Host(host.to_owned(), port))
    }
}

impl sealed::Sealed for (String, u16) {
    fn name(&self) -> Option<Name> {
        (self.0.as_str(), self.1).name()
    }
}

impl<T: sealed::Sealed + ?Sized> sealed::Sealed for &T {
    fn name(&self) -> Option<Name> {
        (**self).name()
    }
}

impl<T: ToAddresses + ?Sized> ToAddresses for &T {}

/// The addresses to try, in this order; never none.
pub(super) async fn look_up(at: impl ToAddresses) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<_> = match at.name() {
        Some(name) => unblock(move || name.look_up()).await?,
        // Nobody is asked.
        None => at.to_socket_addrs()?.collect(),
    };
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no address to try"));
    }
    Ok(addresses)
}
