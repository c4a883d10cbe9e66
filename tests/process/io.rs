//! The pipes to and from children, and where their standard streams go.

use crate::kit;
use crate::kit::children;
use children::{assert_code, is_alive, line, millis, sh, soon};
use selio::process::{Child, Command};
use selio::time::{sleep, timeout};
use selio::{block_on, join};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek};

use std::process::{Output, Stdio};
use std::time::Duration;

pub(crate) fn cases() -> Vec<kit::Case> {
    children::in_both_modes(&[
        ("ten_megabytes_both_ways", ten_megabytes_both_ways),
        ("output_of_both_pipes", output_of_both_pipes),
        ("input_that_nobody_reads", input_that_nobody_reads),
        ("input_without_a_pipe", input_without_a_pipe),
        ("taken_pipes_give_nothing", taken_pipes_give_nothing),
        ("wait_delay_gives_up_the_pipes", wait_delay_gives_up_the_pipes),
        ("wait_delay_takes_what_comes_in_time", wait_delay_takes_what_comes_in_time),
        ("without_wait_delay_output_waits", without_wait_delay_output_waits),
        ("output_waits_for_the_child_too", output_waits_for_the_child_too),
        ("dropped_output_kills_if_asked", dropped_output_kills_if_asked),
        ("status_closes_stdin", status_closes_stdin),
        ("taken_stdin_stays_open", taken_stdin_stays_open),
        ("childs_ends_are_blocking", childs_ends_are_blocking),
        ("pipe_becomes_anothers_stream", pipe_becomes_anothers_stream),
        ("into_stdio_is_blocking_again", into_stdio_is_blocking_again),
        ("streams_are_inherited_as_stds", streams_are_inherited_as_stds),
        ("set_streams_stay_set", set_streams_stay_set),
        ("streams_set_at_std", streams_set_at_std),
        ("closed_pipe_is_an_error", closed_pipe_is_an_error),
        ("full_pipe_ends_when_the_child_does", full_pipe_ends_when_the_child_does),
        ("child_has_no_other_descriptors", child_has_no_other_descriptors),
    ])
}

/// A shell with pipes to its input and from its output.
#[track_caller]
fn piped(program: &str) -> Child {
    sh(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

/// Bytes in which a lost or doubled piece shows.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(step).collect()
}

fn ten_megabytes_both_ways() {
    let input = noise(10 << 20);
    let child = piped("exec cat");
    let output = soon(child.output_with_input(&input)).unwrap();
    assert!(output.status.success());
    assert!(output.stdout == input, "{} bytes came back", output.stdout.len());
}

fn output_of_both_pipes() {
    let each = "head -c 3000000 /dev/zero";
    let output = soon(sh(&format!("{each} & {each} >&2; wait; exit 5")).output()).unwrap();
    assert_code(output.status, 5);
    assert_eq!((output.stdout.len(), output.stderr.len()), (3_000_000, 3_000_000));
    // Its standard input is empty.
    let output = soon(sh("cat; readlink /proc/self/fd/0").output()).unwrap();
    assert_eq!(output.stdout, b"/dev/null\n");
}

// A child that does not read all is no error, whether it ends or only closes its input.
fn input_that_nobody_reads() {
    let input = noise(1 << 20);
    for program in ["exec true", "exec <&-; sleep 0.05; echo done", "head -c 10 >/dev/null"] {
        let output = soon(piped(program).output_with_input(&input)).unwrap();
        assert!(output.status.success(), "{program}");
    }
    // One that ends, while somebody else holds its input and does not read.
    let mut command = sh("exec 3<&0; sleep 60 <&3 >/dev/null 2>&1 & echo $!");
    command.wait_delay(millis(20)).stdin(Stdio::piped()).stdout(Stdio::piped());
    let output = soon(command.spawn().unwrap().output_with_input(&input)).unwrap();
    let sleeper: i32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    kit::kill(sleeper, libc::SIGKILL).unwrap();
}

fn input_without_a_pipe() {
    let child = sh("cat").stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let output = soon(child.output_with_input(b"lost")).unwrap();
    assert_eq!((output.status.success(), output.stdout), (true, vec![]));
}

fn taken_pipes_give_nothing() {
    let mut child =
        sh("echo out; echo err >&2").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let out = child.stdout.take().unwrap();
    let output = soon(child.output()).unwrap();
    assert_eq!((output.stdout, output.stderr), (vec![], b"err\n".to_vec()));
    assert_eq!(soon(line(&out)), "out");
}

/// The output of a child, on the first line of which is the number of a process that holds the
/// pipes.
#[track_caller]
fn with_holder(output: &Output) -> (u32, &str) {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    let (number, rest) = text.split_once('\n').unwrap();
    (number.parse().unwrap(), rest)
}

fn wait_delay_gives_up_the_pipes() {
    let mut command = sh("sleep 60 & echo $!; exit 6");
    let (output, took) = kit::took(|| soon(command.wait_delay(millis(60)).output()).unwrap());
    kit::assert_at_least(took, millis(60));
    assert_code(output.status, 6);
    let (holder, _) = with_holder(&output);
    assert!(is_alive(holder), "nobody has said that it is to be killed");
    kit::kill(holder as i32, libc::SIGKILL).unwrap();
    // Nobody holds them, and nobody waits.
    let quick = sh("echo done").wait_delay(Duration::from_secs(3600)).output();
    assert_eq!(soon(quick).unwrap().stdout, b"done\n");
}

fn wait_delay_takes_what_comes_in_time() {
    let mut command = sh("{ sleep 0.05; echo late; sleep 60; } & echo $!; exit 6");
    let output = soon(command.wait_delay(millis(2000)).kill_group(false).output()).unwrap();
    let (holder, rest) = with_holder(&output);
    assert_eq!(rest, "late\n");
    kit::kill(holder as i32, libc::SIGKILL).unwrap();
    // The delay begins when the child has ended.
    let mut command = sh("echo early; sleep 0.2; echo late");
    let output = soon(command.wait_delay(millis(1)).output()).unwrap();
    assert_eq!(output.stdout, b"early\nlate\n");
}

fn without_wait_delay_output_waits() {
    let (output, took) = kit::took(|| soon(sh("{ sleep 0.2; echo late; } & exit 6").output()));
    let output = output.unwrap();
    kit::assert_at_least(took, millis(200));
    assert_eq!((output.status.code(), &*output.stdout), (Some(6), &b"late\n"[..]));
}

// Its pipes end first, and then the child.
fn output_waits_for_the_child_too() {
    for delay in [None, Some(millis(1))] {
        let mut command = sh("echo done; exec >&- 2>&-; sleep 0.1; exit 6");
        if let Some(delay) = delay {
            command.wait_delay(delay);
        }
        let output = soon(command.output()).unwrap();
        assert_eq!((output.status.code(), &*output.stdout), (Some(6), &b"done\n"[..]));
    }
}

// E09
fn dropped_output_kills_if_asked() {
    for kill in [false, true] {
        let output = Command::new("sleep").arg("60").kill_on_drop(kill).output();
        let pid = children::children()[0];
        assert!(block_on(timeout(millis(50), output)).is_err());
        if !kill {
            assert!(is_alive(pid));
            kit::kill(pid as i32, libc::SIGKILL).unwrap();
        }
        soon(until_reaped(pid));
    }
    // Not one that has given its output.
    let output = sh("sleep 0.1; echo done").kill_on_drop(true).output();
    assert_eq!(soon(output).unwrap().stdout, b"done\n");
}

async fn until_reaped(pid: u32) {
    while children::exists(pid) {
        sleep(millis(1)).await;
    }
}

// E17
fn status_closes_stdin() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let (wait, moved) = (child.status(), child.stdin.is_none());
    assert!(moved, "closed by the call");
    assert!(soon(wait).unwrap().success());
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    assert!(soon(child.terminate(Duration::from_secs(5))).is_ok());
}

// E17
fn taken_stdin_stays_open() {
    let mut child = sh("read x; exit $x").stdin(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    block_on(async {
        let mut status = Box::pin(child.status());
        assert!(timeout(millis(100), status.as_mut()).await.is_err(), "it still reads");
        stdin.write_all(b"9\n").await.unwrap();
        assert_code(timeout(millis(5000), status).await.unwrap().unwrap(), 9);
    });
}

/// A shell's program that prints the flags of its own standard streams.
const FLAGS: &str = "for n in 0 1 2; do grep flags /proc/$$/fdinfo/$n; done";

/// Asserts that no stream is non-blocking in what [`FLAGS`] has printed.
#[track_caller]
fn assert_blocking(printed: &[u8], streams: usize) {
    let text = std::str::from_utf8(printed).unwrap();
    let flags = text.lines().map(|line| line.strip_prefix("flags:").unwrap().trim());
    let flags: Vec<_> = flags.map(|flags| i32::from_str_radix(flags, 8).unwrap()).collect();
    assert_eq!(flags.len(), streams, "{text}");
    assert!(flags.iter().all(|flags| flags & libc::O_NONBLOCK == 0), "{text}");
}

// E19
fn childs_ends_are_blocking() {
    let mut command = sh(&format!("read x; {FLAGS}"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    for ours in [&child.stdin, &child.stdout, &child.stderr] {
        assert!(kit::is_nonblocking(ours.as_ref().unwrap()));
    }
    let output = soon(child.output_with_input(b"go\n")).unwrap();
    assert_blocking(&output.stdout, 3);
}

fn pipe_becomes_anothers_stream() {
    let mut first = piped("cat; echo end");
    let out = first.stdout.take().unwrap().into_stdio().unwrap();
    let second = Command::new("rev").stdin(out).stdout(Stdio::piped()).spawn().unwrap();
    let input = noise(1 << 20).iter().map(|byte| b'a' + byte % 26).collect::<Vec<_>>();
    let mut expected: Vec<u8> = input.iter().rev().copied().collect();
    expected.extend(b"\ndne\n");
    let lines = [&input[..], b"\n"].concat();
    let outputs = join(first.output_with_input(&lines), second.output());
    let (first, second) = soon(outputs);
    assert!(first.unwrap().stdout.is_empty());
    assert!(second.unwrap().stdout == expected);
}

// E19
fn into_stdio_is_blocking_again() {
    let mut first = sh("echo one; sleep 0.1; echo two").stdout(Stdio::piped()).spawn().unwrap();
    let out = first.stdout.take().unwrap();
    // It has waited here, and is taken away in the middle.
    assert_eq!(soon(line(&out)), "one");
    let out = out.into_stdio().unwrap();
    let output = soon(sh(&format!("{FLAGS}; cat")).stdin(out).output()).unwrap();
    let rest = output.stdout.strip_suffix(b"two\n").expect("what came later");
    assert_blocking(rest, 3);
    assert!(soon(first.status()).unwrap().success());
    // The end to write to, too.
    let mut reader = piped("exec cat");
    let to = reader.stdin.take().unwrap().into_stdio().unwrap();
    let writer = sh(FLAGS).stdout(to).status();
    assert!(soon(writer).unwrap().success());
    assert_blocking(&soon(reader.output()).unwrap().stdout, 3);
}

/// What the standard streams of a process are.
fn streams(pid: u32) -> [String; 3] {
    [0, 1, 2].map(|fd| {
        let link = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap();
        link.to_string_lossy().into_owned()
    })
}

/// The streams of the only child, which is then killed.
fn streams_of_child() -> [String; 3] {
    let pid = children::children()[0];
    let found = streams(pid);
    kit::kill(pid as i32, libc::SIGKILL).unwrap();
    found
}

fn streams_are_inherited_as_stds() {
    let ours = streams(std::process::id());
    let mut command = Command::new("sleep");
    command.arg("60");
    for _ in 0..2 {
        let mut child = command.spawn().unwrap();
        assert!(child.stdin.is_none() && child.stdout.is_none() && child.stderr.is_none());
        assert_eq!(streams_of_child(), ours);
        soon(child.status()).unwrap();

        let status = command.status();
        assert_eq!(streams_of_child(), ours);
        soon(status).unwrap();

        // For this once.
        let output = command.output();
        let [stdin, stdout, stderr] = streams_of_child();
        soon(output).unwrap();
        assert_eq!(stdin, "/dev/null");
        assert!(stdout.starts_with("pipe:") && stderr.starts_with("pipe:") && stdout != stderr);
    }
}

fn set_streams_stay_set() {
    let mut file = kit::nameless_file();
    let mut command = sh("cat; echo complaint >&2");
    let copy = File::from(kit::dup(&file));
    command.stdin(Stdio::piped()).stdout(Stdio::from(copy)).stderr(Stdio::inherit());
    for _ in 0..2 {
        let child = command.spawn().unwrap();
        assert!(child.stdin.is_some() && child.stdout.is_none() && child.stderr.is_none());
        let output = soon(child.output_with_input(b"in ")).unwrap();
        assert!(output.stdout.is_empty() && output.stderr.is_empty());
        // Its input is a pipe that the call closes, and its outputs are not replaced.
        let output = soon(command.output()).unwrap();
        assert!(output.stdout.is_empty() && output.stderr.is_empty());
    }
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "in in ");
}

fn streams_set_at_std() {
    let mut command = std::process::Command::new("echo");
    command.arg("hello").stdout(Stdio::piped());
    let mut command = Command::from(command);
    let mut child = command.spawn().unwrap();
    assert_eq!(soon(line(child.stdout.as_ref().unwrap())), "hello");
    soon(child.status()).unwrap();
    assert_eq!(soon(command.output()).unwrap().stdout, b"hello\n");
}

fn closed_pipe_is_an_error() {
    let mut child = piped("exec <&-; echo closed; exec sleep 60");
    assert_eq!(soon(line(child.stdout.as_ref().unwrap())), "closed");
    let stdin = child.stdin.take().unwrap();
    let error = soon(stdin.write_all(b"x")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    child.kill().unwrap();
    soon(child.status()).unwrap();
}

fn full_pipe_ends_when_the_child_does() {
    let mut child = Command::new("sleep").arg("0.1").stdin(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    let error = soon(stdin.write_all(&noise(1 << 20))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    soon(child.status()).unwrap();
}

fn child_has_no_other_descriptors() {
    let other = piped("exec cat");
    block_on(async {
        _ = timeout(millis(1), other.stdout.as_ref().unwrap().readable()).await;
        let output = Command::new("ls").arg("/proc/self/fd").output().await.unwrap();
        // The last one is the directory that it reads.
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "0\n1\n2\n3\n");
    });
    assert_eq!(soon(other.output()).unwrap().stdout, b"");
}
