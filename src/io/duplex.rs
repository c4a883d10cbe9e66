//! Two connected byte streams in memory.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use crate::panics::{FirstPanic, wake_all};
use crate::reactor::spend_budget;
use crate::sys::lock::{Guard, Lock};

/// Makes two streams that are connected to each other, without a socket: what one writes the other
/// reads. Each direction has room for `capacity` bytes.
///
/// They are for testing protocols: with a capacity of 1 each read and write moves one byte, and
/// whatever code forgets to go on after a part shows it every time.
///
/// # Panics
///
/// If the capacity is zero: nothing could ever be written.
///
/// # Examples
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let (client, server) = selio::io::duplex(64);
/// selio::block_on(async {
///     client.write_all(b"ping").await?;
///     let mut buffer = [0; 4];
///     server.read_exact(&mut buffer).await?;
///     assert_eq!(&buffer, b"ping");
///
///     drop(client);
///     assert_eq!(server.read(&mut buffer).await?, 0);
///     let error = server.write(b"pong").await.unwrap_err();
///     assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
///     Ok(())
/// })
/// # }
/// ```
#[track_caller]
#[must_use]
pub fn duplex(capacity: usize) -> (Duplex, Duplex) {
    assert!(capacity > 0, "`duplex` needs room for at least one byte in each direction");
    let lane = || Arc::new(Lane::new(capacity));
    let (there, back) = (lane(), lane());
    let one = Duplex { incoming: Arc::clone(&back), outgoing: Arc::clone(&there) };
    (one, Duplex { incoming: there, outgoing: back })
}

/// One of two connected streams in memory, made by [`duplex`].
///
/// It works under any executor, may be moved to another thread and shared between threads. Several
/// tasks may read, or write, at once: each byte goes through one of them, in whatever order they
/// come. As all I/O of this crate, it lets other tasks run now and then, however ready it is.
///
/// Dropping it ends both directions: the peer reads what was written before, then the end, and what
/// the peer writes is a [`BrokenPipe`](io::ErrorKind::BrokenPipe). What it had not read is dropped.
///
/// # Examples
///
/// See [`duplex`].
pub struct Duplex {
    incoming: Arc<Lane>,
    outgoing: Arc<Lane>,
}

impl Duplex {
    /// Reads what is there, up to the length of the buffer, and waits if there is nothing yet. Zero
    /// is the end, or an empty buffer.
    ///
    /// # Errors
    ///
    /// None: it is a result so that it can stand in for a socket.
    ///
    /// # Cancel safety
    ///
    /// The poll that reads returns what was read, so nothing is lost.
    ///
    /// # Examples
    ///
    /// See [`duplex`].
    pub fn read(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
        let mut waiter = Waiter::new(&self.incoming, Side::Reader);
        poll_fn(move |cx| waiter.poll(cx, |flow| flow.take(buffer)))
    }

    /// Reads until the buffer is full.
    ///
    /// # Errors
    ///
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if the end comes first. How much was read
    /// before is not told.
    ///
    /// # Cancel safety
    ///
    /// Not cancel-safe: what was read when the future is dropped is in the buffer, and how much
    /// that is, is lost.
    ///
    /// # Examples
    ///
    /// See [`duplex`].
    pub async fn read_exact(&self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read(buffer).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                got => buffer = &mut buffer[got..],
            }
        }
        Ok(())
    }

    /// Writes what there is room for, and waits if there is none; not for an empty slice.
    ///
    /// # Errors
    ///
    /// [`BrokenPipe`](io::ErrorKind::BrokenPipe) if the peer was dropped, or this end was
    /// [shut down](Self::shutdown).
    ///
    /// # Cancel safety
    ///
    /// The poll that writes returns how much, so nothing is written unknown to the caller.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let (near, _far) = selio::io::duplex(3);
    /// assert_eq!(selio::block_on(near.write(b"hello"))?, 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn write(&self, bytes: &[u8]) -> impl Future<Output = io::Result<usize>> {
        let mut waiter = Waiter::new(&self.outgoing, Side::Writer);
        poll_fn(move |cx| waiter.poll(cx, |flow| flow.put(bytes)))
    }

    /// Writes all of it.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write). How much was written before an error is not told.
    ///
    /// # Cancel safety
    ///
    /// Not cancel-safe: how much was written when the future is dropped is lost.
    ///
    /// # Examples
    ///
    /// See [`duplex`].
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let put = self.write(bytes).await?;
            bytes = &bytes[put..];
        }
        Ok(())
    }

    /// Does nothing: what is written can be read at once.
    ///
    /// # Errors
    ///
    /// None: it is a result so that it can stand in for a socket.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let (near, _far) = selio::io::duplex(3);
    /// selio::block_on(near.flush())
    /// # }
    /// ```
    pub async fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    /// Says that nothing more will be written: the peer reads what was written before, then the
    /// end. Reading goes on. Whoever waits to write here is told
    /// [`BrokenPipe`](io::ErrorKind::BrokenPipe).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let (near, far) = selio::io::duplex(64);
    /// selio::block_on(async {
    ///     near.shutdown();
    ///     assert_eq!(far.read(&mut [0; 8]).await?, 0);
    ///     far.write_all(b"an answer").await?;
    ///     near.read_exact(&mut [0; 9]).await
    /// })
    /// # }
    /// ```
    pub fn shutdown(&self) {
        wake_all(self.outgoing.change(|flow| flow.ended = true));
    }
}

/// For the traits that poll, whose callers leave one waker for each direction: the last one's.
#[cfg(any(feature = "futures-io", feature = "tokio-io"))]
impl Duplex {
    pub(super) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.incoming.poll(Side::Reader, &mut Some(POLLER), cx, |flow| flow.take(buffer))
    }

    pub(super) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.outgoing.poll(Side::Writer, &mut Some(POLLER), cx, |flow| flow.put(bytes))
    }
}

impl Drop for Duplex {
    fn drop(&mut self) {
        let mut woken = self.outgoing.change(|flow| flow.ended = true);
        woken.extend(self.incoming.change(|flow| {
            flow.unread = true;
            flow.bytes = VecDeque::new();
        }));
        wake_all(woken);
    }
}

impl fmt::Debug for Duplex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Duplex").finish_non_exhaustive()
    }
}

/// One direction. No foreign code (waking, cloning or dropping a waker) runs under its lock.
struct Lane(Lock<Flow>);

struct Flow {
    bytes: VecDeque<u8>,
    capacity: usize,
    /// Nothing more will be written.
    ended: bool,
    /// Nothing more will be read.
    unread: bool,
    /// Who waits on each side, with the key by which the waker is taken back.
    waiting: [Vec<(u64, Waker)>; 2],
    /// The key of the next waiter. Keys are not used again.
    keys: u64,
}

#[derive(Debug, Clone, Copy)]
enum Side {
    Reader = 0,
    Writer = 1,
}

/// The key that stands for all callers of the poll functions on one side.
const POLLER: u64 = 0;

impl Lane {
    fn new(capacity: usize) -> Self {
        Lane(Lock::new(Flow {
            bytes: VecDeque::new(),
            capacity,
            ended: false,
            unread: false,
            waiting: [Vec::new(), Vec::new()],
            keys: POLLER + 1,
        }))
    }

    fn lock(&self) -> Guard<'_, Flow> {
        self.0.lock()
    }

    /// Changes what both sides have to see, and gives up all who wait, to be woken by the caller.
    fn change(&self, change: impl FnOnce(&mut Flow)) -> Vec<Waker> {
        let mut flow = self.lock();
        change(&mut flow);
        let waiting = mem::take(&mut flow.waiting);
        waiting.into_iter().flatten().map(|(_, waker)| waker).collect()
    }

    fn poll<R>(
        &self,
        side: Side,
        key: &mut Option<u64>,
        cx: &mut Context<'_>,
        mut op: impl FnMut(&mut Flow) -> Poll<R>,
    ) -> Poll<R> {
        ready!(spend_budget(cx));
        if let Poll::Ready(done) = self.attempt(side, key, None, &mut op) {
            return Poll::Ready(done);
        }
        // Cloned without the lock, and therefore tried once more with it.
        self.attempt(side, key, Some(cx.waker().clone()), &mut op)
    }

    /// Tries, and leaves the waker, if there is one, where it would have to wait.
    fn attempt<R>(
        &self,
        side: Side,
        key: &mut Option<u64>,
        waker: Option<Waker>,
        op: &mut impl FnMut(&mut Flow) -> Poll<R>,
    ) -> Poll<R> {
        let mut flow = self.lock();
        let before = flow.bytes.len();
        let done = op(&mut flow);
        if done.is_pending() && waker.is_none() {
            return done;
        }
        let former = flow.remove(side, *key);
        let (mut unused, mut woken) = (None, Vec::new());
        if done.is_pending() {
            let key = *key.get_or_insert_with(|| flow.new_key());
            flow.waiting[side as usize].extend(waker.map(|waker| (key, waker)));
        } else {
            unused = waker;
            if flow.bytes.len() != before {
                woken = mem::take(&mut flow.waiting[side.other() as usize]);
            }
        }
        drop(flow);
        let mut panics = FirstPanic::default();
        woken.into_iter().for_each(|(_, waker)| panics.note(|| waker.wake()));
        panics.note(|| drop(former));
        panics.note(|| drop(unused));
        panics.resume();
        done
    }
}

impl Side {
    fn other(self) -> Self {
        match self {
            Side::Reader => Side::Writer,
            Side::Writer => Side::Reader,
        }
    }
}

impl Flow {
    /// Takes out what fits into the buffer.
    fn take(&mut self, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.bytes.is_empty() && !self.ended && !buffer.is_empty() {
            return Poll::Pending;
        }
        let count = buffer.len().min(self.bytes.len());
        let (front, back) = self.bytes.as_slices();
        let (first, rest) = buffer[..count].split_at_mut(count.min(front.len()));
        first.copy_from_slice(&front[..first.len()]);
        rest.copy_from_slice(&back[..rest.len()]);
        self.bytes.drain(..count);
        Poll::Ready(Ok(count))
    }

    /// Puts in what there is room for.
    fn put(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if self.ended || self.unread {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = bytes.len().min(self.capacity - self.bytes.len());
        if count == 0 {
            return Poll::Pending;
        }
        self.bytes.extend(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn new_key(&mut self) -> u64 {
        let key = self.keys;
        self.keys += 1;
        key
    }

    fn remove(&mut self, side: Side, key: Option<u64>) -> Option<Waker> {
        let waiting = &mut self.waiting[side as usize];
        let at = waiting.iter().position(|(theirs, _)| Some(*theirs) == key)?;
        Some(waiting.swap_remove(at).1)
    }
}

/// One party that waits. Dropping it takes its waker back.
struct Waiter<'a> {
    lane: &'a Lane,
    side: Side,
    key: Option<u64>,
}

impl<'a> Waiter<'a> {
    fn new(lane: &'a Lane, side: Side) -> Self {
        Waiter { lane, side, key: None }
    }

    fn poll<R>(&mut self, cx: &mut Context<'_>, op: impl FnMut(&mut Flow) -> Poll<R>) -> Poll<R> {
        self.lane.poll(self.side, &mut self.key, cx, op)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if self.key.is_some() {
            let waker = self.lane.lock().remove(self.side, self.key);
            drop(waker);
        }
    }
}
