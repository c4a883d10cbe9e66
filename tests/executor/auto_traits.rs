//! Which public types may cross threads, and which may not: asserted by the compiler.
//!
//! A table row is an array of constants that the compiler works out; a wrong one fails the build of
//! this file with the row's line.

use selio::event::{Event, Trigger};
use selio::io::{Duplex, ReadHalf, ReuniteError, StandardInput, StandardOutput, WriteHalf};
use selio::net::{
    Credentials, Incoming, PathListener, Received, Seqpacket, SeqpacketListener, SocketOptions,
    TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener,
};
use selio::process::{Child, Command, Pipe, Usage, exited, reap_orphans};
use selio::selector::{Events, Poller, RawEvents, ReadyKey, SelectEvent, Selector, SignalInfo};
use selio::signal::Signals;
use selio::time::{Elapsed, MissedTicks, Sleep, Timeout, TimerSlack};
use selio::{Async, Driver, Handle, JoinError, JoinHandle, Spin, Timer, Unblock};
use std::cell::Cell;
use std::future::Future;
use std::marker::{PhantomData, PhantomPinned};
use std::os::unix::net::UnixStream;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::task::Waker;

/// Answers for a type: the inherent constants, which ask for a bound, come before the trait's of
/// the same names.
struct Ask<T: ?Sized>(PhantomData<T>);

trait No {
    const SEND: bool = false;
    const SYNC: bool = false;
    const UNPIN: bool = false;
}

impl<T: ?Sized> No for Ask<T> {}

impl<T: ?Sized + Send> Ask<T> {
    const SEND: bool = true;
}

impl<T: ?Sized + Sync> Ask<T> {
    const SYNC: bool = true;
}

impl<T: ?Sized + Unpin> Ask<T> {
    const UNPIN: bool = true;
}

/// `Send`, `Sync`, `Unpin`, as the table's columns.
macro_rules! traits {
    ($($type:ty => $send:literal $sync:literal $unpin:literal,)+) => {
        $(const _: () = {
            assert!(Ask::<$type>::SEND == $send, concat!("Send: ", stringify!($type)));
            assert!(Ask::<$type>::SYNC == $sync, concat!("Sync: ", stringify!($type)));
            assert!(Ask::<$type>::UNPIN == $unpin, concat!("Unpin: ", stringify!($type)));
        };)+
    };
}

/// `Send` and not `Sync`; neither; `Sync` and not `Send`; all but `Unpin`.
type NotSync = Cell<u8>;
type Neither = Rc<u8>;
type NotSend = std::sync::MutexGuard<'static, u8>;
type Pinned = (u8, PhantomPinned);

// H03
traits! {
    // The table itself, on types whose answers are known.
    u8 => true true true,
    NotSync => true false true,
    Neither => false false true,
    NotSend => false true true,
    Pinned => true true false,

    // What holds something of the user's is what that is.
    Async<UnixStream> => true true true,
    Async<NotSync> => true false true,
    Async<Neither> => false false true,
    Async<NotSend> => false true true,
    Async<Pinned> => true true false,
    Timeout<u8> => true true true,
    Timeout<Neither> => false false true,
    Timeout<Pinned> => true true false,
    ReadHalf<NotSync> => false false true,
    ReadHalf<UnixStream> => true true true,
    WriteHalf<UnixStream> => true true true,
    ReuniteError<UnixStream> => true true true,

    Selector<u8> => true true true,
    Selector<NotSync> => true false true,
    Selector<Neither> => false false true,
    Selector<NotSend> => false true true,

    // A guard of its thread.
    Spin => false false true,

    // A loop stays on its thread, whatever it runs.
    Driver<std::future::Ready<u8>> => false false true,

    // What comes from another thread is taken by who awaits it.
    Unblock<u8> => true true true,
    Unblock<NotSync> => true true true,

    // A handle gives the output away, wherever it is polled or dropped; it is never shared by two
    // at once.
    JoinHandle<u8> => true true true,
    JoinHandle<NotSync> => true true true,
    JoinHandle<Neither> => false false true,
    JoinHandle<NotSend> => false false true,
    JoinHandle<Pinned> => true true true,

    // The crate's own objects go anywhere.
    JoinError => true true true,
    Timer => true true true,
    TimerSlack => false false true,
    MissedTicks => true true true,
    Sleep => true true true,
    Elapsed => true true true,
    TcpListener => true true true,
    TcpStream => true true true,
    Incoming<'static> => true true true,
    UdpSocket => true true true,
    UnixListener => true true true,
    UnixDatagram => true true true,
    PathListener => true true true,
    Seqpacket => true true true,
    SeqpacketListener => true true true,
    SocketOptions => true true true,
    Credentials => true true true,
    Received => true true true,
    Duplex => true true true,
    StandardInput => true true true,
    StandardOutput => true true true,
    Event => true true true,
    Trigger => true true true,
    Handle => true true true,
    Command => true true true,
    Child => true true true,
    Pipe => true true true,
    Usage => true true true,
    Poller => true true true,
    RawEvents => true true true,
    Events => true true true,
    ReadyKey => true true true,
    SelectEvent => true true true,
    SignalInfo => true true true,
    Signals => true true true,
    Waker => true true true,
}

/// Checks what the type checker infers for futures without a name, and that errors are what `?` and
/// `Box<dyn Error>` need.
fn is_send<T: Send>(it: T) -> T {
    it
}

/// The same of a future that may be kept in a static, and polled on any thread.
fn is_everywhere<T: Send + Sync + 'static>(it: T) -> T {
    it
}

fn is_error<T: std::error::Error + Send + Sync + 'static>() {}

/// What std's handles of threads are, too.
fn is_unwind_safe<T: UnwindSafe + RefUnwindSafe>() {}

#[test]
fn handles_may_be_awaited_where_a_panic_is_caught() {
    is_unwind_safe::<JoinHandle<u8>>();
    is_unwind_safe::<JoinHandle<Rc<u8>>>();
    is_unwind_safe::<JoinError>();
    is_unwind_safe::<selio::Handle>();
}

// H03
#[test]
fn futures_of_the_objects_are_send() {
    is_error::<JoinError>();
    is_error::<Elapsed>();
    let (near, _far) = UnixStream::pair().unwrap();
    let near = Async::new(near).unwrap();
    let mut buffer = [0; 1];
    drop(is_send(near.readable()));
    drop(is_send(near.writable()));
    drop(is_send(near.read(&mut buffer)));
    drop(is_send(near.write_all(b"x")));
    drop(is_send(Timer::never().next()));
    drop(is_send(Signals::new([]).unwrap().next()));
    drop(is_everywhere(selio::signal::ctrl_c()));
    drop(is_everywhere(selio::signal::shutdown()));
    drop(is_send(selio::yield_now()));
    drop(is_send(selio::time::timeout(std::time::Duration::ZERO, near.flush())));
    drop(is_send(TcpStream::connect("127.0.0.1:1")));
    drop(is_send(TcpListener::bind("127.0.0.1:0")));
}

// H03
#[test]
fn futures_of_processes_are_send() {
    let mut command = Command::new("true");
    let mut child = command.spawn().unwrap();
    is_static(is_send(exited(child.id())));
    is_static(is_send(child.status()));
    drop(is_send(child.terminate(std::time::Duration::ZERO)));
    is_static(is_send(child.output()));
    is_static(is_send(command.status()));
    is_static(is_send(command.output()));
    is_static(is_send(command.spawn().unwrap().output()));
    // It is what its function is.
    is_static(is_send(reap_orphans(|_| false)));
    let shared = Rc::new(false);
    is_static(reap_orphans(move |_| *shared));
}

/// Drops what borrows nothing.
fn is_static<T: 'static>(_: T) {}

/// A future that is none of `Send`, `Sync` and `Unpin`, and whose output is none either.
fn awkward() -> impl Future<Output = (Rc<u8>, PhantomPinned)> {
    let shared = Rc::new(1);
    async move {
        let kept = Rc::clone(&shared);
        selio::yield_now().await;
        (kept, PhantomPinned)
    }
}

// H03
#[test]
fn spawned_futures_and_outputs_need_not_be_send() {
    selio::block_on(async {
        let (output, _) = selio::spawn(awkward()).await.unwrap();
        assert_eq!(*output, 1);
        // Nor need what a call borrows live for ever: only tasks do.
        let local = 7;
        let it = &local;
        assert_eq!(selio::block_on(async { *it }), 7);
    });
}

// H18
#[test]
fn an_object_that_must_not_move_can_be_awaited() {
    struct Socket(UnixStream, PhantomPinned);
    impl std::os::fd::AsFd for Socket {
        fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
    let (near, far) = UnixStream::pair().unwrap();
    let near = Box::pin(Async::new(Socket(near, PhantomPinned)).unwrap());
    drop(far);
    selio::block_on(near.readable()).unwrap();
}
