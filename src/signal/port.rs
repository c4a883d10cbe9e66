//! Where signals come in: one port per thread that waits for them.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use waker_fn::waker_fn;

use super::hub::Hub;
use crate::io::Async;
use crate::panics::wake_all;
use crate::reactor::Direction;
use crate::sys::fork;
use crate::sys::lock::Lock;
use crate::sys::signal_fd::SignalFd;
use crate::sys::signal_pipe::{PipeReader, SignalPipe};

/// A thread's ends of the two ways by which signals come. While it is held, its thread hands out
/// the signals of the whole process whenever its `block_on` runs.
#[derive(Debug)]
pub(crate) struct Port {
    process: usize,
    hub: &'static Lock<Hub>,
    /// What the handler writes.
    pipe: Async<PipeReader>,
    /// What no handler sees, because every thread blocks it.
    blocked: Async<Arc<SignalFd>>,
    /// Woken by the reactor when there is something to read.
    waker: Waker,
}

thread_local! {
    static HERE: RefCell<Weak<Port>> = const { RefCell::new(Weak::new()) };
}

impl Port {
    /// Returns the port of this thread, made now if nobody holds one, ready to be woken by this
    /// thread's reactor.
    #[inline]
    pub(crate) fn here() -> io::Result<Arc<Self>> {
        let ending = |_| io::Error::other("the thread is ending: it hears no signals any more");
        let known = HERE.try_with(|here| here.borrow().upgrade()).map_err(ending)?;
        let port = match known.filter(|port| port.process == fork::process_id()) {
            Some(port) => port,
            None => {
                let port = Self::open()?;
                let former =
                    HERE.try_with(|here| here.replace(Arc::downgrade(&port))).map_err(ending)?;
                drop(former);
                port
            }
        };
        port.pump()?;
        Ok(port)
    }

    #[inline]
    fn open() -> io::Result<Arc<Self>> {
        let hub = Hub::get();
        let pipe = SignalPipe::get()?.reader()?;
        let blocked = Hub::lock(hub).open_signal_fd()?;
        Ok(Arc::new_cyclic(|port| Port {
            process: fork::process_id(),
            hub,
            pipe: Async::new_nonblocking(pipe),
            blocked: Async::new_nonblocking(blocked),
            waker: pump_waker(Weak::clone(port)),
        }))
    }

    /// Reads and hands out what is there, and waits for more on this thread.
    #[inline]
    fn pump(&self) -> io::Result<()> {
        let mut cx = Context::from_waker(&self.waker);
        let (mut woken, mut read) = (Vec::new(), false);
        let mut pipe = self.pipe.poll_with(Direction::Read, &mut cx, |_| {
            read = true;
            until_empty(Hub::lock(self.hub).read_pipe(&mut woken))
        });
        // A signal that a handler is about to catch makes the signalfd readable until then, so that
        // the wait ends before the pipe is written to.
        if !read {
            if let Err(error) = Hub::lock(self.hub).read_unread(&mut woken) {
                pipe = Poll::Ready(Err(error));
            }
        }
        let blocked = self.blocked.poll_with(Direction::Read, &mut cx, |signals| {
            until_empty(Hub::lock(self.hub).read_blocked(signals, &mut woken))
        });
        wake_all(woken);
        for result in [pipe, blocked] {
            if let Poll::Ready(Err(error)) = result {
                return Err(error);
            }
        }
        Ok(())
    }
}

/// What a read says that has taken everything: nothing is left.
#[inline]
fn until_empty(read: io::Result<()>) -> io::Result<Infallible> {
    read.and_then(|()| Err(io::ErrorKind::WouldBlock.into()))
}

/// Has a port read when it is woken, if the port is still there.
#[inline]
fn pump_waker(port: Weak<Port>) -> Waker {
    waker_fn(move || {
        let Some(port) = port.upgrade() else { return };
        if port.pump().is_err() {
            // Those who wait look for themselves then, and are told the error.
            let wakers = Hub::lock(port.hub).all_wakers();
            wake_all(wakers);
        }
    })
}
