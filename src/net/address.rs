//! Where to connect to, or to listen at.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};
use std::pin::Pin;

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
        /// Begins to look up the name; `None` if there are addresses already.
        fn look_up_name(&self) -> Option<super::LookUp> {
            None
        }
    }
}

/// A look-up that is under way. In a box, so that programs that name no host need not have its code.
pub(super) type LookUp = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + Sync>>;

/// Asks the C library, which blocks for as long as name servers take to answer.
fn ask(name: impl ToSocketAddrs + Send + 'static) -> LookUp {
    Box::pin(unblock(move || name.to_socket_addrs().map(Iterator::collect)))
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
    fn look_up_name(&self) -> Option<LookUp> {
        self.parse::<SocketAddr>().is_err().then(|| ask(self.to_owned()))
    }
}

impl sealed::Sealed for String {
    fn look_up_name(&self) -> Option<LookUp> {
        self.as_str().look_up_name()
    }
}

impl sealed::Sealed for (&str, u16) {
    fn look_up_name(&self) -> Option<LookUp> {
        let (host, port) = *self;
        host.parse::<IpAddr>().is_err().then(|| ask((host.to_owned(), port)))
    }
}

impl sealed::Sealed for (String, u16) {
    fn look_up_name(&self) -> Option<LookUp> {
        (self.0.as_str(), self.1).look_up_name()
    }
}

impl<T: sealed::Sealed + ?Sized> sealed::Sealed for &T {
    fn look_up_name(&self) -> Option<LookUp> {
        (**self).look_up_name()
    }
}

impl<T: ToAddresses + ?Sized> ToAddresses for &T {}

/// The addresses to try, in this order; never none.
pub(super) async fn look_up(at: impl ToAddresses) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<_> = match at.look_up_name() {
        Some(look_up) => look_up.await?,
        // Nobody is asked.
        None => at.to_socket_addrs()?.collect(),
    };
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no address to try"));
    }
    Ok(addresses)
}
