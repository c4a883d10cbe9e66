//! Processes that end. Every case runs three times: with pidfds, and where a kernel or a sandbox
//! refuses them, so that SIGCHLD has to do.
#![allow(unsafe_code, reason = "ending a main thread alone, and SA_NOCLDWAIT")]

use crate::kit;
use crate::kit::children::{self, has_pidfd};
use crate::kit::keys;
use keys::{
    EXITED, NOW, SOON, assert_nothing, assert_silent, is_watched, millis, one_key, pipe, ready,
};
use selio::selector::Selector;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// A case, run with each [`MODES`].
const CASES: &[(&str, fn())] = &[
    ("already_dead", already_dead),
    ("ends_later", ends_later),
    ("seen_without_waiting", seen_without_waiting),
    ("not_our_child", not_our_child),
    ("wrong_numbers", wrong_numbers),
    ("nobody_has_the_number", nobody_has_the_number),
    ("number_of_a_thread", number_of_a_thread),
    ("reaped_behind_our_back", reaped_behind_our_back),
    ("sigchld_ignored", sigchld_ignored),
    ("no_zombies_wanted", no_zombies_wanted),
    ("two_hundred_at_once", two_hundred_at_once),
    ("nobody_is_reaped", nobody_is_reaped),
    ("main_thread_gone", main_thread_gone),
    ("finished_is_silent", finished_is_silent),
    ("stopped_is_not_ended", stopped_is_not_ended),
    ("selector_moves_to_another_thread", selector_moves_to_another_thread),
    ("every_selector_sees_it", every_selector_sees_it),
    ("same_process_twice", same_process_twice),
    ("unregistered_child_is_forgotten", unregistered_child_is_forgotten),
    ("signals_are_left_alone", signals_are_left_alone),
    ("taken_without_select", taken_without_select),
];

pub(crate) fn cases() -> Vec<kit::Case> {
    children::in_modes(CASES, &children::MODES[..3])
}

fn start(program: &str) -> Child {
    Command::new("sh").args(["-c", program]).spawn().unwrap()
}

/// Starts a child that ends, with this code, when its stdin is closed.
fn start_waiting(code: i32) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("read x; exit {code}")]);
    command.stdin(Stdio::piped()).spawn().unwrap()
}

/// Lets the child of [`start_waiting`] end.
fn let_go(child: &mut Child) {
    drop(child.stdin.take());
}

/// Waits until a process is a zombie, or gone.
fn until_ended(pid: u32) {
    kit::eventually("the child ends", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.map_or(true, |stat| stat.rsplit(')').next().unwrap().starts_with(" Z"))
    });
}

// E01
fn already_dead() {
    let mut selector = Selector::new().unwrap();
    let mut child = start("exit 3");
    until_ended(child.id());
    let fd = selector.register_process(child.id(), "dead").unwrap();
    assert_eq!(selector.len(), 1);
    let key = one_key(&mut selector);
    assert_eq!((key.fd(), key.events()), (fd, EXITED));
    assert_eq!(selector.get(&key), Some(&"dead"));
    assert_silent(&mut selector);
    assert_eq!(child.wait().unwrap().code(), Some(3));
    // It is reported by a look that does not wait, too.
    let mut child = start("exit 4");
    until_ended(child.id());
    selector.register_process(child.id(), "dead too").unwrap();
    assert_eq!(selector.select(NOW).unwrap().len(), 1);
    assert_eq!(child.wait().unwrap().code(), Some(4));
}

fn ends_later() {
    let mut selector = Selector::new().unwrap();
    let mut child = start_waiting(5);
    let fd = selector.register_process(child.id(), ()).unwrap();
    assert_silent(&mut selector);
    let_go(&mut child);
    let keys = selector.select(None).unwrap();
    assert_eq!(keys::summary(&keys), [(fd, EXITED)]);
    let (count, expirations) = (keys[0].count(), keys[0].expirations());
    assert_eq!((count, expirations, keys[0].signal_info().is_none()), (0, 0, true));
    assert!(selector.take_error(&keys[0]).unwrap().is_none());
    assert_eq!(child.try_wait().unwrap().unwrap().code(), Some(5));
}

fn seen_without_waiting() {
    let mut selector = Selector::new().unwrap();
    let mut child = start_waiting(0);
    let fd = selector.register_process(child.id(), ()).unwrap();
    assert_nothing(&mut selector);
    let_go(&mut child);
    until_ended(child.id());
    // A zombie shows a moment before its signal comes.
    thread::sleep(millis(10));
    assert_eq!(keys::summary(&selector.select(NOW).unwrap()), [(fd, EXITED)]);
    child.wait().unwrap();
}

// E02
fn not_our_child() {
    let mut selector = Selector::new().unwrap();
    let mut child = Command::new("sh")
        .args(["-c", "exec 3<&0; cat <&3 & echo $!; wait"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let grandchild: u32 = line.trim().parse().unwrap();
    let open = kit::open_fds();
    let registered = selector.register_process(grandchild, ());
    if has_pidfd() {
        let fd = registered.unwrap();
        assert_nothing(&mut selector);
        let_go(&mut child);
        assert_eq!(ready(&mut selector), [(fd, EXITED)]);
        assert_silent(&mut selector);
    } else {
        assert_eq!(registered.unwrap_err().kind(), ErrorKind::Unsupported);
        assert!(selector.is_empty() && keys::watched(&selector).is_empty());
        assert!(kit::disposition(libc::SIGCHLD).is_default());
        // The descriptor that signal handlers write to is made once and kept.
        assert!(kit::open_fds().len() <= open.len() + 1);
        let_go(&mut child);
    }
    child.wait().unwrap();
}

// E03
fn wrong_numbers() {
    let mut selector = Selector::new().unwrap();
    let open = kit::open_fds();
    for wrong in [0, u32::MAX, 1 << 31, i32::MAX as u32 + 1] {
        let error = selector.register_process(wrong, 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{wrong}");
        assert!(error.to_string().contains(&wrong.to_string()));
    }
    assert!(selector.is_empty());
    assert_eq!(kit::open_fds(), open);
}

// E03
fn nobody_has_the_number() {
    let mut selector = Selector::new().unwrap();
    let mut child = start("exit 0");
    let pid = child.id();
    child.wait().unwrap();
    for nobody in [i32::MAX as u32, pid] {
        let error = selector.register_process(nobody, 0).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ESRCH), "{nobody}");
    }
    assert!(selector.is_empty() && keys::watched(&selector).is_empty());
    assert!(kit::disposition(libc::SIGCHLD).is_default());
    assert_silent(&mut selector);
}

// E03
fn number_of_a_thread() {
    let mut selector = Selector::new().unwrap();
    let (stop, wait) = mpsc::channel::<()>();
    let thread = thread::spawn(move || wait.recv());
    let number = kit::thread_masks().into_keys().find(|&id| id != keys::own_pid()).unwrap();
    assert!(selector.register_process(number as u32, 0).is_err());
    assert!(selector.is_empty() && keys::watched(&selector).is_empty());
    drop(stop);
    assert!(thread.join().unwrap().is_err());
}

// E05
fn reaped_behind_our_back() {
    let mut selector = Selector::new().unwrap();
    let mut child = start_waiting(0);
    let open = kit::open_fds();
    let fd = selector.register_process(child.id(), ()).unwrap();
    let_go(&mut child);
    kit::wait_status(child.id() as i32);
    assert_eq!(ready(&mut selector), [(fd, EXITED)]);
    selector.unregister(fd).unwrap();
    assert!(!kit::open_number(fd));
    assert!(kit::open_fds().len() <= open.len(), "the pipe to the child is gone");
    assert_silent(&mut selector);
}

/// A child that the kernel reaps: it is gone as soon as it ends.
fn is_reaped_by_the_kernel() {
    let mut selector = Selector::new().unwrap();
    let before = kit::disposition(libc::SIGCHLD);
    let mut child = start_waiting(0);
    let fd = selector.register_process(child.id(), ()).unwrap();
    let_go(&mut child);
    assert_eq!(ready(&mut selector), [(fd, EXITED)]);
    assert_silent(&mut selector);
    assert!(kit::zombies().is_empty(), "what was found about zombies is kept");
    assert_eq!(kit::disposition(libc::SIGCHLD), before);

    let mut gone = start("exit 0");
    let proc = format!("/proc/{}", gone.id());
    kit::eventually("the child is gone", || !std::path::Path::new(&proc).exists());
    let error = selector.register_process(gone.id(), ()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
    assert!(gone.wait().is_err(), "nobody can wait for it");
    assert_silent(&mut selector);
}

// E06
fn sigchld_ignored() {
    keys::set_handler(libc::SIGCHLD, libc::SIG_IGN, 0);
    is_reaped_by_the_kernel();
}

// E06
fn no_zombies_wanted() {
    keys::set_handler(libc::SIGCHLD, libc::SIG_DFL, libc::SA_NOCLDWAIT);
    is_reaped_by_the_kernel();
}

// D07
fn two_hundred_at_once() {
    const CHILDREN: usize = 200;
    let mut selector = Selector::new().unwrap();
    let (reader, writer) = pipe();
    kit::set_nonblocking(&reader, false);
    let wait = || {
        kit::raw_close(writer.as_raw_fd());
        assert_eq!((&reader).read(&mut [0]).unwrap(), 0);
    };
    for _ in 0..CHILDREN {
        let pid = kit::in_child(wait);
        selector.register_process(pid as u32, pid).unwrap();
    }
    assert_eq!(selector.len(), CHILDREN);
    assert_nothing(&mut selector);
    drop(writer);
    let mut unseen = CHILDREN;
    while unseen > 0 {
        let keys = selector.select(SOON).unwrap();
        assert!(!keys.is_empty(), "{unseen} exits were lost");
        unseen -= keys.len();
        for key in keys {
            assert_eq!(key.events(), EXITED);
            let pid = selector.unregister(key.fd()).unwrap();
            assert!(kit::wait_status(pid).success());
        }
    }
    assert!(selector.is_empty());
    assert_silent(&mut selector);
}

// E12
fn nobody_is_reaped() {
    let mut selector = Selector::new().unwrap();
    let mut other = start("exit 6");
    let mut ours = start("exit 7");
    selector.register_process(ours.id(), ()).unwrap();
    until_ended(other.id());
    assert_eq!(ready(&mut selector).len(), 1);
    assert_silent(&mut selector);
    assert_eq!(kit::zombies().len(), 2);
    assert_eq!(other.wait().unwrap().code(), Some(6));
    assert_eq!(ours.wait().unwrap().code(), Some(7));
}

// E15
fn main_thread_gone() {
    let mut selector = Selector::new().unwrap();
    let (reader, writer) = pipe();
    kit::set_nonblocking(&reader, false);
    let pid = kit::in_child(|| {
        kit::raw_close(writer.as_raw_fd());
        thread::spawn(move || {
            assert_eq!((&reader).read(&mut [0]).unwrap(), 0);
            // SAFETY: it ends the process.
            unsafe { libc::_exit(9) }
        });
        // SAFETY: it ends this thread, whose stack nobody needs any more.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    });
    let fd = selector.register_process(pid as u32, ()).unwrap();
    until_ended(pid as u32);
    assert_silent(&mut selector);
    drop(writer);
    assert_eq!(ready(&mut selector), [(fd, EXITED)]);
    assert_eq!(kit::wait_status(pid).code(), Some(9));
}

// E16
fn finished_is_silent() {
    let mut selector = Selector::new().unwrap();
    let mut child = start("exit 0");
    let fd = selector.register_process(child.id(), "data").unwrap();
    let key = one_key(&mut selector);
    assert_silent(&mut selector);
    assert_eq!((selector.len(), selector.is_empty()), (0, true));
    assert!(selector.contains(fd) && !is_watched(&selector, fd));
    assert_eq!(selector.get(&key), Some(&"data"));
    child.wait().unwrap();
    assert_silent(&mut selector);
    assert_eq!(selector.unregister(fd).unwrap(), "data");
    assert!(selector.get(&key).is_none() && !kit::open_number(fd));
}

fn stopped_is_not_ended() {
    let mut selector = Selector::new().unwrap();
    let mut child = start_waiting(0);
    let fd = selector.register_process(child.id(), ()).unwrap();
    for signo in [libc::SIGSTOP, libc::SIGCONT] {
        kit::kill(child.id() as i32, signo).unwrap();
        assert_silent(&mut selector);
    }
    let_go(&mut child);
    assert_eq!(ready(&mut selector), [(fd, EXITED)]);
    child.wait().unwrap();
}

// E24
fn selector_moves_to_another_thread() {
    let (send, receive) = mpsc::channel::<Selector<&str>>();
    let mut child = start_waiting(0);
    let pid = child.id();
    let first = thread::spawn(move || {
        let mut selector = Selector::new().unwrap();
        selector.register_process(pid, "child").unwrap();
        assert_nothing(&mut selector);
        send.send(selector).unwrap();
    });
    let second = thread::spawn(move || {
        let mut selector = receive.recv().unwrap();
        let key = one_key(&mut selector);
        (key.events(), selector.unregister(key.fd()).unwrap())
    });
    first.join().unwrap();
    thread::sleep(millis(20));
    let_go(&mut child);
    assert_eq!(second.join().unwrap(), (EXITED, "child"));
    child.wait().unwrap();
    assert!(kit::disposition(libc::SIGCHLD).is_default());
}

fn every_selector_sees_it() {
    let mut child = start_waiting(0);
    let pid = child.id();
    let (registered, all_registered) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..3 {
            let registered = registered.clone();
            scope.spawn(move || {
                let mut selector = Selector::new().unwrap();
                let fd = selector.register_process(pid, ()).unwrap();
                registered.send(()).unwrap();
                assert_eq!(ready(&mut selector), [(fd, EXITED)]);
            });
        }
        (0..3).for_each(|_| all_registered.recv().unwrap());
        let_go(&mut child);
    });
    child.wait().unwrap();
}

fn same_process_twice() {
    let mut selector = Selector::new().unwrap();
    let mut child = start_waiting(0);
    let mut fds = [1, 2].map(|data| selector.register_process(child.id(), data).unwrap());
    fds.sort_unstable();
    let_go(&mut child);
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let keys = ready(&mut selector);
        assert!(!keys.is_empty(), "only {seen:?}");
        seen.extend(keys);
    }
    seen.sort_by_key(|&(fd, _)| fd);
    assert_eq!(seen, fds.map(|fd| (fd, EXITED)));
    child.wait().unwrap();
}

fn unregistered_child_is_forgotten() {
    let mut selector = Selector::new().unwrap();
    let mut child = start_waiting(0);
    let fd = selector.register_process(child.id(), 7).unwrap();
    assert_eq!(selector.unregister(fd).unwrap(), 7);
    assert!(!kit::open_number(fd) && keys::watched(&selector).is_empty());
    let_go(&mut child);
    assert_silent(&mut selector);
    child.wait().unwrap();
}

// E25
fn signals_are_left_alone() {
    kit::block_signal(libc::SIGHUP);
    let (mask, before) = (kit::signal_mask(), keys::dispositions());
    let mut selector = Selector::new().unwrap();
    let mut child = start_waiting(0);
    selector.register_process(child.id(), ()).unwrap();
    let expected = if has_pidfd() { vec![] } else { vec![libc::SIGCHLD] };
    assert_eq!((kit::signal_mask(), keys::changed_since(&before)), (mask.clone(), expected));
    let_go(&mut child);
    assert_eq!(ready(&mut selector).len(), 1);
    assert_eq!((kit::signal_mask(), keys::changed_since(&before)), (mask.clone(), vec![]));
    child.wait().unwrap();

    // Given back by dropping the selector, too.
    let mut child = start_waiting(0);
    selector.register_process(child.id(), ()).unwrap();
    drop(selector);
    assert_eq!((kit::signal_mask(), keys::changed_since(&before)), (mask, vec![]));
    let_go(&mut child);
    child.wait().unwrap();
}

// The half that waits and the half that takes.
fn taken_without_select() {
    let mut selector = Selector::new().unwrap();
    let mut child = start_waiting(0);
    let fd = selector.register_process(child.id(), ()).unwrap();
    let poller = selector.poller();
    let mut events = selio::selector::RawEvents::new();
    let mut keys = [selio::selector::ReadyKey::EMPTY; 4];
    let_go(&mut child);
    kit::eventually("the exit is told", || {
        poller.wait(Some(Duration::from_secs(1)), &mut events).unwrap();
        selector.take(&mut events, &mut keys) == 1
    });
    assert_eq!((keys[0].fd(), keys[0].events()), (fd, EXITED));
    child.wait().unwrap();
}
