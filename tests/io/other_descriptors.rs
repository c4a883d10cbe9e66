//! `Async` around what nobody has thought of: anything that epoll can watch.
#![allow(unsafe_code, reason = "descriptors that std does not make")]

use crate::kit;
use libc::c_int;
use selio::time::timeout;
use selio::{Async, block_on};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(5);
const MOMENT: Duration = Duration::from_millis(20);

/// Takes possession of what a call has made.
fn made(fd: c_int) -> File {
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the number is new, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }.into()
}

/// Reads what comes soon.
async fn read(from: &Async<File>) -> Vec<u8> {
    let mut buffer = vec![0; 16 * 1024];
    let count = timeout(LONG, from.read(&mut buffer)).await.expect("it comes").unwrap();
    buffer.truncate(count);
    buffer
}

async fn assert_silent(object: &Async<File>) {
    assert!(timeout(MOMENT, object.readable()).await.is_err());
}

#[test]
fn inotify() {
    let _guard = kit::watchdog(10);
    let place = kit::Directory::new();
    // SAFETY: the call takes a number.
    let inotify = made(unsafe { libc::inotify_init1(libc::IN_CLOEXEC) });
    let name = std::ffi::CString::new(place.path().to_str().unwrap()).unwrap();
    // SAFETY: the name is a C string that lives through the call.
    let watch =
        unsafe { libc::inotify_add_watch(inotify.as_raw_fd(), name.as_ptr(), libc::IN_CREATE) };
    assert!(watch >= 0);
    let inotify = Async::new(inotify).unwrap();
    block_on(async {
        for file in ["first", "second"] {
            assert_silent(&inotify).await;
            let creating = async { fs::write(place.join(file), "").unwrap() };
            let (event, ()) = selio::join(read(&inotify), creating).await;
            let event = String::from_utf8_lossy(&event).into_owned();
            assert!(event.contains(file), "{event:?}");
        }
    });
}

#[test]
fn a_timer_descriptor() {
    let _guard = kit::watchdog(10);
    // SAFETY: the call takes numbers.
    let timer = made(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC) });
    let every = libc::timespec { tv_sec: 0, tv_nsec: 5_000_000 };
    let times = libc::itimerspec { it_interval: every, it_value: every };
    // SAFETY: `times` lives through the call, and the former times are not asked for.
    let set = unsafe {
        libc::timerfd_settime(timer.as_raw_fd(), 0, &raw const times, std::ptr::null_mut())
    };
    assert_eq!(set, 0);
    let timer = Async::new(timer).unwrap();
    block_on(async {
        for _ in 0..3 {
            let count: [u8; 8] = read(&timer).await.try_into().unwrap();
            assert!(u64::from_ne_bytes(count) > 0);
        }
    });
}

// The kernel is asked for its network devices; one of them is `lo`.
#[test]
fn a_netlink_socket() {
    let _guard = kit::watchdog(10);
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: the call takes numbers.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
    if fd < 0 {
        println!("passed over: there is no netlink here");
        return;
    }
    let netlink = Async::new(made(fd)).unwrap();
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    // A header of 16 bytes (length, type, flags, number, port), and a family in four.
    let mut request = Vec::new();
    request.extend(20_u32.to_ne_bytes());
    request.extend(libc::RTM_GETLINK.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    request.extend([0; 12]);
    block_on(async {
        assert_silent(&netlink).await;
        netlink.write_all(&request).await.unwrap();
        let answer = read(&netlink).await;
        let lo = answer.windows(3).any(|window| window == b"lo\0");
        assert!(lo, "{answer:?}");
    });
}

#[test]
fn the_epoll_set_of_another_runtime() {
    let _guard = kit::watchdog(10);
    let (reader, writer) = kit::pipe();
    // SAFETY: the call takes a number.
    let epoll = made(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) });
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 7 };
    let (set, inner) = (epoll.as_raw_fd(), reader.as_raw_fd());
    // SAFETY: `event` lives through the call.
    let added = unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_ADD, inner, &raw mut event) };
    assert_eq!(added, 0);
    let epoll = Async::new(epoll).unwrap();
    let (mut reader, mut writer) = (File::from(reader), File::from(writer));
    let ready = || {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: there is room for the one event that is asked for.
        unsafe { libc::epoll_wait(set, &raw mut event, 1, 0) }
    };
    block_on(async {
        for _ in 0..3 {
            assert_silent(&epoll).await;
            let writing = async { writer.write_all(b"x").unwrap() };
            let (waited, ()) = selio::join(timeout(LONG, epoll.readable()), writing).await;
            waited.unwrap().unwrap();
            assert_eq!(ready(), 1);
            assert_eq!(reader.read(&mut [0; 8]).unwrap(), 1);
            assert_eq!(ready(), 0);
        }
    });
}

#[test]
fn a_named_pipe() {
    let _guard = kit::watchdog(10);
    let place = kit::Directory::new();
    let path = place.join("fifo");
    let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: the name is a C string that lives through the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let open = |options: &mut File| Async::new(options.try_clone().unwrap()).unwrap();
    let mut both = File::options().read(true).write(true).open(&path).unwrap();
    let fifo = open(&mut both);
    block_on(async {
        assert_silent(&fifo).await;
        fifo.write_all(b"through").await.unwrap();
        assert_eq!(read(&fifo).await, b"through");
    });
}
