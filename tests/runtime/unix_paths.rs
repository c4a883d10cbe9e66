//! Unix sockets where processes, limits and directories come in: descriptors that are passed, and
//! paths that are owned.

use crate::kit;
use selio::block_on;
use selio::net::{PathListener, Seqpacket, SeqpacketListener, UnixDatagram, UnixStream};
use selio::time::{sleep, timeout};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(5);

pub(crate) fn cases() -> Vec<kit::Case> {
    kit::cases(&[
        ("descriptors_go_to_another_process", to_another_process),
        ("descriptors_are_close_on_exec", close_on_exec),
        ("messages_do_not_run_into_each_other", messages_keep_apart),
        ("many_descriptors_at_once", many_at_once),
        ("descriptors_without_room_are_told", without_room),
        ("descriptors_that_nobody_takes_are_closed", nobody_takes_them),
        ("records_keep_their_boundaries", records),
        ("records_that_do_not_fit_are_told", records_that_do_not_fit),
        ("a_full_queue_of_records_is_waited_for", full_of_records),
        ("a_connection_of_records_waits_for_room", full_backlog),
        ("a_stale_path_is_replaced", stale_path),
        ("a_living_server_keeps_its_path", living_server),
        ("what_is_no_socket_is_left_alone", no_socket),
        ("a_path_that_was_taken_over_is_left_alone", taken_over),
        ("a_forked_child_takes_no_path_away", forked_child),
        ("a_path_in_the_current_directory", current_directory),
        ("one_of_many_starters_wins", many_starters),
        ("a_locked_directory_is_waited_for", locked_directory),
    ])
}

/// A path for a socket, in a directory of its own.
struct Place(kit::Directory);

impl Place {
    fn new() -> Self {
        Self(kit::Directory::new())
    }

    fn path(&self) -> PathBuf {
        self.0.join("socket")
    }
}

fn borrow<'a>(fds: &'a [OwnedFd]) -> Vec<BorrowedFd<'a>> {
    fds.iter().map(AsFd::as_fd).collect()
}

fn to_another_process() {
    let (near, far) = UnixStream::pair().unwrap();
    let (reader, writer) = kit::pipe();
    let child = kit::in_child(|| {
        block_on(async {
            let mut byte = [0];
            let mut received = timeout(LONG, far.recv_fds(&mut byte)).await.unwrap().unwrap();
            assert_eq!((received.length, received.descriptors.len()), (1, 1));
            File::from(received.descriptors.remove(0)).write_all(b"from the child").unwrap();
        });
    });
    drop(far);
    assert_eq!(block_on(near.send_fds(b"x", &[writer.as_fd()])).unwrap(), 1);
    drop(writer);
    let mut heard = String::new();
    File::from(reader).read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "from the child");
    assert!(kit::wait_status(child).success());
}

fn close_on_exec() {
    block_on(async {
        let (reader, writer) = kit::pipe();
        let (near, far) = UnixDatagram::pair().unwrap();
        near.send_fds(b"", &[reader.as_fd(), writer.as_fd()]).await.unwrap();
        let received = far.recv_fds(&mut [0; 8]).await.unwrap();
        assert_eq!((received.length, received.descriptors_lost), (0, false));
        for fd in &received.descriptors {
            let info = kit::fdinfo(fd.as_raw_fd());
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
            let flags = u32::from_str_radix(flags.trim(), 8).unwrap();
            assert_ne!(flags & libc::O_CLOEXEC as u32, 0);
        }
        let mut writer = File::from(kit::dup(&received.descriptors[1]));
        writer.write_all(b"in order").unwrap();
        let mut heard = [0; 8];
        File::from(kit::dup(&received.descriptors[0])).read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"in order");
    });
}

// A34
fn messages_keep_apart() {
    block_on(async {
        let (near, far) = UnixStream::pair().unwrap();
        let (reader, writer) = kit::pipe();
        let before = kit::open_fds().len();
        near.send_fds(b"A", &[reader.as_fd()]).await.unwrap();
        near.write_all(b"BBBB").await.unwrap();
        near.send_fds(b"CC", &[writer.as_fd(), reader.as_fd()]).await.unwrap();
        let mut buffer = [0; 64];
        let mut seen = Vec::new();
        while seen.iter().map(|(length, _)| length).sum::<usize>() < 7 {
            let received = timeout(LONG, far.recv_fds(&mut buffer)).await.unwrap().unwrap();
            seen.push((received.length, received.descriptors.len()));
        }
        assert_eq!(seen, [(1, 1), (6, 2)], "with what came before, not with what comes after");
        assert_eq!(kit::open_fds().len(), before, "what was received was dropped");
        let nothing = near.send_fds(b"", &[reader.as_fd()]).await.unwrap_err();
        assert_eq!(nothing.kind(), ErrorKind::InvalidInput);
        drop(near);
        assert_eq!(far.recv_fds(&mut buffer).await.unwrap().length, 0, "the end");
    });
}

fn many_at_once() {
    kit::set_nofile_limit(1_024);
    block_on(async {
        let (near, far) = Seqpacket::pair().unwrap();
        let (reader, _writer) = kit::pipe();
        let fds: Vec<OwnedFd> = (0..254).map(|_| kit::dup(&reader)).collect();
        let fds = borrow(&fds);
        let too_many = near.send_fds(b"x", &fds).await.unwrap_err();
        assert_eq!(too_many.kind(), ErrorKind::InvalidInput, "{too_many}");
        near.send_fds(b"x", &fds[..253]).await.unwrap();
        let received = timeout(LONG, far.recv_fds(&mut [0; 1])).await.unwrap().unwrap();
        assert_eq!((received.length, received.descriptors.len()), (1, 253));
        assert!(!received.descriptors_lost);
    });
}

fn without_room() {
    block_on(async {
        let (near, far) = UnixStream::pair().unwrap();
        // The reactor has what it needs.
        assert!(timeout(Duration::from_millis(1), far.recv_fds(&mut [0])).await.is_err());
        let (reader, writer) = kit::pipe();
        near.send_fds(b"xyz", &[reader.as_fd(), writer.as_fd()]).await.unwrap();
        let highest = kit::open_fds().last().unwrap().0 as u64;
        let before = kit::set_nofile_limit(highest + 2);
        let open = kit::open_fds();
        let received = far.recv_fds(&mut [0; 8]).await.unwrap();
        assert_eq!((received.length, received.descriptors.len()), (3, 1), "the bytes are there");
        assert!(received.descriptors_lost);
        drop(received);
        assert_eq!(kit::open_fds(), open);
        kit::set_nofile_limit(before);
    });
}

fn nobody_takes_them() {
    block_on(async {
        let before = kit::open_fds();
        let (near, far) = UnixStream::pair().unwrap();
        let (reader, writer) = kit::pipe();
        near.send_fds(b"x", &[writer.as_fd()]).await.unwrap();
        drop(writer);
        // A receive that is given up takes nothing with it.
        drop(far.recv_fds(&mut [0; 1]));
        near.send_fds(b"y", &[reader.as_fd()]).await.unwrap();
        // Read without them, the first is closed, and the other with its socket.
        assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 1);
        drop((near, far));
        assert_eq!(File::from(reader).read(&mut [0]).unwrap(), 0, "nobody writes any more");
        let after = kit::open_fds();
        assert_eq!(after.len(), before.len(), "{after:?}");
    });
}

// F19
fn records() {
    let place = Place::new();
    let path = SocketAddr::from_pathname(place.path()).unwrap();
    let name = SocketAddr::from_abstract_name(kit::unique_name("records")).unwrap();
    for address in [path, name] {
        block_on(async {
            let listener = SeqpacketListener::bind_addr(&address).unwrap();
            let error = SeqpacketListener::bind_addr(&address).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            let client = Seqpacket::connect_addr(&address).await.unwrap();
            let (server, peer) = listener.accept().await.unwrap();
            assert!(peer.is_unnamed());
            let theirs = client.peer_addr().unwrap();
            assert_eq!(theirs.as_pathname(), address.as_pathname());
            assert_eq!(theirs.as_abstract_name(), address.as_abstract_name());
            assert_eq!(server.peer_credentials().unwrap().pid, Some(std::process::id()));
            for record in [&b"one"[..], b"", b"and three"] {
                client.send(record).await.unwrap();
            }
            client.shutdown(std::net::Shutdown::Write).unwrap();
            let mut buffer = [0; 16];
            for wanted in [3, 0, 9, 0, 0] {
                assert_eq!(server.recv(&mut buffer).await.unwrap(), wanted);
            }
            drop(client);
            // At the default action of SIGPIPE this would be the end.
            let error = server.send(b"x").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        });
    }
    let error = block_on(Seqpacket::connect(place.path())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

fn records_that_do_not_fit() {
    block_on(async {
        let (near, far) = Seqpacket::pair().unwrap();
        near.send(b"0123456789").await.unwrap();
        near.send(b"next").await.unwrap();
        let mut buffer = [0; 4];
        assert_eq!(far.recv(&mut buffer).await.unwrap(), 10);
        assert_eq!(&buffer, b"0123");
        assert_eq!(far.recv_fds(&mut buffer).await.unwrap().length, 4);
        assert_eq!(&buffer, b"next");
        let huge = near.send(&vec![0; 10_000_000]).await.unwrap_err();
        assert_eq!(huge.raw_os_error(), Some(libc::EMSGSIZE));
    });
}

// F12
fn full_of_records() {
    block_on(async {
        let (near, far) = Seqpacket::pair().unwrap();
        let record = [7; 4096];
        let mut sent = 0;
        while timeout(Duration::from_millis(30), near.send(&record)).await.is_ok() {
            sent += 1;
        }
        let waiting = async { timeout(LONG, near.send(b"late")).await.unwrap().unwrap() };
        let draining = async {
            sleep(Duration::from_millis(30)).await;
            let mut buffer = [0; 4096];
            for _ in 0..sent {
                assert_eq!(far.recv(&mut buffer).await.unwrap(), 4096);
            }
            timeout(LONG, far.recv(&mut buffer)).await.unwrap().unwrap()
        };
        assert_eq!(selio::join(waiting, draining).await, (4, 4));
    });
}

// F02
fn full_backlog() {
    let place = Place::new();
    block_on(async {
        let listener = SeqpacketListener::bind(place.path()).unwrap();
        // SAFETY: two integers; to listen anew changes the length of the queue.
        #[allow(unsafe_code, reason = "std has no call for it")]
        let returned = unsafe { libc::listen(listener.as_fd().as_raw_fd(), 0) };
        assert_eq!(returned, 0);
        let _first = Seqpacket::connect(place.path()).await.unwrap();
        let late = async { timeout(LONG, Seqpacket::connect(place.path())).await.unwrap() };
        let accepting = async {
            sleep(Duration::from_millis(30)).await;
            listener.accept().await.unwrap();
            listener.accept().await.unwrap().0
        };
        let (client, server) = selio::join(late, accepting).await;
        client.unwrap().send(b"true").await.unwrap();
        assert_eq!(server.recv(&mut [0; 8]).await.unwrap(), 4);
    });
}

fn stale_path() {
    let place = Place::new();
    // Killed, a server leaves its path.
    let victim = kit::in_child(|| {
        let _listener = block_on(PathListener::bind(place.path())).unwrap();
        kit::kill(std::process::id() as i32, libc::SIGKILL).unwrap();
    });
    kit::wait_status(victim);
    assert!(place.path().exists());
    block_on(async {
        let listener = PathListener::bind(place.path()).await.unwrap();
        let client = UnixStream::connect(place.path()).await.unwrap();
        listener.accept().await.unwrap();
        drop((client, listener));
        assert!(!place.path().exists());
        assert_eq!(fs::read_dir(place.0.path()).unwrap().count(), 0, "no file is left besides");
    });
}

fn living_server() {
    let place = Place::new();
    block_on(async {
        let listener = PathListener::bind(place.path()).await.unwrap();
        for _ in 0..3 {
            let error = PathListener::bind(place.path()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
        }
        // The questions were connections that ended at once.
        for _ in 0..3 {
            let (asked, _) = listener.accept().await.unwrap();
            assert_eq!(asked.read(&mut [0]).await.unwrap(), 0);
        }
        UnixStream::connect(place.path()).await.unwrap();
        // Sockets of other sorts are alive as well.
        drop(listener);
        let _datagrams = UnixDatagram::bind(place.path()).unwrap();
        let error = PathListener::bind(place.path()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
    });
}

fn no_socket() {
    let place = Place::new();
    fs::write(place.path(), "mine").unwrap();
    let error = block_on(PathListener::bind(place.path())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
    assert_eq!(fs::read(place.path()).unwrap(), b"mine");
    let nowhere = place.0.join("no/where");
    let error = block_on(PathListener::bind(nowhere)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let long = place.0.join("x".repeat(108));
    let error = block_on(PathListener::bind(long)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(fs::read_dir(place.0.path()).unwrap().count(), 1);
}

fn taken_over() {
    let place = Place::new();
    let listener = block_on(PathListener::bind(place.path())).unwrap();
    fs::remove_file(place.path()).unwrap();
    let other = std::os::unix::net::UnixListener::bind(place.path()).unwrap();
    drop(listener);
    assert!(fs::symlink_metadata(place.path()).unwrap().file_type().is_socket());
    drop(other);
}

// I07
fn forked_child() {
    let place = Place::new();
    let listener = block_on(PathListener::bind(place.path())).unwrap();
    let mut held = Some(listener);
    let child = kit::in_child(|| drop(held.take()));
    assert!(kit::wait_status(child).success());
    assert!(place.path().exists());
}

fn current_directory() {
    let place = Place::new();
    std::env::set_current_dir(place.0.path()).unwrap();
    let listener = block_on(PathListener::bind("socket")).unwrap();
    std::env::set_current_dir("/").unwrap();
    drop(listener);
    assert!(!place.path().exists(), "it was found again from elsewhere");
}

fn many_starters() {
    let place = Place::new();
    for round in 0..40 {
        // A stale one is in the way every other time.
        if round % 2 == 0 {
            drop(std::os::unix::net::UnixListener::bind(place.path()).unwrap());
        }
        let start = || block_on(PathListener::bind(place.path()));
        let results: Vec<_> = thread::scope(|scope| {
            let starters: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
            starters.into_iter().map(|starter| starter.join().unwrap()).collect()
        });
        let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1, "{lost:?}");
        assert!(lost.into_iter().all(|it| it.unwrap_err().kind() == ErrorKind::AddrInUse));
        block_on(UnixStream::connect(place.path())).unwrap();
        drop(won);
        assert!(!place.path().exists());
    }
}

fn locked_directory() {
    let place = Place::new();
    let directory = File::open(place.0.path()).unwrap();
    // SAFETY: two integers.
    #[allow(unsafe_code, reason = "std lacks it in older versions")]
    let lock = |how| assert_eq!(unsafe { libc::flock(directory.as_raw_fd(), how) }, 0);
    lock(libc::LOCK_EX);
    block_on(async {
        let binding = timeout(Duration::from_millis(40), PathListener::bind(place.path()));
        assert!(binding.await.is_err());
        assert!(!place.path().exists());
        lock(libc::LOCK_UN);
        let listener = PathListener::bind(place.path()).await.unwrap();
        // Whoever holds the lock for long keeps nobody from ending: the path is left, stale.
        lock(libc::LOCK_EX);
        drop(listener);
        assert!(place.path().exists());
        lock(libc::LOCK_UN);
        drop(PathListener::bind(place.path()).await.unwrap());
        assert!(!place.path().exists());
    });
}
