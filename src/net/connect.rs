//! Connecting to one of several addresses, as RFC 8305 ("happy eyeballs") has it: the families take
//! turns, and who does not answer soon is not waited for before the next is tried.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::time::Timer;

/// How long an attempt has to itself (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Connects to the first that answers. The other attempts are dropped.
pub(super) async fn first<R, F>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<R>
where
    F: Future<Output = io::Result<R>>,
{
    if let [only] = addresses[..] {
        return connect(only).await;
    }
    let mut waiting = by_turns(addresses);
    let mut race = Race { attempts: Vec::new(), failed: Vec::new() };
    let mut next = Timer::after(Duration::ZERO);
    poll_fn(|cx| {
        loop {
            match race.poll(cx) {
                Poll::Ready(Some(winner)) => return Poll::Ready(Ok(winner)),
                // Nobody is waited for any more: the next one's turn has come.
                Poll::Ready(None) => {}
                Poll::Pending if Pin::new(&mut next).poll(cx).is_pending() => return Poll::Pending,
                Poll::Pending => {}
            }
            let Some(address) = waiting.pop_front() else {
                if race.attempts.is_empty() {
                    return Poll::Ready(Err(Failed(std::mem::take(&mut race.failed)).into()));
                }
                next = Timer::never();
                continue;
            };
            race.attempts.push((address, Box::pin(connect(address))));
            next.set_after(HEAD_START);
        }
    })
    .await
}

/// The attempts that are under way, and what became of the others.
struct Race<F> {
    attempts: Vec<(SocketAddr, Pin<Box<F>>)>,
    failed: Vec<(SocketAddr, io::Error)>,
}

impl<R, F: Future<Output = io::Result<R>>> Race<F> {
    /// Is ready with the winner, or with none if an attempt has failed or there are none.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<R>> {
        let failed = self.failed.len();
        let mut at = 0;
        while at < self.attempts.len() {
            match self.attempts[at].1.as_mut().poll(cx) {
                Poll::Ready(Ok(winner)) => return Poll::Ready(Some(winner)),
                Poll::Ready(Err(error)) => {
                    let (address, _) = self.attempts.remove(at);
                    self.failed.push((address, error));
                }
                Poll::Pending => at += 1,
            }
        }
        if self.failed.len() > failed || self.attempts.is_empty() {
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

/// The order in which they are tried: the family of the first begins, and then they take turns.
fn by_turns(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let begins = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (these, those): (VecDeque<_>, VecDeque<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == begins);
    let (mut these, mut those) = (these.into_iter(), those.into_iter());
    let mut order = VecDeque::new();
    loop {
        let turn = [these.next(), those.next()];
        if turn == [None, None] {
            return order;
        }
        order.extend(turn.into_iter().flatten());
    }
}

/// Why none of several addresses could be connected to.
#[derive(Debug)]
struct Failed(Vec<(SocketAddr, io::Error)>);

impl From<Failed> for io::Error {
    /// Its kind is that of the first attempt.
    fn from(failed: Failed) -> Self {
        let kind = failed.0.first().map_or(io::ErrorKind::Other, |(_, error)| error.kind());
        io::Error::new(kind, failed)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (address, error)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{address}: {error}")?;
        }
        Ok(())
    }
}

impl Error for Failed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.first().map(|(_, error)| error as &(dyn Error + 'static))
    }
}
