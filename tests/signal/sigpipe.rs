//! Writing to who is gone, with `SIGPIPE` at its default action, which ends the process. std has it
//! ignored when a program starts, but a program may change that, and a library may not care.
#![allow(unsafe_code, reason = "sends by a system call, and a disposition that std has changed")]

use crate::kit;
use crate::kit::keys;
use keys::set_handler;
use selio::net::{self, TcpListener, TcpStream};
use selio::time::sleep;
use selio::{Async, block_on};
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

pub(crate) fn cases() -> Vec<kit::Case> {
    kit::cases(&[
        ("a_connected_stream_tells_of_it", a_connected_stream),
        ("an_accepted_stream_tells_of_it", an_accepted_stream),
        ("a_stream_taken_in_from_std_tells_of_it", a_stream_from_std),
        ("a_unix_stream_of_ours_tells_of_it", a_unix_stream_of_ours),
        ("other_unix_sockets_tell_of_it", other_unix_sockets),
        ("a_unix_stream_does_as_stds", a_unix_stream_does_as_stds),
        ("other_streams_do_as_stds", other_streams_do_as_stds),
        ("a_pipe_ends_the_process", a_pipe_ends_the_process),
        ("ignored_it_is_an_error_everywhere", ignored_it_is_an_error_everywhere),
        ("_one_write", part_one_write),
    ])
}

/// The ways to write.
const FORMS: [(&str, Form); 7] = [
    ("write", Form::Write),
    ("write_all", Form::WriteAll),
    ("write_vectored", Form::WriteVectored),
    ("write_vectored, many slices", Form::WriteManySlices),
    ("write_with write", Form::WriteWithWrite),
    ("write_with send", Form::WriteWithSend),
    ("flush", Form::Flush),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Write,
    WriteAll,
    WriteVectored,
    WriteManySlices,
    WriteWithWrite,
    WriteWithSend,
    Flush,
}

impl Form {
    /// Whether it comes down to one call of std's `write`.
    fn is_plain(self) -> bool {
        matches!(self, Form::Write | Form::WriteAll | Form::WriteWithWrite)
    }

    async fn apply<T: AsFd>(self, to: &Async<T>) -> io::Result<()>
    where
        for<'a> &'a T: Write,
    {
        let some = [IoSlice::new(b""), IoSlice::new(b"x"), IoSlice::new(b"yz")];
        let many = [IoSlice::new(b"x"); 2000];
        match self {
            Form::Write => to.write(b"x").await.map(drop),
            Form::WriteAll => to.write_all(b"xyz").await,
            Form::WriteVectored => to.write_vectored(&some).await.map(drop),
            Form::WriteManySlices => to.write_vectored(&many).await.map(drop),
            Form::WriteWithWrite => to.write_with(|mut io| io.write(b"x")).await.map(drop),
            Form::WriteWithSend => to.write_with(|io| send(io)).await,
            Form::Flush => to.flush().await,
        }
    }
}

/// What a program does that wants no signal.
fn send(to: &impl AsFd) -> io::Result<()> {
    let (fd, flags) = (to.as_fd().as_raw_fd(), libc::MSG_NOSIGNAL);
    // SAFETY: the buffer is one byte, which lives through the call.
    match unsafe { libc::send(fd, b"x".as_ptr().cast(), 1, flags) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Gives the signal the action that ends the process.
fn let_it_kill() {
    set_handler(libc::SIGPIPE, libc::SIG_DFL, 0);
}

/// Asserts that each form tells of a peer that is gone, and that nobody had to ignore the signal.
fn assert_told(stream_and_peer: impl AsyncFn() -> (TcpStream, std::net::TcpStream)) {
    let_it_kill();
    block_on(async {
        for (name, form) in FORMS.into_iter().filter(|(_, form)| *form != Form::Flush) {
            let (near, far) = stream_and_peer().await;
            drop(far);
            let told = tell(&near, form).await;
            let gone = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
            assert!(gone.contains(&told), "{name}: {told:?}");
            for (again, form) in FORMS {
                let result = form.apply(&near).await.map_err(|error| error.kind());
                let expected =
                    if form == Form::Flush { Ok(()) } else { Err(ErrorKind::BrokenPipe) };
                assert_eq!(result, expected, "{name}, then {again}");
            }
        }
    });
    assert!(kit::disposition(libc::SIGPIPE).is_default());
}

/// Writes until the peer's answer, a reset, has come.
async fn tell(near: &TcpStream, form: Form) -> ErrorKind {
    loop {
        match form.apply(near).await {
            Ok(()) => sleep(Duration::from_millis(1)).await,
            Err(error) => return error.kind(),
        }
    }
}

// F05
fn a_connected_stream() {
    assert_told(async || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().unwrap().0)
    });
}

// F05
fn an_accepted_stream() {
    assert_told(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().await.unwrap().0, far)
    });
}

// F05
fn a_stream_from_std() {
    assert_told(async || {
        let (near, far) = kit::tcp_pair();
        (TcpStream::try_from(near).unwrap(), far)
    });
}

// F05: whichever way `selio::net` has made it.
fn a_unix_stream_of_ours() {
    let_it_kill();
    block_on(async {
        for (name, form) in FORMS {
            let (near, far) = net::UnixStream::pair().unwrap();
            drop(far);
            let mut all = vec![near];
            let address = SocketAddr::from_abstract_name(kit::unique_name("sigpipe")).unwrap();
            let listener = net::UnixListener::bind_addr(&address).unwrap();
            for keeps_client in [true, false] {
                let client = net::UnixStream::connect_addr(&address).await.unwrap();
                let server = listener.accept().await.unwrap().0;
                all.push(if keeps_client { client } else { server });
            }
            for (which, near) in all.iter().enumerate() {
                let result = form.apply(near).await.map_err(|error| error.kind());
                let expected =
                    if form == Form::Flush { Ok(()) } else { Err(ErrorKind::BrokenPipe) };
                assert_eq!(result, expected, "{name}, stream {which}");
            }
        }
    });
    assert!(kit::disposition(libc::SIGPIPE).is_default());
}

// F05: records, datagrams, and descriptors that go along.
fn other_unix_sockets() {
    let_it_kill();
    let (pipe, _writer) = kit::pipe();
    let broken = |result: io::Result<usize>, what: &str| {
        assert_eq!(result.map_err(|error| error.kind()), Err(ErrorKind::BrokenPipe), "{what}");
    };
    block_on(async {
        let (records, far) = net::Seqpacket::pair().unwrap();
        drop(far);
        broken(records.send(b"x").await, "a record");
        broken(records.send_fds(b"x", &[pipe.as_fd()]).await, "a record with a descriptor");
        let (stream, far) = net::UnixStream::pair().unwrap();
        drop(far);
        broken(stream.send_fds(b"x", &[pipe.as_fd()]).await, "bytes with a descriptor");
        let (datagrams, far) = net::UnixDatagram::pair().unwrap();
        far.shutdown(std::net::Shutdown::Read).unwrap();
        broken(datagrams.send(b"x").await, "a datagram");
        broken(datagrams.send_fds(b"x", &[pipe.as_fd()]).await, "a datagram with a descriptor");
    });
}

/// What becomes of a process that writes once, in one form, to who is gone: the signal it dies by,
/// if it does not live on with a `BrokenPipe`.
fn one_write(through: &str, to: &str, form: &str, kills: bool) -> Option<i32> {
    let part = kit::rerun("_one_write").env("THROUGH", through).env("TO", to).env("FORM", form);
    let ended = part.env("KILLS", if kills { "yes" } else { "no" }).run();
    if ended.signal().is_none() {
        ended.assert_success();
    }
    ended.signal()
}

fn part_one_write() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let (through, to, form) = (variable("THROUGH"), variable("TO"), variable("FORM"));
    let (_, form) = FORMS.into_iter().find(|(name, _)| *name == form).unwrap();
    if variable("KILLS") == "yes" {
        let_it_kill();
    }
    let written = match to.as_str() {
        "unix" => {
            let (near, far) = UnixStream::pair().unwrap();
            drop(far);
            write_once(near, &through, form)
        }
        "tcp" => write_once(gone_tcp(), &through, form),
        _ => {
            let (reads, writes) = kit::pipe();
            drop(reads);
            write_once(File::from(writes), &through, form)
        }
    };
    let expected = if form == Form::Flush { Ok(()) } else { Err(ErrorKind::BrokenPipe) };
    assert_eq!(written.map_err(|error| error.kind()), expected);
}

/// A stream whose next write fails, whatever came before.
fn gone_tcp() -> std::net::TcpStream {
    let (near, far) = kit::tcp_pair();
    drop(far);
    near.shutdown(std::net::Shutdown::Write).unwrap();
    near
}

fn write_once<T: AsFd>(io: T, through: &str, form: Form) -> io::Result<()>
where
    for<'a> &'a T: Write,
{
    if through == "selio" {
        return block_on(form.apply(&Async::new(io)?));
    }
    match form.is_plain() {
        true => (&io).write(b"x").map(drop),
        false => (&io).write_vectored(&[IoSlice::new(b"x"), IoSlice::new(b"y")]).map(drop),
    }
}

/// Asserts that selio's forms end the process if and only if std's do; returns whether std's
/// `write` does.
fn assert_as_std(to: &str) -> bool {
    let of_std = |form| one_write("std", to, form, true);
    let (plain, vectored) = (of_std("write"), of_std("write_vectored"));
    for (name, form) in FORMS {
        let expected = match form {
            Form::WriteWithSend | Form::Flush => None,
            form if form.is_plain() => plain,
            _ => vectored,
        };
        assert_eq!(one_write("selio", to, name, true), expected, "{name} to {to}");
    }
    plain.is_some()
}

// F05: std's `write` is harmless since Rust 1.90, and its `write_vectored` is not.
fn a_unix_stream_does_as_stds() {
    assert_as_std("unix");
}

// F05: as a stream is that no constructor of `selio::net` has made.
fn other_streams_do_as_stds() {
    assert!(!assert_as_std("tcp"));
}

// F05
fn a_pipe_ends_the_process() {
    for (name, form) in FORMS.into_iter().filter(|(_, form)| *form != Form::WriteWithSend) {
        let expected = (form != Form::Flush).then_some(libc::SIGPIPE);
        assert_eq!(one_write("selio", "pipe", name, true), expected, "{name}");
    }
}

// F05
fn ignored_it_is_an_error_everywhere() {
    for to in ["unix", "tcp", "pipe"] {
        for (name, form) in FORMS {
            if to != "pipe" || form != Form::WriteWithSend {
                assert_eq!(one_write("selio", to, name, false), None, "{name} to {to}");
            }
        }
    }
}
