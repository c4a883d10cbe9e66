//! Copying between descriptors of all kinds: every byte, the end after the last, and errors that
//! are told.
#![allow(unsafe_code, reason = "urgent data and small buffers are asked for by libc")]

use crate::kit;
use crate::kit::sockets;
use kit::{CountingWaker, poll_once, poll_with, watchdog};
use selio::io::copy;
use selio::net::TcpStream;
use selio::time::{sleep, timeout};
use selio::{Async, block_on, join, race, yield_now};
use sockets::{drain, fill, pair, reset, send_urgent};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

const BYTES: usize = 3_000_017;

fn pattern() -> Vec<u8> {
    (0..BYTES).map(|at| (at % 251) as u8).collect()
}

fn pipe() -> (File, File) {
    let (reader, writer) = kit::pipe();
    (File::from(reader), File::from(writer))
}

/// Copies the pattern from a source that `writer` feeds, piece by piece, to one that `reader`
/// empties.
fn assert_copied<R, W>(
    mut writer: impl Write + Send + 'static,
    from: R,
    to: W,
    reader: impl Read + Send + 'static,
) where
    R: AsFd,
    W: AsFd,
{
    let feed = thread::spawn(move || {
        // The first bytes come alone, the others in pieces of all sizes.
        let (bytes, mut at, mut size) = (pattern(), 0, 1);
        while at < BYTES {
            let end = BYTES.min(at + size);
            writer.write_all(&bytes[at..end]).unwrap();
            (at, size) = (end, size * 3 % 100_003);
        }
    });
    let empty = thread::spawn(move || {
        let (mut reader, mut heard) = (reader, Vec::new());
        reader.read_to_end(&mut heard).unwrap();
        assert!(heard == pattern(), "{} bytes, or others", heard.len());
    });
    let (from, to) = (Async::new(from).unwrap(), Async::new(to).unwrap());
    assert_eq!(block_on(copy(&from, &to)).unwrap(), BYTES as u64);
    feed.join().unwrap();
    drop((from, to));
    empty.join().unwrap();
}

#[test]
fn from_socket_to_socket() {
    let _guard = watchdog(30);
    let (writer, from) = kit::tcp_pair();
    let (to, reader) = kit::tcp_pair();
    assert_copied(writer, from, to, reader);
    let (writer, from) = UnixStream::pair().unwrap();
    let (to, reader) = UnixStream::pair().unwrap();
    assert_copied(writer, from, to, reader);
}

#[test]
fn from_pipe_to_socket_and_back() {
    let _guard = watchdog(30);
    let (from, writer) = pipe();
    let (to, reader) = kit::tcp_pair();
    assert_copied(writer, from, to, reader);
    let (writer, from) = kit::tcp_pair();
    let (reader, to) = pipe();
    assert_copied(writer, from, to, reader);
}

#[test]
fn from_pipe_to_pipe() {
    let _guard = watchdog(30);
    let ((from, writer), (reader, to)) = (pipe(), pipe());
    assert_copied(writer, from, to, reader);
}

#[test]
fn from_file_to_file_from_where_they_stand() {
    let _guard = watchdog(30);
    let (mut from, mut to) = (kit::nameless_file(), kit::nameless_file());
    from.write_all(b"skipped").unwrap();
    from.write_all(&pattern()).unwrap();
    from.seek(std::io::SeekFrom::Start(7)).unwrap();
    to.write_all(b"kept").unwrap();
    let (from, to) = (Async::new(from).unwrap(), Async::new(to).unwrap());
    assert_eq!(block_on(copy(&from, &to)).unwrap(), BYTES as u64);
    let mut to = to.into_inner().unwrap();
    let mut heard = Vec::new();
    to.rewind().unwrap();
    to.read_to_end(&mut heard).unwrap();
    assert!(heard[..4] == *b"kept" && heard[4..] == pattern());
    assert_eq!(
        block_on(copy(&from, &Async::new(kit::nameless_file()).unwrap())).unwrap(),
        0,
        "it is at its end"
    );
}

/// splice(2) takes nothing to a file that is open to append: what is in the pipe has to come out
/// again.
#[test]
fn to_a_file_that_splice_refuses() {
    let _guard = watchdog(30);
    let place = kit::Directory::new();
    let path = place.join("file");
    std::fs::write(&path, "kept").unwrap();
    let append = || File::options().append(true).open(&path).unwrap();
    let (mut writer, from) = UnixStream::pair().unwrap();
    let feed = thread::spawn(move || writer.write_all(&pattern()).unwrap());
    let (from, to) = (Async::new(from).unwrap(), Async::new(append()).unwrap());
    assert_eq!(block_on(copy(&from, &to)).unwrap(), BYTES as u64);
    feed.join().unwrap();
    // A source that is a pipe is spliced without another.
    let (from, mut writer) = pipe();
    writer.write_all(b"and more").unwrap();
    drop(writer);
    assert_eq!(block_on(copy(&Async::new(from).unwrap(), &to)).unwrap(), 8);
    let heard = std::fs::read(&path).unwrap();
    assert!(heard.starts_with(b"kept") && heard.ends_with(b"and more"));
    assert!(heard[4..4 + BYTES] == pattern());
}

#[test]
fn an_end_at_once() {
    let _guard = watchdog(10);
    let (from, far) = pair();
    let (to, heard) = pair();
    drop(far);
    assert_eq!(block_on(copy(&from, &to)).unwrap(), 0);
    assert_eq!(drain(&heard), 0, "nothing was written, and the sink is open");
    let (from, writer) = pipe();
    drop(writer);
    assert_eq!(block_on(copy(&Async::new(from).unwrap(), &to)).unwrap(), 0);
}

#[test]
fn a_sink_that_is_gone() {
    let _guard = watchdog(10);
    let gone = |to: Async<UnixStream>| {
        let (from, mut far) = pair();
        far.write_all(b"lost").unwrap();
        let error = block_on(copy(&from, &to)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    };
    let (to, reader) = pair();
    drop(reader);
    gone(to);
    // The pipe that held the lost bytes serves nobody else.
    let ((from, mut far), (to, mut heard)) = (pair(), pair());
    far.write_all(b"whole").unwrap();
    drop(far);
    assert_eq!(block_on(copy(&from, &to)).unwrap(), 5);
    let mut buffer = [0; 16];
    assert_eq!(heard.read(&mut buffer).unwrap(), 5);
    assert_eq!(&buffer[..5], b"whole");
    // Gone while the copy waits for room.
    let (to, reader) = pair();
    fill(to.get_ref());
    let (from, mut far) = pair();
    far.write_all(b"lost").unwrap();
    let leaves = async {
        sleep(Duration::from_millis(20)).await;
        drop(reader);
    };
    let (copied, ()) = block_on(join(copy(&from, &to), leaves));
    assert_eq!(copied.unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_source_that_breaks_after_some_bytes() {
    let _guard = watchdog(10);
    let (mut far, from) = kit::tcp_pair();
    let (to, mut heard) = pair();
    let from = TcpStream::try_from(from).unwrap();
    far.write_all(b"first").unwrap();
    let breaks = async {
        sleep(Duration::from_millis(20)).await;
        reset(far);
    };
    let (copied, ()) = block_on(join(copy(&from, &to), breaks));
    assert_eq!(copied.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let mut buffer = [0; 16];
    assert_eq!(heard.read(&mut buffer).unwrap(), 5);
    assert_eq!(&buffer[..5], b"first");
}

/// Urgent data between others: the one byte goes its own way, nothing stands still, and what
/// follows is not taken for the end.
fn assert_passes_urgent_data(from: TcpStream, mut far: std::net::TcpStream) {
    let (to, heard) = pair();
    let heard = Async::new(heard).unwrap();
    let speaks = async {
        far.write_all(b"before").unwrap();
        send_urgent(&far, b'!');
        sleep(Duration::from_millis(20)).await;
        far.write_all(b"after").unwrap();
        heard.read_exact(&mut [0; 11]).await.unwrap();
        send_urgent(&far, b'!');
        far.write_all(b"last").unwrap();
        far.shutdown(Shutdown::Write).unwrap();
    };
    let copied = block_on(timeout(Duration::from_secs(5), join(copy(&from, &to), speaks)));
    assert_eq!(copied.expect("nothing hangs").0.unwrap(), 15);
    let mut buffer = [0; 4];
    block_on(heard.read_exact(&mut buffer)).unwrap();
    assert_eq!(&buffer, b"last");
}

#[test]
fn urgent_data_is_passed() {
    let _guard = watchdog(20);
    let (far, from) = kit::tcp_pair();
    assert_passes_urgent_data(TcpStream::try_from(from).unwrap(), far);
    let (far, from) = kit::tcp_pair();
    assert_passes_urgent_data(Async::new(from).unwrap(), far);
}

#[test]
fn urgent_data_before_the_end_to_a_pipe() {
    let _guard = watchdog(10);
    let (mut far, from) = kit::tcp_pair();
    let (mut reader, to) = pipe();
    let (from, to) = (Async::new(from).unwrap(), Async::new(to).unwrap());
    send_urgent(&far, b'!');
    far.write_all(b"last").unwrap();
    drop(far);
    thread::sleep(Duration::from_millis(20));
    assert_eq!(block_on(copy(&from, &to)).unwrap(), 4);
    let mut buffer = [0; 4];
    reader.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"last");
}

#[test]
fn others_run_while_both_sides_are_fast() {
    let _guard = watchdog(20);
    const MIB: u64 = 1 << 20;
    let zeros = kit::nameless_file();
    zeros.set_len(64 * MIB).unwrap();
    let zeros = Async::new(zeros).unwrap();
    let null = Async::new(File::options().write(true).open("/dev/null").unwrap()).unwrap();
    let mut runs = 0;
    let others = async {
        loop {
            runs += 1;
            yield_now().await;
        }
    };
    assert_eq!(block_on(race(copy(&zeros, &null), others)).unwrap(), 64 * MIB);
    assert!(runs >= 64, "{runs} times in 64 MiB");
}

#[test]
fn many_wait_for_slow_readers_at_once() {
    let _guard = watchdog(30);
    const MANY: usize = 30;
    block_on(async {
        let mut copies = Vec::new();
        let mut ends = Vec::new();
        for number in 0..MANY {
            let ((from, far), (to, heard)) = (pair(), pair());
            copies.push(selio::spawn(async move { copy(&from, &to).await }));
            fill(&far);
            ends.push((number, far, heard));
        }
        sleep(Duration::from_millis(20)).await;
        for (number, far, heard) in ends {
            let (far, heard) = (Async::new(far).unwrap(), Async::new(heard).unwrap());
            let mark = format!("the end of {number}");
            let writes = async {
                far.write_all(mark.as_bytes()).await.unwrap();
                far.get_ref().shutdown(Shutdown::Write).unwrap();
            };
            let reads = async {
                let mut all = Vec::new();
                let mut buffer = [0; 10_000];
                loop {
                    match heard.read(&mut buffer).await.unwrap() {
                        0 => return all,
                        got => all.extend_from_slice(&buffer[..got]),
                    }
                }
            };
            let (all, ()) = join(reads, writes).await;
            assert!(all.ends_with(mark.as_bytes()));
            let zeros = all.len() - mark.len();
            assert!(all[..zeros].iter().all(|&byte| byte == 0), "bytes of another");
            let copied = copies.remove(0).await.unwrap().unwrap();
            assert_eq!(copied, all.len() as u64);
        }
    });
}

#[test]
fn a_copy_goes_on_in_another_thread() {
    let _guard = watchdog(10);
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let ((from, mut far), (to, mut heard)) = (pair(), pair());
    let mut copying = Box::pin(is_send(async move { copy(&from, &to).await }));
    let (count, waker) = CountingWaker::new();
    assert!(poll_with(&mut copying, &waker).is_pending());
    let there = thread::spawn(move || block_on(copying));
    far.write_all(b"hello").unwrap();
    drop(far);
    assert_eq!(there.join().unwrap().unwrap(), 5);
    let mut buffer = [0; 16];
    assert_eq!(heard.read(&mut buffer).unwrap(), 5);
    assert_eq!(count.wakers(), 1, "nobody keeps the waker of the first thread");
}

#[test]
fn dropped_while_it_waits() {
    let _guard = watchdog(10);
    let ((from, mut far), (to, mut heard)) = (pair(), pair());
    for _ in 0..10 {
        assert!(poll_once(copy(&from, &to)).is_pending());
    }
    let (count, waker) = CountingWaker::new();
    let mut waits = Box::pin(copy(&from, &to));
    assert!(poll_with(&mut waits, &waker).is_pending());
    drop(waits);
    assert_eq!(count.wakers(), 1);
    // Nothing was read, so nothing is lost.
    far.write_all(b"hello").unwrap();
    drop(far);
    assert_eq!(block_on(copy(&from, &to)).unwrap(), 5);
    let mut buffer = [0; 16];
    assert_eq!(heard.read(&mut buffer).unwrap(), 5);
}
