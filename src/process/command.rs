//! What is to be started, and how.

use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, CommandArgs, CommandEnvs, ExitStatus, Output, Stdio};
use std::time::Duration;

use super::child::Child;
use super::dropped;
use super::running::Running;

/// Starts processes: `std::process::Command` with children that can be awaited.
///
/// A child is started by std, by `posix_spawn(3)` wherever std can, so that the cost does not grow
/// with the memory of this process. It begins with the signal mask of the calling thread and with
/// default dispositions, whatever [`Signals`](crate::signal::Signals) there are, and with the timer
/// slack that the thread has without any [`TimerSlack`](crate::time::TimerSlack).
///
/// What is not here is set on a `std::process::Command` that is then converted (`From`); so are
/// functions to be run before exec.
///
/// # Examples
///
/// ```
/// use selio::process::Command;
///
/// # fn main() -> std::io::Result<()> {
/// let output = selio::block_on(Command::new("echo").arg("hello").output())?;
/// assert!(output.status.success());
/// assert_eq!(output.stdout, b"hello\n");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Command {
    command: process::Command,
    /// Which of stdin, stdout and stderr were set.
    set: [bool; 3],
    kill_on_drop: bool,
    kill_group: bool,
    wait_delay: Option<Duration>,
}

impl From<process::Command> for Command {
    /// Takes over all that was set. What was set of stdin, stdout and stderr cannot be asked of
    /// std: [`Command::output`] replaces it, unless it is set here again.
    #[inline]
    fn from(command: process::Command) -> Self {
        let (kill_on_drop, kill_group, wait_delay) = (false, false, None);
        Self { command, set: [false; 3], kill_on_drop, kill_group, wait_delay }
    }
}

impl Command {
    /// Makes a command for a program, which is looked for in `PATH` if its name has no slash. It
    /// has no arguments, inherits the environment and the current directory, and if it is not
    /// started by [`output`](Self::output) the standard streams as well.
    ///
    /// # Examples
    ///
    /// See [`Command`].
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        process::Command::new(program).into()
    }

    /// Adds an argument.
    ///
    /// # Examples
    ///
    /// See [`Command`].
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let mut command = selio::process::Command::new("sh");
    /// let status = selio::block_on(command.args(["-c", "exit 3"]).status())?;
    /// assert_eq!(status.code(), Some(3));
    /// # Ok(())
    /// # }
    /// ```
    pub fn args(&mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Self {
        self.command.args(args);
        self
    }

    /// Sets the name that the program is told as its own, in place of the path.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let mut command = selio::process::Command::new("sh");
    /// let output = selio::block_on(command.arg0("me").args(["-c", "echo $0"]).output())?;
    /// assert_eq!(output.stdout, b"me\n");
    /// # Ok(())
    /// # }
    /// ```
    pub fn arg0(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.command.arg0(arg);
        self
    }

    /// Sets a variable of the child's environment.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let mut command = selio::process::Command::new("sh");
    /// command.args(["-c", "echo $GREETING"]).env("GREETING", "hello");
    /// assert_eq!(selio::block_on(command.output())?.stdout, b"hello\n");
    /// # Ok(())
    /// # }
    /// ```
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.command.env(key, value);
        self
    }

    /// Sets variables of the child's environment.
    ///
    /// # Examples
    ///
    /// See [`env`](Self::env).
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        &mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> &mut Self {
        self.command.envs(variables);
        self
    }

    /// Keeps a variable out of the child's environment.
    ///
    /// # Examples
    ///
    /// See [`env`](Self::env).
    pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Self {
        self.command.env_remove(key);
        self
    }

    /// Gives the child no variables but those that are set from here on.
    ///
    /// # Examples
    ///
    /// See [`env`](Self::env).
    #[inline]
    pub fn env_clear(&mut self) -> &mut Self {
        self.command.env_clear();
        self
    }

    /// Sets the child's working directory.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let mut command = selio::process::Command::new("pwd");
    /// assert_eq!(selio::block_on(command.current_dir("/").output())?.stdout, b"/\n");
    /// # Ok(())
    /// # }
    /// ```
    pub fn current_dir(&mut self, dir: impl AsRef<Path>) -> &mut Self {
        self.command.current_dir(dir);
        self
    }

    /// Sets the child's user id. Then, and with [`gid`](Self::gid), std has to fork.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let mut command = selio::process::Command::new("id");
    /// command.uid(65534).gid(65534);
    /// ```
    #[inline]
    pub fn uid(&mut self, id: u32) -> &mut Self {
        self.command.uid(id);
        self
    }

    /// Sets the child's group id.
    ///
    /// # Examples
    ///
    /// See [`uid`](Self::uid).
    #[inline]
    pub fn gid(&mut self, id: u32) -> &mut Self {
        self.command.gid(id);
        self
    }

    /// Sets the child's process group: zero for one of its own.
    ///
    /// Terminals send Ctrl-C to the group in their foreground, so a child of another group does not
    /// get it. This takes [`kill_group`](Self::kill_group) back.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut command = selio::process::Command::new("true");
    /// command.process_group(0);
    /// ```
    #[inline]
    pub fn process_group(&mut self, group: i32) -> &mut Self {
        self.command.process_group(group);
        self.kill_group = false;
        self
    }

    /// Makes the child the leader of a process group of its own that shares its fate: signals go
    /// to all of the group, and when the child has ended, whoever is left in the group gets SIGKILL
    /// before the child is reaped.
    ///
    /// So the children of a shell do not outlive it. A process that has moved to another group, or
    /// to a session of its own (setsid(2)), is out of reach.
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::process::Command;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut command = Command::new("sh");
    /// // The sleeper holds the pipe, but does not live to see it.
    /// command.args(["-c", "sleep 60 & echo done"]).kill_group(true);
    /// assert_eq!(selio::block_on(command.output())?.stdout, b"done\n");
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn kill_group(&mut self, kill: bool) -> &mut Self {
        if kill {
            self.command.process_group(0);
        }
        self.kill_group = kill;
        self
    }

    /// Says whether a [`Child`] that is dropped is killed by SIGKILL: not unless this is called.
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::process::Command;
    /// use selio::time::timeout;
    /// use std::time::Duration;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut command = Command::new("sleep");
    /// let output = command.arg("60").kill_on_drop(true).output();
    /// // The one who waits gives up, and the child is killed.
    /// assert!(selio::block_on(timeout(Duration::from_millis(10), output)).is_err());
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut Self {
        self.kill_on_drop = kill;
        self
    }

    /// Says for how long [`output`](Child::output) goes on reading when the child has ended but
    /// somebody else, mostly a child of its own, still holds its pipes. What was read by then is
    /// returned. Without this it waits until they are closed.
    ///
    /// # Examples
    ///
    /// ```
    /// use selio::process::Command;
    /// use std::time::Duration;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut command = Command::new("sh");
    /// command.args(["-c", "sleep 2 & echo done"]).wait_delay(Duration::from_millis(50));
    /// assert_eq!(selio::block_on(command.output())?.stdout, b"done\n");
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn wait_delay(&mut self, delay: Duration) -> &mut Self {
        self.wait_delay = Some(delay);
        self
    }

    /// Sets the child's standard input: inherited if it is not set, but empty for
    /// [`output`](Self::output).
    ///
    /// # Examples
    ///
    /// See [`Child`].
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut Self {
        self.command.stdin(stdin);
        self.set[0] = true;
        self
    }

    /// Sets the child's standard output: inherited if it is not set, but piped for
    /// [`output`](Self::output).
    ///
    /// # Examples
    ///
    /// See [`Child`].
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut Self {
        self.command.stdout(stdout);
        self.set[1] = true;
        self
    }

    /// Sets the child's standard error: inherited if it is not set, but piped for
    /// [`output`](Self::output).
    ///
    /// # Examples
    ///
    /// See [`Child`].
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut Self {
        self.command.stderr(stderr);
        self.set[2] = true;
        self
    }

    /// Starts the program.
    ///
    /// This blocks until the child has done its exec, or has failed to: mostly well under a
    /// millisecond.
    ///
    /// # Errors
    ///
    /// Those of std's `spawn`: for instance [`NotFound`](io::ErrorKind::NotFound) if there is no
    /// such program. If there is no room for the descriptor by which the child is watched, nothing
    /// is started, or what was started is killed and reaped.
    ///
    /// # Examples
    ///
    /// See [`Child`].
    #[inline]
    pub fn spawn(&mut self) -> io::Result<Child> {
        dropped::sweep();
        let (running, started) = Running::start(&mut self.command, self.kill_group)?;
        let mut child = Child::new(running, self.kill_on_drop, self.wait_delay);
        if let Err(error) = child.connect(started) {
            // Nobody could speak to it. It is reaped as any child that is dropped.
            _ = child.kill();
            return Err(error);
        }
        Ok(child)
    }

    /// Starts the program and waits until it has ended. It is started by the call, not by the first
    /// poll.
    ///
    /// # Errors
    ///
    /// Those of [`spawn`](Self::spawn) and of [`Child::status`].
    ///
    /// # Cancel safety
    ///
    /// The child is dropped with the future: it runs on, unless it is
    /// [killed](Self::kill_on_drop).
    ///
    /// # Examples
    ///
    /// See [`args`](Self::args).
    #[inline]
    pub fn status(&mut self) -> impl Future<Output = io::Result<ExitStatus>> + use<> {
        let child = self.spawn();
        async move { child?.status().await }
    }

    /// Starts the program, reads all that it writes and complains of, and waits until it has ended.
    /// It is started by the call, not by the first poll, with nothing to read.
    ///
    /// # Errors
    ///
    /// Those of [`spawn`](Self::spawn) and of [`Child::output`].
    ///
    /// # Cancel safety
    ///
    /// The child is dropped with the future, and what was read is lost.
    ///
    /// # Examples
    ///
    /// See [`Command`].
    #[inline]
    pub fn output(&mut self) -> impl Future<Output = io::Result<Output>> + use<> {
        let child = self.spawn_with_pipes();
        async move { child?.output().await }
    }

    /// Starts the program with pipes for whatever was not set. Another time it may be started
    /// without.
    #[inline]
    fn spawn_with_pipes(&mut self) -> io::Result<Child> {
        let [stdin, stdout, stderr] = self.set;
        if !stdin {
            self.command.stdin(Stdio::null());
        }
        if !stdout {
            self.command.stdout(Stdio::piped());
        }
        if !stderr {
            self.command.stderr(Stdio::piped());
        }
        let child = self.spawn();
        if !stdin {
            self.command.stdin(Stdio::inherit());
        }
        if !stdout {
            self.command.stdout(Stdio::inherit());
        }
        if !stderr {
            self.command.stderr(Stdio::inherit());
        }
        child
    }

    /// Returns the program.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut command = selio::process::Command::new("ls");
    /// command.arg("-l").env("LANG", "C").current_dir("/");
    /// assert_eq!(command.get_program(), "ls");
    /// assert_eq!(command.get_args().collect::<Vec<_>>(), ["-l"]);
    /// assert_eq!(command.get_envs().count(), 1);
    /// assert_eq!(command.get_current_dir(), Some("/".as_ref()));
    /// ```
    #[must_use]
    #[inline]
    pub fn get_program(&self) -> &OsStr {
        self.command.get_program()
    }

    /// Returns the arguments.
    ///
    /// # Examples
    ///
    /// See [`get_program`](Self::get_program).
    #[inline]
    pub fn get_args(&self) -> CommandArgs<'_> {
        self.command.get_args()
    }

    /// Returns the variables that are set, or kept out (`None`).
    ///
    /// # Examples
    ///
    /// See [`get_program`](Self::get_program).
    #[inline]
    pub fn get_envs(&self) -> CommandEnvs<'_> {
        self.command.get_envs()
    }

    /// Returns the working directory, if it is set.
    ///
    /// # Examples
    ///
    /// See [`get_program`](Self::get_program).
    #[must_use]
    #[inline]
    pub fn get_current_dir(&self) -> Option<&Path> {
        self.command.get_current_dir()
    }
}
