//! A child process that was started.

use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::pin;
use std::process::{self, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::dropped;
use super::running::Running;
use super::usage::Usage;
use crate::future::{join, race};
use crate::io::Async;
use crate::sys::descriptor;
use crate::sys::signal_number::{SIGKILL, SIGTERM};
use crate::time::timeout;

/// Our end of a pipe to or from a child: an [`Async`] with its `read` and `write`.
///
/// Our end only is non-blocking; the child's is as any program expects it.
pub type Pipe = Async<File>;

/// A child process.
///
/// Its exit is seen through a pidfd (Linux 5.3), or through SIGCHLD where there are none; it is
/// then reaped, and the status is kept: it may be awaited any number of times, and by several tasks
/// at once. Signals go through the pidfd too, never to another process that has got the same pid.
///
/// # Dropping
///
/// A child that is dropped runs on, unless it was started with
/// [`kill_on_drop`](super::Command::kill_on_drop), and is reaped without a thread when it ends: by
/// the `block_on` in which it was dropped, else by the next one to begin, on whatever thread. If
/// there is none any more it is reaped when further children are started (a handful may be left
/// until then), or by init when this process has ended.
///
/// # Examples
///
/// ```
/// use selio::process::Command;
/// use std::process::Stdio;
///
/// # fn main() -> std::io::Result<()> {
/// selio::block_on(async {
///     let mut child = Command::new("tr")
///         .args(["a-z", "A-Z"])
///         .stdin(Stdio::piped())
///         .stdout(Stdio::piped())
///         .spawn()?;
///     let input = child.stdin.take().expect("it was piped");
///     input.write_all(b"hello").await?;
///     drop(input); // The end of what it reads.
///
///     let output = child.stdout.take().expect("it was piped");
///     let mut buffer = [0; 5];
///     output.read_exact(&mut buffer).await?;
///     assert_eq!(&buffer, b"HELLO");
///     assert!(child.status().await?.success());
///     Ok(())
/// })
/// # }
/// ```
pub struct Child {
    // Dropped first: what is to be killed does not see its pipes close before.
    keeper: Keeper,
    /// What the child reads, if it was [piped](Stdio::piped).
    pub stdin: Option<Pipe>,
    /// What the child writes, if it was [piped](Stdio::piped).
    pub stdout: Option<Pipe>,
    /// What the child complains of, if it was [piped](Stdio::piped).
    pub stderr: Option<Pipe>,
    wait_delay: Option<Duration>,
}

/// What is done when the child is dropped. Not by `Child` itself, whose pipes can thus be moved out.
struct Keeper {
    running: Arc<Running>,
    kill_on_drop: bool,
}

impl Child {
    #[inline]
    pub(super) fn new(
        running: Arc<Running>,
        kill_on_drop: bool,
        wait_delay: Option<Duration>,
    ) -> Self {
        let keeper = Keeper { running, kill_on_drop };
        Self { keeper, stdin: None, stdout: None, stderr: None, wait_delay }
    }

    /// Takes over the pipes that std has made.
    #[inline]
    pub(super) fn connect(&mut self, started: process::Child) -> io::Result<()> {
        self.stdin = started.stdin.map(pipe).transpose()?;
        self.stdout = started.stdout.map(pipe).transpose()?;
        self.stderr = started.stderr.map(pipe).transpose()?;
        Ok(())
    }

    /// Returns the process id. Once the child was awaited, it may be another process's.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let mut child = selio::process::Command::new("true").spawn()?;
    /// println!("started {}", child.id());
    /// selio::block_on(child.status())?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    #[inline]
    pub fn id(&self) -> u32 {
        self.keeper.running.pid().number()
    }

    /// Waits until the child has ended, and returns how.
    ///
    /// The pipe to its standard input is closed by the call, if it is still in
    /// [`stdin`](Self::stdin), so that a child that reads to the end comes to an end. The future
    /// borrows nothing: the child can be signalled meanwhile, and the future goes on when the
    /// `Child` is dropped.
    ///
    /// # Errors
    ///
    /// If somebody else has reaped the child, or the process ignores SIGCHLD: then nobody can tell
    /// how it ended. If it cannot be waited for, see [`Async::readable`]: then the call may be
    /// repeated.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: the status is kept.
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::process::Command;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut child = Command::new("sh").args(["-c", "exit 7"]).spawn()?;
    /// assert_eq!(selio::block_on(child.status())?.code(), Some(7));
    /// assert_eq!(selio::block_on(child.status())?.code(), Some(7));
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn status(&mut self) -> impl Future<Output = io::Result<ExitStatus>> + use<> {
        drop(self.stdin.take());
        let running = Arc::clone(&self.keeper.running);
        async move { running.exit().await.map(|exit| exit.status) }
    }

    /// Returns how the child has ended, or `None` while it runs.
    ///
    /// # Errors
    ///
    /// If somebody else has reaped it; see [`status`](Self::status).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let mut child = selio::process::Command::new("sleep").arg("60").spawn()?;
    /// assert!(child.try_status()?.is_none());
    /// child.kill()?;
    /// assert!(!selio::block_on(child.status())?.success());
    /// assert!(child.try_status()?.is_some());
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn try_status(&mut self) -> io::Result<Option<ExitStatus>> {
        Ok(self.keeper.running.try_reap().transpose()?.map(|exit| exit.status))
    }

    /// Returns what the child has used, once it is known how it ended.
    ///
    /// # Examples
    ///
    /// See [`Usage`].
    #[must_use]
    #[inline]
    pub fn usage(&self) -> Option<Usage> {
        self.keeper.running.known().map(|exit| Usage::new(exit.usage))
    }

    /// Closes the child's standard input, reads all that it writes, and waits for its end.
    ///
    /// Both pipes are read at once, as far as they are there: those that were taken, or not piped,
    /// give nothing. They end when *all* who hold them have closed them, the child's own children
    /// too; see [`wait_delay`](super::Command::wait_delay) for those that outlive it.
    ///
    /// # Errors
    ///
    /// Those of [`status`](Self::status) and of reading.
    ///
    /// # Cancel safety
    ///
    /// Not cancel-safe: what was read is lost. The child is dropped with the future.
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::process::Command;
    /// use std::process::Stdio;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let child = Command::new("echo").arg("hello").stdout(Stdio::piped()).spawn()?;
    /// assert_eq!(selio::block_on(child.output())?.stdout, b"hello\n");
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub async fn output(self) -> io::Result<Output> {
        self.output_with_input(b"").await
    }

    /// As [`output`](Self::output), and gives the child this to read meanwhile, if its standard
    /// input was piped. A child that does not read all of it is no error.
    ///
    /// # Errors
    ///
    /// Those of [`output`](Self::output) and of writing.
    ///
    /// # Cancel safety
    ///
    /// Not cancel-safe: what was read is lost. The child is dropped with the future.
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::process::Command;
    /// use std::process::Stdio;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (from, to) = (Stdio::piped(), Stdio::piped());
    /// let child = Command::new("sort").stdin(from).stdout(to).spawn()?;
    /// let output = selio::block_on(child.output_with_input(b"two\none\n"))?;
    /// assert_eq!(output.stdout, b"one\ntwo\n");
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub async fn output_with_input(mut self, input: &[u8]) -> io::Result<Output> {
        let (stdin, stdout, stderr) = (self.stdin.take(), self.stdout.take(), self.stderr.take());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = {
            let drained = join(drain(stdout, &mut out), drain(stderr, &mut err));
            let moved = async {
                match join(feed(stdin, input), drained).await {
                    (Ok(()), (Ok(()), Ok(()))) => Ok(()),
                    (fed, (out, err)) => fed.and(out).and(err),
                }
            };
            self.status_and(moved).await?
        };
        Ok(Output { status, stdout: out, stderr: err })
    }

    /// Waits for the child's end, and for that of its pipes: as long as it takes, or as long as
    /// was asked for after the child has ended.
    #[inline]
    async fn status_and(
        &mut self,
        moved: impl Future<Output = io::Result<()>>,
    ) -> io::Result<ExitStatus> {
        let (mut moved, exit) = (pin!(moved), self.status());
        let first = race(
            async {
                moved.as_mut().await?;
                Ok(None)
            },
            async { exit.await.map(Some) },
        );
        match (first.await?, self.wait_delay) {
            (None, _) => self.status().await,
            (Some(status), None) => moved.await.map(|()| status),
            (Some(status), Some(delay)) => {
                timeout(delay, moved).await.unwrap_or(Ok(())).map(|()| status)
            }
        }
    }

    /// Sends SIGKILL, which ends the child, or all of its group if it has
    /// [one of its own](super::Command::kill_group). Once it has ended, this does nothing.
    ///
    /// It is ended and reaped when [`status`](Self::status) says so.
    ///
    /// # Errors
    ///
    /// As for [`signal`](Self::signal).
    ///
    /// # Examples
    ///
    /// See [`try_status`](Self::try_status).
    #[inline]
    pub fn kill(&self) -> io::Result<()> {
        self.signal(SIGKILL)
    }

    /// Sends a signal to the child, or to all of its group if it has
    /// [one of its own](super::Command::kill_group). Once the child was reaped, this does nothing:
    /// the signal can never reach another process that has got its number.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a number that no signal has; a child that
    /// has taken another user's identity may not be signalled (kill(2)).
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::process::Command;
    /// use selio::signal::SIGHUP;
    /// use std::os::unix::process::ExitStatusExt;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut child = Command::new("sleep").arg("60").spawn()?;
    /// child.signal(SIGHUP)?;
    /// assert_eq!(selio::block_on(child.status())?.signal(), Some(SIGHUP));
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        self.keeper.running.signal(signal)
    }

    /// Asks the child to end, and makes it end if it has not after some time: SIGTERM, a wait of at
    /// most `grace`, SIGKILL. Returns how it ended.
    ///
    /// # Errors
    ///
    /// Those of [`signal`](Self::signal) and [`status`](Self::status).
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped during the wait, SIGKILL is not sent. It may be called again.
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::process::Command;
    /// use std::os::unix::process::ExitStatusExt;
    /// use std::time::Duration;
    ///
    /// const SIGTERM: i32 = 15;
    /// # fn main() -> std::io::Result<()> {
    /// let mut child = Command::new("sleep").arg("60").spawn()?;
    /// let status = selio::block_on(child.terminate(Duration::from_secs(5)))?;
    /// assert_eq!(status.signal(), Some(SIGTERM));
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub async fn terminate(&mut self, grace: Duration) -> io::Result<ExitStatus> {
        self.signal(SIGTERM)?;
        match timeout(grace, self.status()).await {
            Ok(status) => status,
            Err(_) => {
                self.kill()?;
                self.status().await
            }
        }
    }
}

impl AsFd for Child {
    /// The pidfd (pidfd_open(2)). Where the system gives none, a descriptor that becomes readable
    /// at the child's end all the same.
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.keeper.running.as_fd()
    }
}

impl Drop for Keeper {
    #[inline]
    fn drop(&mut self) {
        if self.kill_on_drop {
            // It fails for a child with another identity alone, which then runs on.
            _ = self.running.signal(SIGKILL);
        }
        dropped::adopt(&self.running);
    }
}

impl fmt::Debug for Child {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("id", &self.id())
            .field("stdin", &self.stdin)
            .field("stdout", &self.stdout)
            .field("stderr", &self.stderr)
            .finish_non_exhaustive()
    }
}

impl Async<File> {
    /// Makes a pipe the standard input or output of another command, blocking as programs expect
    /// it.
    ///
    /// # Errors
    ///
    /// Those of fcntl(2).
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::process::Command;
    /// use std::process::Stdio;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut echo = Command::new("echo").arg("hello").stdout(Stdio::piped()).spawn()?;
    /// let said = echo.stdout.take().expect("it was piped").into_stdio()?;
    /// let output = selio::block_on(Command::new("rev").stdin(said).output())?;
    /// assert_eq!(output.stdout, b"olleh\n");
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn into_stdio(self) -> io::Result<Stdio> {
        let file = self.into_inner()?;
        descriptor::set_blocking(&file)?;
        Ok(Stdio::from(file))
    }
}

/// Our end of a pipe that std has made.
fn pipe(end: impl Into<OwnedFd>) -> io::Result<Pipe> {
    Async::new(File::from(end.into()))
}

/// Writes all of the input and closes the pipe. If nobody reads it any more, that is their affair.
#[inline]
async fn feed(pipe: Option<Pipe>, input: &[u8]) -> io::Result<()> {
    let Some(pipe) = pipe else { return Ok(()) };
    match pipe.write_all(input).await {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// Reads to the end.
#[inline]
async fn drain(pipe: Option<Pipe>, into: &mut Vec<u8>) -> io::Result<()> {
    let Some(pipe) = pipe else { return Ok(()) };
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match pipe.read(&mut buffer).await? {
            0 => return Ok(()),
            n => into.extend_from_slice(&buffer[..n]),
        }
    }
}
