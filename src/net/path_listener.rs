//! A listener that owns its path.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::SocketAddr;
use std::path::{self, Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::unix::{UnixListener, UnixStream, patiently};
use crate::sys::fork;
use crate::sys::unix::{self, Kind};

/// How often and after what pauses a listener that is dropped tries to lock its directory.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(1);

/// A Unix socket that listens at a path which is its own: it replaces what a dead server has left
/// there, and takes the path away when it is dropped.
///
/// Of several servers that start at the same path, in whatever processes, one gets it, and the
/// others are told that it is taken: while one looks and binds, the directory is locked
/// (flock(2)). No file is left besides. Who is alive at the path is found out by connecting to it;
/// such a server accepts a connection that ends at once.
///
/// A server that is killed leaves its path, as any does, until the next one starts there.
///
/// # Examples
///
/// ```
/// use selio::net::{PathListener, UnixStream};
///
/// # fn main() -> std::io::Result<()> {
/// # let path = std::env::temp_dir().join(format!("selio-own-{}", std::process::id()));
/// selio::block_on(async {
///     // Somebody has died and left this behind.
///     drop(std::os::unix::net::UnixListener::bind(&path)?);
///     let listener = PathListener::bind(&path).await?;
///     assert!(PathListener::bind(&path).await.is_err());
///     let client = UnixStream::connect(&path).await?;
///     drop(listener);
///     assert!(!path.exists());
///     Ok(())
/// })
/// # }
/// ```
#[derive(Debug)]
pub struct PathListener {
    listener: UnixListener,
    /// Absolute, for the program may change its directory.
    path: PathBuf,
    /// Device and inode of the path that is ours.
    identity: (u64, u64),
    /// A forked child takes nothing away from its parent.
    process: usize,
}

impl PathListener {
    /// Binds a socket to a path and begins to listen. What a server has left there that has died is
    /// replaced.
    ///
    /// # Errors
    ///
    /// [`AddrInUse`](io::ErrorKind::AddrInUse) if somebody listens there, or if there is something
    /// that is no socket, which stays as it is. Else those of opening the directory, of removing
    /// the path and of bind(2). A path of more than 107 bytes, or with a zero byte in it, is
    /// [`InvalidInput`](io::ErrorKind::InvalidInput).
    ///
    /// # Cancel safety
    ///
    /// It waits only for others who look or bind in the same directory; then nothing has happened.
    ///
    /// # Examples
    ///
    /// See [`PathListener`].
    pub async fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        let given = path.as_ref();
        let address = SocketAddr::from_pathname(given)?;
        let path = path::absolute(given)?;
        let directory = File::open(parent(&path))?;
        patiently(|| unix::try_lock(&directory)).await?;
        remove_if_stale(given, &address)?;
        let listener = UnixListener::bind_addr(&address)?;
        let identity = identity(&fs::symlink_metadata(given)?);
        Ok(Self { listener, path, identity, process: fork::process_id() })
    }

    /// As [`UnixListener::accept`].
    ///
    /// # Errors
    ///
    /// As for [`UnixListener::accept`].
    ///
    /// # Cancel safety
    ///
    /// As for [`UnixListener::accept`].
    ///
    /// # Examples
    ///
    /// See [`UnixListener`].
    pub async fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        self.listener.accept().await
    }

    /// The listener.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # let path = std::env::temp_dir().join(format!("selio-asked-{}", std::process::id()));
    /// let listener = selio::block_on(selio::net::PathListener::bind(&path))?;
    /// assert_eq!(listener.listener().local_addr()?.as_pathname(), Some(&*path));
    /// # Ok(())
    /// # }
    /// ```
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Takes the path away, if it is still the own one. Nobody can bind there meanwhile.
    fn remove(&self) -> io::Result<()> {
        let directory = File::open(parent(&self.path))?;
        let mut tries = 0;
        while let Err(error) = unix::try_lock(&directory) {
            tries += 1;
            if tries == TRIES {
                return Err(error);
            }
            thread::sleep(PAUSE);
        }
        if identity(&fs::symlink_metadata(&self.path)?) == self.identity {
            fs::remove_file(&self.path)?;
        }
        Ok(())
    }
}

/// The directory of a path that is absolute.
fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Called while the directory is locked.
fn remove_if_stale(path: &Path, address: &SocketAddr) -> io::Result<()> {
    let in_use = |why| Err(io::Error::new(io::ErrorKind::AddrInUse, why));
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return in_use("there is something at the path that is no socket");
        }
        Ok(_) => {}
    }
    match unix::connect(Kind::Stream, address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        // Connected, or its queue is full, or it is of another sort: it is alive.
        _ => in_use("somebody listens at the path"),
    }
}

impl Drop for PathListener {
    fn drop(&mut self) {
        if self.process == fork::process_id() {
            // What cannot be taken away is stale from now on, and the next one replaces it.
            _ = self.remove();
        }
    }
}

impl AsFd for PathListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.get_ref().as_fd()
    }
}
