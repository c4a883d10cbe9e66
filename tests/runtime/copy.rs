//! Copies and files sent where system calls are refused, counted, or raise signals.
#![allow(unsafe_code, reason = "signals to one thread, and what std cannot ask of a socket")]

use crate::kit;
use crate::kit::keys;
use crate::kit::sockets;
use keys::set_handler;
use kit::case;
use selio::io::{copy, sendfile};
use selio::net::{TcpListener, TcpStream};
use selio::time::{sleep, timeout};
use selio::{Async, block_on, join};
use sockets::{fill, pair};
use std::fs::File;
use std::future::Future;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

pub(crate) fn cases() -> Vec<kit::Case> {
    [refusal_cases(), sigpipe_cases(), counted_cases()].concat()
}

fn refusal_cases() -> Vec<kit::Case> {
    vec![
        case("without_splice", every_byte_of_each).first(|| refuse_splice(libc::ENOSYS)),
        case("where_splice_is_forbidden", every_byte_of_each).first(|| refuse_splice(libc::EPERM)),
        case("without_room_for_pipes", every_byte_of_each).first(without_room),
        case("without_large_pipes", every_byte_of_each).first(without_large_pipes),
        case("with_splice", every_byte_of_each),
        case("splice_is_refused_in_midway", refused_in_midway),
        case("sendfile_is_refused", sendfile_is_refused),
    ]
}

fn sigpipe_cases() -> Vec<kit::Case> {
    let spared = |name, first| case(name, told_and_spared).first(first);
    vec![
        spared("sigpipe_at_its_default_spares", || {}),
        spared("sigpipe_spares_without_splice", || {
            refuse_splice(libc::ENOSYS);
            kit::refuse(&[(libc::SYS_sendfile, libc::ENOSYS)]);
        }),
        case("sigpipe_that_is_pending_stays", a_pending_sigpipe_stays),
        case("sigpipe_ignored_costs_nothing", ignored_costs_nothing),
        case("_copies_with_it_ignored", part_copies_with_it_ignored),
    ]
}

fn counted_cases() -> Vec<kit::Case> {
    vec![
        case("a_copy_that_waits_is_quiet", a_copy_that_waits_is_quiet),
        case("pipes_are_few", pipes_are_few),
        case("dropped_with_bytes_on_their_way", dropped_with_bytes_on_their_way),
        case("a_forked_child_has_pipes_of_its_own", a_forked_child_has_pipes_of_its_own),
        case("a_message_costs_few_calls", a_message_costs_few_calls),
        case("_passes_messages", part_passes_messages),
        case("what_has_come_since_a_splice_is_spliced", what_has_come_since),
        case("_copies_what_is_there", part_copies_what_is_there),
        case("a_pipe_is_spliced_whoever_is_slow", a_pipe_is_spliced),
        case("_splices_a_pipe", part_splices_a_pipe),
    ]
}

fn refuse_splice(errno: i32) {
    kit::refuse(&[(libc::SYS_splice, errno)]);
}

fn without_room() {
    // What the cases themselves need comes first: no pipe of theirs is made later.
    kit::refuse(&[(libc::SYS_pipe2, libc::EMFILE)]);
}

fn without_large_pipes() {
    kit::refuse_when(libc::SYS_fcntl, 1, libc::F_SETPIPE_SZ as u32, libc::EPERM);
}

fn soon<T>(future: impl Future<Output = T>) -> T {
    block_on(timeout(Duration::from_secs(8), future)).expect("nothing hangs")
}

const BYTES: usize = 1_500_007;

fn pattern() -> Vec<u8> {
    (0..BYTES).map(|at| (at % 251) as u8).collect()
}

/// What comes of a copy whose source has the pattern, and whose reader is slow to begin.
async fn assert_copied<T: AsFd>(far: Async<T>, from: Async<T>, to: Async<T>, heard: Async<T>)
where
    for<'a> &'a T: Read + Write,
{
    let writes = async {
        far.write_all(&pattern()).await.unwrap();
        drop(far);
    };
    let copies = async {
        let copied = copy(&from, &to).await;
        drop(to);
        copied
    };
    let reads = async {
        sleep(Duration::from_millis(20)).await;
        let (mut all, mut buffer) = (Vec::new(), vec![0; 30_000]);
        loop {
            match heard.read(&mut buffer).await.unwrap() {
                0 => return all,
                got => all.extend_from_slice(&buffer[..got]),
            }
        }
    };
    let (((), copied), all) = join(join(writes, copies), reads).await;
    assert_eq!(copied.unwrap(), BYTES as u64);
    assert!(all == pattern(), "{} bytes, or others", all.len());
}

fn every_byte_of_each() {
    let stream = |stream| Async::new(stream).unwrap();
    let file = |fd| Async::new(File::from(fd)).unwrap();
    let ((far, from), (to, heard)) = (kit::tcp_pair(), kit::tcp_pair());
    soon(assert_copied(stream(far), stream(from), stream(to), stream(heard)));
    let (far, from) = UnixStream::pair().unwrap();
    let (to, heard) = UnixStream::pair().unwrap();
    let fd = std::os::fd::OwnedFd::from;
    soon(assert_copied(file(fd(far)), file(fd(from)), file(fd(to)), file(fd(heard))));
    // A copy that needs a pipe of the case's own is for those cases that may have one.
    if let Some(((from, far), (heard, to))) = try_pipe().zip(try_pipe()) {
        soon(assert_copied(file(far), file(from), file(to), file(heard)));
    }
}

/// A pipe, by the older call, if that is not refused as well.
fn try_pipe() -> Option<(std::os::fd::OwnedFd, std::os::fd::OwnedFd)> {
    use std::os::fd::FromRawFd;
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two descriptors.
    if unsafe { libc::pipe(ends.as_mut_ptr()) } == -1 {
        return None;
    }
    // SAFETY: the kernel has just made it, and nobody else owns it.
    let reader = unsafe { std::os::fd::OwnedFd::from_raw_fd(ends[0]) };
    // SAFETY: as above.
    Some((reader, unsafe { std::os::fd::OwnedFd::from_raw_fd(ends[1]) }))
}

/// Bytes stand in a pipe of the copy's own, since the sink is full, when splice is refused.
fn refused_in_midway() {
    let ((from, mut far), (to, heard)) = (pair(), pair());
    fill(to.get_ref());
    let full = sockets_content(&heard);
    far.write_all(b"in the pipe, ").unwrap();
    soon(async {
        let copying = selio::spawn(async move { copy(&from, &to).await });
        sleep(Duration::from_millis(20)).await;
        assert_eq!(sockets_content(&far), 0, "the copy has taken it");
        refuse_splice(libc::ENOSYS);
        far.write_all(b"and after it").unwrap();
        drop(far);
        let heard = Async::new(heard).unwrap();
        let mut zeros = vec![0; full];
        heard.read_exact(&mut zeros).await.unwrap();
        let mut rest = [0; 25];
        heard.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"in the pipe, and after it");
        assert_eq!(copying.await.unwrap().unwrap(), 25);
    });
}

/// How much of what this end has sent is not read yet, or what it has to read, if that is more.
fn sockets_content(stream: &UnixStream) -> usize {
    use std::os::fd::AsRawFd;
    let mut unread: libc::c_int = 0;
    // SAFETY: the call writes one `int`, which outlives it.
    let returned = unsafe { libc::ioctl(stream.as_raw_fd(), libc::FIONREAD, &raw mut unread) };
    assert_eq!(returned, 0, "FIONREAD");
    usize::try_from(unread).unwrap()
}

/// A file without a name, with the pattern in it.
fn pattern_file() -> File {
    let mut file = kit::nameless_file();
    file.write_all(&pattern()).unwrap();
    file
}

fn sendfile_is_refused() {
    kit::refuse(&[(libc::SYS_sendfile, libc::ENOSYS)]);
    let file = pattern_file();
    let (to, heard) = pair();
    let heard = Async::new(heard).unwrap();
    soon(async {
        let mut all = vec![0; BYTES - 7];
        let (sent, read) = join(sendfile(&file, 7.., &to), heard.read_exact(&mut all)).await;
        read.unwrap();
        assert_eq!(sent.unwrap(), (BYTES - 7) as u64);
        assert!(all == pattern()[7..]);
        let mut few = [0; 5];
        let (sent, read) = join(sendfile(&file, 3..8, &to), heard.read_exact(&mut few)).await;
        read.unwrap();
        assert_eq!((sent.unwrap(), &few[..]), (5, &pattern()[3..8]));
    });
}

/// Whether a signal is pending for this thread or the process.
fn is_pending(signo: i32) -> bool {
    let pending = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let set = |name: &str| {
        let line = pending.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    (set("SigPnd:") | set("ShdPnd:")) >> (signo - 1) & 1 == 1
}

fn gone_tcp() -> TcpStream {
    let (near, far) = kit::tcp_pair();
    drop(far);
    near.shutdown(Shutdown::Write).unwrap();
    TcpStream::try_from(near).unwrap()
}

fn gone_unix() -> Async<UnixStream> {
    let (near, far) = pair();
    drop(far);
    near
}

fn gone_pipe() -> Async<File> {
    let (reader, writer) = kit::pipe();
    drop(reader);
    Async::new(File::from(writer)).unwrap()
}

/// Copies to who is gone from a socket and from a pipe, and sends a file.
async fn assert_told<W: AsFd>(gone: Async<W>) {
    let is_told = |result: io::Result<u64>| {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert!(!is_pending(libc::SIGPIPE) && kit::signal_mask().is_empty());
    };
    let (from, mut far) = pair();
    far.write_all(b"lost").unwrap();
    is_told(copy(&from, &gone).await);
    let (from, far) = kit::pipe();
    File::from(far).write_all(b"lost").unwrap();
    is_told(copy(&Async::new(File::from(from)).unwrap(), &gone).await);
    is_told(sendfile(&pattern_file(), .., &gone).await);
}

// F05
fn told_and_spared() {
    set_handler(libc::SIGPIPE, libc::SIG_DFL, 0);
    soon(async {
        assert_told(gone_tcp()).await;
        assert_told(gone_unix()).await;
        assert_told(gone_pipe()).await;
    });
    assert!(kit::disposition(libc::SIGPIPE).is_default());
}

// F05
fn a_pending_sigpipe_stays() {
    set_handler(libc::SIGPIPE, libc::SIG_DFL, 0);
    kit::block_signal(libc::SIGPIPE);
    let (from, mut far) = pair();
    far.write_all(b"lost").unwrap();
    assert!(soon(copy(&from, &gone_unix())).is_err());
    assert!(!is_pending(libc::SIGPIPE), "ours was taken");
    // SAFETY: a signal to this thread, which blocks it.
    assert_eq!(unsafe { libc::raise(libc::SIGPIPE) }, 0);
    far.write_all(b"lost").unwrap();
    assert!(soon(copy(&from, &gone_unix())).is_err());
    assert!(is_pending(libc::SIGPIPE), "theirs was not");
    assert_eq!(kit::signal_mask(), [libc::SIGPIPE]);
}

fn ignored_costs_nothing() {
    let Some((ended, trace)) = kit::rerun("_copies_with_it_ignored").strace() else {
        kit::pass_over("strace is missing or not permitted");
    };
    ended.assert_success();
    let trace = trace.between("begin", "end");
    assert!(trace.count("splice") > 20 && trace.count("sendfile") > 0);
    assert_eq!(trace.count("rt_sigaction"), 3, "one look for each");
    for call in ["rt_sigprocmask", "rt_sigpending", "rt_sigtimedwait"] {
        assert_eq!(trace.count(call), 0, "{call}");
    }
}

fn part_copies_with_it_ignored() {
    kit::mark("begin");
    let (far, from) = selio::net::UnixStream::pair().unwrap();
    let (to, heard) = selio::net::UnixStream::pair().unwrap();
    soon(assert_copied(far, from, to, heard));
    let file = pattern_file();
    for _ in 0..2 {
        let null = File::options().write(true).open("/dev/null").unwrap();
        soon(sendfile(&file, .., &Async::new(null).unwrap())).unwrap();
    }
    kit::mark("end");
}

/// No CPU time goes by while a future waits.
fn assert_waits_quietly<T: std::fmt::Debug>(future: impl Future<Output = T>) {
    let waits = || block_on(timeout(Duration::from_millis(200), future));
    kit::assert_quiet(waits).expect_err("it waits");
}

fn a_copy_that_waits_is_quiet() {
    // Nothing comes.
    let ((from, _far), (to, _heard)) = (pair(), pair());
    assert_waits_quietly(copy(&from, &to));
    let (reader, _writer) = kit::pipe();
    let reader = Async::new(File::from(reader)).unwrap();
    assert_waits_quietly(copy(&reader, &to));
    // Something comes, and there is no room.
    fill(to.get_ref());
    let ((from, mut far), (reader, writer)) = (pair(), kit::pipe());
    far.write_all(b"waits").unwrap();
    assert_waits_quietly(copy(&from, &to));
    File::from(writer.try_clone().unwrap()).write_all(b"waits").unwrap();
    let reader = Async::new(File::from(reader)).unwrap();
    assert_waits_quietly(copy(&reader, &to));
    kit::set_nonblocking(&writer, true);
    while File::from(writer.try_clone().unwrap()).write(&[0; 4096]).is_ok() {}
    far.write_all(b"waits").unwrap();
    let writer = Async::new(File::from(writer)).unwrap();
    assert_waits_quietly(copy(&from, &writer));
}

fn open_pipes() -> Vec<(i32, String)> {
    let mut fds = kit::open_fds();
    fds.retain(|(number, name)| *number > 2 && name.starts_with("pipe:"));
    fds
}

fn pipes_are_few() {
    let before = open_pipes().len();
    block_on(async {
        let mut ends = Vec::new();
        for _ in 0..100 {
            let ((from, mut far), (to, heard)) = (pair(), pair());
            far.write_all(b"a word").unwrap();
            let copying = selio::spawn(async move { copy(&from, &to).await });
            ends.push((far, heard, copying));
        }
        sleep(Duration::from_millis(20)).await;
        for (_, heard, _) in &ends {
            assert_eq!(sockets_content(heard), 6);
        }
        // A hundred are under way, and none of them has anything to move.
        assert!(open_pipes().len() <= before + 8, "{:?}", open_pipes());
        for (far, heard, copying) in ends {
            drop(far);
            assert_eq!(copying.await.unwrap().unwrap(), 6);
            drop(heard);
        }
    });
    assert!(open_pipes().len() <= before + 8);
}

fn dropped_with_bytes_on_their_way() {
    let (to, _heard) = pair();
    fill(to.get_ref());
    let before = open_pipes().len();
    for _ in 0..20 {
        let (from, mut far) = pair();
        far.write_all(b"lost").unwrap();
        let waits = timeout(Duration::from_millis(1), copy(&from, &to));
        block_on(waits).expect_err("there is no room");
        assert_eq!(sockets_content(&far), 0, "it was on its way");
    }
    assert!(open_pipes().len() <= before + 8);
    // What was lost does not turn up elsewhere.
    let ((from, mut far), (to, mut heard)) = (pair(), pair());
    far.write_all(b"whole").unwrap();
    drop(far);
    assert_eq!(soon(copy(&from, &to)).unwrap(), 5);
    let mut buffer = [0; 16];
    assert_eq!(heard.read(&mut buffer).unwrap(), 5);
    assert_eq!(&buffer[..5], b"whole");
}

/// Copies something, through a pipe that then is idle.
fn use_a_pipe() {
    let ((from, mut far), (to, _heard)) = (pair(), pair());
    far.write_all(b"a word").unwrap();
    drop(far);
    assert_eq!(soon(copy(&from, &to)).unwrap(), 6);
}

fn a_forked_child_has_pipes_of_its_own() {
    use_a_pipe();
    let inherited = open_pipes();
    assert!(!inherited.is_empty());
    let child = kit::in_child(|| {
        use_a_pipe();
        assert!(open_pipes().len() > inherited.len(), "the parent's serve the parent");
    });
    assert!(kit::wait_status(child).success());
}

const MESSAGES: usize = 100;

fn a_message_costs_few_calls() {
    let Some((ended, trace)) = kit::rerun("_passes_messages").strace() else {
        kit::pass_over("strace is missing or not permitted");
    };
    ended.assert_success();
    let trace = trace.between("begin", "end");
    // In, out, and the one that finds no more.
    assert!(trace.count("splice") <= 3 * MESSAGES + 3, "{}", trace.count("splice"));
    let others = ["pipe2", "poll", "epoll_ctl", "fcntl", "close", "read", "write", "rt_sigaction"];
    for call in others {
        assert_eq!(trace.count(call), 0, "{call}");
    }
}

fn part_passes_messages() {
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, accept) = (listener.local_addr().unwrap(), async || listener.accept().await);
        let (far, from) = join(TcpStream::connect(at), accept()).await;
        let (to, heard) = join(TcpStream::connect(at), accept()).await;
        let (far, from, to, heard) = (far.unwrap(), from.unwrap().0, to.unwrap(), heard.unwrap().0);
        let pass = async || {
            far.write_all(b"a message").await.unwrap();
            heard.read_exact(&mut [0; 9]).await.unwrap();
        };
        selio::spawn(async move { copy(&from, &to).await });
        pass().await;
        kit::mark("begin");
        for _ in 0..MESSAGES {
            pass().await;
        }
        kit::mark("end");
    });
}

/// The first splice finds nothing, and then there is something: that it is not urgent is seen by
/// another one.
fn what_has_come_since() {
    let inject = ["-e", "inject=splice:error=EAGAIN:when=1"];
    let Some((ended, trace)) = kit::rerun("_copies_what_is_there").strace_with(&inject) else {
        kit::pass_over("strace is missing or not permitted");
    };
    ended.assert_success();
    let trace = trace.between("begin", "end");
    assert_eq!(trace.count("poll"), 1, "it asks");
    assert_eq!(trace.count("read"), 1, "the one that tells the end");
}

fn part_copies_what_is_there() {
    let ((mut far, from), (to, mut heard)) = (kit::tcp_pair(), kit::tcp_pair());
    let (from, to) = (Async::new(from).unwrap(), Async::new(to).unwrap());
    far.write_all(b"a message").unwrap();
    drop(far);
    kit::mark("begin");
    assert_eq!(soon(copy(&from, &to)).unwrap(), 9);
    kit::mark("end");
    heard.read_exact(&mut [0; 9]).unwrap();
}

fn a_pipe_is_spliced() {
    let Some((ended, trace)) = kit::rerun("_splices_a_pipe").strace() else {
        kit::pass_over("strace is missing or not permitted");
    };
    ended.assert_success();
    let trace = trace.between("begin", "end");
    assert!(trace.count("splice") > 10);
    assert_eq!(trace.count("read"), 1, "the one that tells the end");
    assert_eq!(trace.count("pipe2"), 0);
}

/// First the source is slow, and then the sink.
fn part_splices_a_pipe() {
    let (from, far) = kit::pipe();
    let file = |fd| Async::new(File::from(fd)).unwrap();
    let (from, far) = (file(from), file(far));
    let (to, heard) = selio::net::UnixStream::pair().unwrap();
    kit::mark("begin");
    soon(async {
        let writes = async {
            far.write_all(&[1; 1000]).await.unwrap();
            sleep(Duration::from_millis(20)).await;
            far.write_all(&[2; 1_000_000]).await.unwrap();
            drop(far);
        };
        let reads = async {
            heard.read_exact(&mut [0; 1000]).await.unwrap();
            sleep(Duration::from_millis(50)).await;
            heard.read_exact(&mut vec![0; 1_000_000]).await.unwrap();
        };
        let (copied, _) = join(copy(&from, &to), join(writes, reads)).await;
        assert_eq!(copied.unwrap(), 1_001_000);
    });
    kit::mark("end");
}
