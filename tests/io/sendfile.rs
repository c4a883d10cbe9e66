//! Sending parts of files: exactly those bytes, wherever the file stands and ends.

use crate::kit;
use crate::kit::sockets;
use kit::watchdog;
use selio::io::sendfile;
use selio::time::sleep;
use selio::{Async, block_on, join, race, yield_now};
use sockets::{drain, fill, pair};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, Write};
use std::ops::{Bound, RangeBounds};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

/// A file without a name, with this in it.
fn file(contents: &[u8]) -> File {
    let mut file = kit::nameless_file();
    file.write_all(contents).unwrap();
    file
}

/// What arrives of a part of a file.
#[track_caller]
fn part(file: &File, range: impl RangeBounds<u64>) -> Vec<u8> {
    let (to, mut far) = pair();
    let sent = block_on(sendfile(file, range, &to)).unwrap();
    drop(to);
    let mut heard = Vec::new();
    far.read_to_end(&mut heard).unwrap();
    assert_eq!(heard.len() as u64, sent);
    heard
}

#[test]
fn each_kind_of_range() {
    let _guard = watchdog(10);
    let mut file = file(b"0123456789");
    file.seek(std::io::SeekFrom::Start(3)).unwrap();
    assert_eq!(part(&file, ..), b"0123456789");
    assert_eq!(part(&file, 4..6), b"45");
    assert_eq!(part(&file, 4..=6), b"456");
    assert_eq!(part(&file, 8..), b"89");
    assert_eq!(part(&file, ..1), b"0");
    assert_eq!(part(&file, ..=0), b"0");
    assert_eq!(part(&file, (Bound::Excluded(7), Bound::Unbounded)), b"89");
    assert_eq!(part(&file, 8..u64::MAX), b"89");
    assert_eq!(part(&file, 8..=u64::MAX), b"89");
    assert_eq!(file.stream_position().unwrap(), 3, "the file stands where it stood");
}

#[test]
fn ranges_without_bytes() {
    let _guard = watchdog(10);
    let file = file(b"0123456789");
    assert_eq!(part(&file, 4..4), b"");
    #[expect(clippy::reversed_empty_ranges, reason = "it is what a client may ask for")]
    let reversed = 6..4;
    assert_eq!(part(&file, reversed), b"");
    assert_eq!(part(&file, 10..), b"");
    assert_eq!(part(&file, 1000..2000), b"");
    assert_eq!(part(&file, u64::MAX..), b"");
    assert_eq!(part(&file, (Bound::Excluded(u64::MAX), Bound::Unbounded)), b"");
}

#[test]
fn a_large_part_to_a_slow_reader() {
    let _guard = watchdog(20);
    let contents: Vec<u8> = (0..3_000_017).map(|at| (at % 251) as u8).collect();
    let file = file(&contents);
    for tcp in [true, false] {
        let (to, mut far): (Async<std::fs::File>, Box<dyn Read + Send>) = if tcp {
            let (to, far) = kit::tcp_pair();
            (Async::new(File::from(std::os::fd::OwnedFd::from(to))).unwrap(), Box::new(far))
        } else {
            let (far, to) = kit::pipe();
            (Async::new(File::from(to)).unwrap(), Box::new(File::from(far)))
        };
        let reader = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            let mut heard = Vec::new();
            far.read_to_end(&mut heard).unwrap();
            heard
        });
        assert_eq!(block_on(sendfile(&file, 17.., &to)).unwrap(), 3_000_000);
        drop(to);
        assert!(reader.join().unwrap() == contents[17..]);
    }
}

#[test]
fn a_file_that_is_cut_meanwhile() {
    let _guard = watchdog(10);
    let file = file(&vec![7; 4_000_000]);
    let (to, mut far) = UnixStream::pair().unwrap();
    let to = Async::new(to).unwrap();
    let cuts = async {
        sleep(Duration::from_millis(20)).await;
        file.set_len(1000).unwrap();
        thread::spawn(move || {
            let mut heard = Vec::new();
            far.read_to_end(&mut heard).unwrap();
            heard
        })
    };
    let (sent, reader) = block_on(join(sendfile(&file, .., &to), cuts));
    let sent = sent.unwrap();
    assert!((1000..4_000_000).contains(&sent), "{sent} bytes were sent");
    drop(to);
    assert_eq!(reader.join().unwrap().len() as u64, sent);
}

/// Files that have no pages, and no length to be known before.
#[test]
fn a_file_of_the_kernel() {
    let _guard = watchdog(10);
    let version = std::fs::read("/proc/version").unwrap();
    assert_eq!(part(&File::open("/proc/version").unwrap(), ..), version);
    assert_eq!(part(&File::open("/proc/version").unwrap(), 6..), version[6..]);
    assert_eq!(part(&File::open("/dev/zero").unwrap(), ..1000), [0; 1000]);
}

#[test]
fn errors_are_told() {
    let _guard = watchdog(10);
    let numbers = file(b"0123456789");
    let (to, far) = pair();
    drop(far);
    let error = block_on(sendfile(&numbers, .., &to)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    let (to, far) = pair();
    let error = block_on(sendfile(&File::open("/").unwrap(), .., &to)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IsADirectory);
    let pipe = File::from(kit::pipe().0);
    let error = block_on(sendfile(&pipe, .., &to)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSeekable);
    assert_eq!(drain(&far), 0);
}

#[test]
fn others_run_while_the_sink_is_fast_and_while_it_is_full() {
    let _guard = watchdog(10);
    let zero = File::open("/dev/zero").unwrap();
    let null = Async::new(File::options().write(true).open("/dev/null").unwrap()).unwrap();
    let others = async || {
        for _ in 0..1000 {
            yield_now().await;
        }
    };
    let sends = async {
        _ = sendfile(&zero, .., &null).await;
    };
    block_on(race(sends, others()));
    let (to, _far) = pair();
    fill(to.get_ref());
    let sends = async {
        _ = sendfile(&zero, .., &to).await;
    };
    block_on(race(sends, others()));
}
