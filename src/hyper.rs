//! What the HTTP library hyper asks of a runtime: an [`Executor`] and a [`Timer`].
//!
//! The third thing is a connection, and every [`Async`](crate::Async) is one: with this feature it
//! has hyper's `Read` and `Write`. So a [`TcpStream`](crate::net::TcpStream) is given to
//! `serve_connection` or `handshake` as it is, and the future that comes back is spawned, or
//! awaited, on selio's loop. Services and bodies need not be `Send`.
//!
//! The crate `hyper` is taken without its features: choose protocol and side (`http1`, `server`, …)
//! where you name it among your dependencies. `examples/ecosystem` has a server for a directory and
//! a client.
//!
//! # Examples
//!
//! A server, with the features `http1` and `server` of hyper:
//!
//! ```text
//! let listener = TcpListener::bind("127.0.0.1:8080").await?;
//! loop {
//!     let (stream, _) = listener.accept().await?;
//!     selio::spawn(async move {
//!         let mut http = hyper::server::conn::http1::Builder::new();
//!         http.timer(selio::hyper::Timer).header_read_timeout(Duration::from_secs(10));
//!         http.serve_connection(stream, service_fn(answer)).await
//!     });
//! }
//! ```

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::{executor, time};

/// Spawns what hyper wants to run beside a connection, on the [`block_on`](crate::block_on) of this
/// thread. The futures need not be `Send`.
///
/// hyper's HTTP/2 asks for one, HTTP/1 does not.
///
/// # Panics
///
/// `execute` panics outside of `block_on`, as [`spawn`](crate::spawn) does.
///
/// # Examples
///
/// ```
/// use hyper::rt::Executor;
/// use std::rc::Rc;
///
/// # fn main() -> std::io::Result<()> {
/// let event = selio::event::Event::new()?;
/// let trigger = Rc::new(event.trigger());
/// let told = selio::block_on(async {
///     selio::hyper::Executor.execute(async move { trigger.trigger() });
///     event.wait().await
/// });
/// assert_eq!(told?, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Executor;

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + 'static,
    F::Output: 'static,
{
    #[track_caller]
    fn execute(&self, future: F) {
        drop(executor::spawn(future));
    }
}

/// Gives hyper its timeouts, such as that for the head of a request.
///
/// Its sleeps are selio's timers, exact to the nanosecond, and are set anew in place.
///
/// # Examples
///
/// ```
/// use hyper::rt::Timer;
/// use std::time::{Duration, Instant};
///
/// let start = Instant::now();
/// selio::block_on(selio::hyper::Timer.sleep(Duration::from_millis(5)));
/// assert!(start.elapsed() >= Duration::from_millis(5));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Timer;

impl hyper::rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep(time::Timer::after(duration)))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep(time::Timer::at(deadline)))
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn hyper::rt::Sleep>>, deadline: Instant) {
        match sleep.as_mut().downcast_mut_pin::<Sleep>() {
            Some(mut own) => own.0.set_at(deadline),
            // Another timer's.
            None => *sleep = self.sleep_until(deadline),
        }
    }
}

/// A timer as hyper wants it, without an output.
struct Sleep(time::Timer);

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(drop)
    }
}

impl hyper::rt::Sleep for Sleep {}
