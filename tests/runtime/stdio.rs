//! Standard input and output, whatever they are: right bytes, no thread, no spinning, and an open
//! file that stays as it was found.
#![allow(unsafe_code, reason = "terminals, FIFOs and limits")]

use crate::kit;
use kit::{assert_quiet, is_nonblocking};
use selio::block_on;
use selio::io::{stderr, stdin, stdout};
use selio::time::{sleep, timeout};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(5);
const MOMENT: Duration = Duration::from_millis(80);

pub(crate) fn cases() -> Vec<kit::Case> {
    kit::cases(&[
        ("input_from_a_pipe", || reads(pipe())),
        ("input_from_a_named_pipe", || reads(named_pipe())),
        ("input_from_a_terminal", || reads(terminal())),
        ("input_from_a_socket", || reads(socket())),
        ("input_from_a_pipe_without_proc", || reads(without_proc(pipe()))),
        ("input_from_a_terminal_without_proc", || reads(without_proc(terminal()))),
        ("input_from_a_file", input_from_a_file),
        ("input_from_nothing", input_from_nothing),
        ("input_that_others_read_as_well", input_that_others_read),
        ("output_to_a_pipe", || writes(pipe())),
        ("output_to_a_named_pipe", || writes(named_pipe())),
        ("output_to_a_terminal", || writes(terminal())),
        ("output_to_a_socket", || writes(socket())),
        ("output_to_a_pipe_without_proc", || writes(without_proc(pipe()))),
        ("output_to_a_file", output_to_a_file),
        ("output_to_nothing", output_to_nothing),
        ("output_whose_reader_is_gone", reader_is_gone),
        ("closed_descriptors_are_errors", closed),
    ])
}

/// What a parent has, and what it gives to its child: the two ends of something.
struct Ends {
    far: OwnedFd,
    own: OwnedFd,
    /// Whether what is written into the far end can be read at the own one only as lines.
    terminal: bool,
}

/// Of a pipe, each end is for one direction: `own` is put in its place by who uses it.
fn pipe() -> Ends {
    let (near, far) = kit::pipe();
    Ends { own: near, far, terminal: false }
}

fn named_pipe() -> Ends {
    let place = kit::Directory::new();
    let path = place.join("fifo");
    let name = CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: the name is a C string that lives through the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    // Opened for both, neither waits for the other.
    let both = || File::options().read(true).write(true).open(&path).unwrap();
    let (keeps, own) = (both(), File::open(&path).unwrap());
    let far = File::options().write(true).open(&path).unwrap();
    drop(keeps);
    Ends { own: own.into(), far: far.into(), terminal: false }
}

fn socket() -> Ends {
    let (near, far) = UnixStream::pair().unwrap();
    Ends { own: near.into(), far: far.into(), terminal: false }
}

fn terminal() -> Ends {
    let (mut master, mut slave) = (-1, -1);
    let no_name = std::ptr::null_mut();
    let (no_settings, no_size) = (std::ptr::null(), std::ptr::null());
    // SAFETY: the two numbers live through the call, and the rest is not asked for.
    let opened =
        unsafe { libc::openpty(&raw mut master, &raw mut slave, no_name, no_settings, no_size) };
    if opened != 0 {
        kit::pass_over("no terminal can be opened here");
    }
    // SAFETY: the number is new, and nobody else has it.
    let far = unsafe { OwnedFd::from_raw_fd(master) };
    // SAFETY: as above.
    let own = unsafe { OwnedFd::from_raw_fd(slave) };
    Ends { own, far, terminal: true }
}

/// From here on `/proc/self/fd/N` cannot be opened.
fn without_proc(ends: Ends) -> Ends {
    kit::refuse(&[(libc::SYS_openat, libc::EACCES)]);
    ends
}

/// Whether the look at `/proc` is refused to us as well.
fn sees_proc() -> bool {
    fs::read_dir("/proc/self/fd").is_ok()
}

fn put_under(number: i32, fd: impl AsFd) {
    kit::dup2(&fd, number);
}

/// Asserts that something waits in vain, and without spinning.
fn assert_waits(mut in_vain: impl FnMut() -> bool) {
    if sees_proc() {
        assert_quiet(|| assert!(in_vain()));
    } else {
        assert!(in_vain());
    }
}

/// Reads at the standard input what is written at the other end, in every way that may go wrong.
fn reads(ends: Ends) {
    let Ends { own, far, terminal } = ends;
    put_under(0, &own);
    let mut far = File::from(far);
    let threads = sees_proc().then(kit::threads);
    let input = stdin().unwrap();
    assert!(!is_nonblocking(&own), "others share it");
    let mut buffer = [0; 64];
    // Nothing comes, and a read that is given up takes nothing with it.
    assert_waits(|| block_on(timeout(MOMENT, input.read(&mut [0; 64]))).is_err());
    far.write_all(b"first\n").unwrap();
    block_on(async {
        let count = timeout(LONG, input.read(&mut buffer)).await.unwrap().unwrap();
        assert_eq!(&buffer[..count], b"first\n");
        let later = async {
            sleep(Duration::from_millis(20)).await;
            far.write_all(b"second\n").unwrap();
        };
        let reading = async {
            timeout(LONG, input.readable()).await.unwrap().unwrap();
            timeout(LONG, input.read(&mut buffer[..4])).await.unwrap().unwrap()
        };
        assert_eq!(selio::join(later, reading).await.1, 4);
        // A short read, and the rest.
        assert_eq!(timeout(LONG, input.read(&mut buffer)).await.unwrap().unwrap(), 3);
        assert!(!is_nonblocking(&own));
        if let Some(before) = threads {
            assert_eq!(kit::threads(), before, "no thread");
        }
        if terminal {
            far.write_all(&[4]).unwrap();
        } else {
            drop(far);
        }
        assert_eq!(timeout(LONG, input.read(&mut buffer)).await.unwrap().unwrap(), 0, "the end");
        assert!(!is_nonblocking(&own));
    });
    drop(input);
    assert!(!is_nonblocking(&own));
}

/// Writes more to the standard output than there is room for, to a reader that takes its time.
fn writes(ends: Ends) {
    let Ends { own, far, terminal } = ends;
    // The end of a pipe that is written to is the far one.
    let is_pipe = File::from(kit::dup(&own)).metadata().unwrap().file_type().is_fifo();
    let (written, read) = if is_pipe { (far, own) } else { (own, far) };
    put_under(1, &written);
    let output = stdout().unwrap();
    assert!(!is_nonblocking(&written));
    let size = if terminal { 20_000 } else { 1_000_000 };
    let bytes: Vec<u8> = (0..size).map(|i| b'a' + (i % 25) as u8).collect();
    let mut reader = File::from(kit::dup(&read));
    let reading = thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        let mut heard = vec![0; size];
        reader.read_exact(&mut heard).unwrap();
        heard
    });
    let sent = bytes.clone();
    block_on(async {
        let writing = async { timeout(LONG, output.write_all(&sent)).await.unwrap().unwrap() };
        // The reader sleeps for longer, so that this passes while the writer waits.
        selio::join(writing, sleep(Duration::from_millis(50))).await;
        output.flush().await.unwrap();
    });
    assert!(reading.join().unwrap() == bytes);
    assert!(!is_nonblocking(&written));
    // Full and unread: it waits, and costs nothing.
    block_on(async { while timeout(MOMENT, output.write(&bytes)).await.is_ok() {} });
    assert_waits(|| block_on(timeout(MOMENT, output.write(b"x"))).is_err());
    assert!(!is_nonblocking(&written));
    drop(read);
}

// A05
fn input_from_a_file() {
    let mut file = kit::nameless_file();
    file.write_all(b"0123456789").unwrap();
    file.rewind().unwrap();
    put_under(0, &file);
    block_on(async {
        let input = stdin().unwrap();
        let mut buffer = [0; 4];
        assert_eq!(input.read(&mut buffer).await.unwrap(), 4);
        // The position is the shell's as well: whoever reads next goes on from here.
        assert_eq!(file.stream_position().unwrap(), 4);
        assert_eq!(input.read(&mut [0; 64]).await.unwrap(), 6);
        assert_eq!(input.read(&mut [0; 64]).await.unwrap(), 0);
        // It is always ready, so nobody has to wait for it.
        let ready = timeout(LONG, input.readable()).await.expect("no hang");
        assert!(ready.is_ok() || ready.is_err_and(|it| it.kind() == ErrorKind::PermissionDenied));
    });
    assert!(!is_nonblocking(&file));
}

// A05
fn input_from_nothing() {
    put_under(0, File::open("/dev/null").unwrap());
    let input = stdin().unwrap();
    assert_eq!(block_on(input.read(&mut [0; 8])).unwrap(), 0);
}

// A33
fn input_that_others_read() {
    let Ends { own, far, .. } = pipe();
    put_under(0, &own);
    let mut far = File::from(far);
    let input = stdin().unwrap();
    let mut buffer = [0; 8];
    block_on(async {
        assert!(timeout(Duration::from_millis(5), input.read(&mut buffer)).await.is_err());
        far.write_all(b"x").unwrap();
        // A blocking reader of the same pipe is quicker.
        assert_eq!(File::from(kit::dup(&own)).read(&mut [0; 8]).unwrap(), 1);
        assert!(timeout(Duration::from_millis(20), input.read(&mut buffer)).await.is_err());
        far.write_all(b"yz").unwrap();
        assert_eq!(timeout(LONG, input.read(&mut buffer)).await.unwrap().unwrap(), 2);
    });
}

fn output_to_a_file() {
    let place = kit::Directory::new();
    let path = place.join("file");
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    let mut appended = File::options().append(true).open(&path).unwrap();
    put_under(1, &file);
    put_under(2, &appended);
    let bytes = vec![7; 300_000];
    block_on(async {
        stdout().unwrap().write_all(&bytes).await.unwrap();
        assert_eq!(file.stream_position().unwrap(), 300_000, "the position is shared");
        stderr().unwrap().write_all(b"the end").await.unwrap();
    });
    assert_eq!(appended.stream_position().unwrap(), 300_007);
    file.rewind().unwrap();
    let mut heard = Vec::new();
    file.read_to_end(&mut heard).unwrap();
    assert!(heard[..300_000] == bytes && &heard[300_000..] == b"the end");
}

fn output_to_nothing() {
    put_under(1, File::options().write(true).open("/dev/null").unwrap());
    block_on(async {
        let output = stdout().unwrap();
        output.write_all(&vec![0; 100_000]).await.unwrap();
        put_under(2, File::options().write(true).open("/dev/full").unwrap());
        let error = stderr().unwrap().write_all(b"x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    });
}

fn reader_is_gone() {
    let Ends { own, far, .. } = pipe();
    put_under(1, &far);
    let early = stdout().unwrap();
    block_on(early.write_all(b"x")).unwrap();
    drop(own);
    // Opened before or after: it is told.
    for output in [early, stdout().unwrap()] {
        let error = block_on(timeout(LONG, output.write_all(b"y"))).unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }
}

fn closed() {
    let nothing = File::options().read(true).write(true).open("/dev/null").unwrap();
    kit::raw_close(0);
    kit::raw_close(1);
    for error in [stdin().unwrap_err(), stdout().unwrap_err()] {
        assert_eq!(error.raw_os_error(), Some(libc::EBADF), "{error}");
    }
    put_under(0, &nothing);
    put_under(1, &nothing);
    let highest = kit::open_fds().last().unwrap().0 as u64;
    let before = kit::set_nofile_limit(highest + 1);
    let error = stdin().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
    kit::set_nofile_limit(before);
    stdin().unwrap();
}
