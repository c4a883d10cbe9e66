//! Where to connect to, or to listen at.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};

/// What can be connected to or listened at: an address, several, or a name with a port, in every
/// form that std takes.
///
/// Strings may be `"127.0.0.1:80"`, `"[::1]:80"` or `"localhost:80"`, pairs `("localhost", 80)`.
/// Numeric addresses cost no system call. Names are looked up by the C library in this thread, so
/// the loop stands still meanwhile: a server that connects to names should look them up elsewhere.
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
    pub trait Sealed {}
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
    (&str, u16),
    (String, u16),
    &[SocketAddr],
    str,
    String,
);

impl<T: sealed::Sealed + ?Sized> sealed::Sealed for &T {}
impl<T: ToAddresses + ?Sized> ToAddresses for &T {}

/// The addresses to try, in this order; never none.
pub(super) async fn look_up(at: impl ToAddresses) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<_> = at.to_socket_addrs()?.collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no address to try"));
    }
    Ok(addresses)
}
