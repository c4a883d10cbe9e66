//! Sending a part of a file.

use std::fs::File;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;

use super::Async;
use super::copy::{BUFFER, Sink};
use super::pace::Pace;
use crate::sys::splice::{is_refusal, send_file};

/// The most that is asked for at a time, so that others run in between.
const MOST: i64 = 256 * 1024;

/// Sends the bytes of a file whose offsets are in `range`, `..` for all, and returns how many.
///
/// It stops at the end of the file, also if that comes sooner than expected: whoever truncates the
/// file meanwhile makes it send less, and that is no error. A range that is empty, or begins past
/// the end, sends nothing. The file's own position neither counts nor moves.
///
/// The kernel takes the bytes from its page cache, by sendfile(2). Where it, a filter of system
/// calls or the kind of file refuses that, they go through a buffer of 64 KiB. Either way the
/// *whole thread* waits for what is not in the cache to be read from the disk; for large files on
/// slow disks [`unblock`](crate::unblock()) is the place. And pages that wait to be sent are not
/// copies: what is written to the file meanwhile may be sent instead.
///
/// Nobody there to read any more is a [`BrokenPipe`](io::ErrorKind::BrokenPipe), and no `SIGPIPE`,
/// as for [`copy`](super::copy()). However fast the sink is, other tasks run in between.
///
/// # Errors
///
/// Those of pread(2) and write(2), and those of [`Async::writable`];
/// [`WriteZero`](io::ErrorKind::WriteZero) if `to` takes nothing any more. How much was sent before
/// an error is not told.
///
/// # Cancel safety
///
/// Nothing is lost, for the file stays as it is; but how much was sent when the future is dropped
/// is not told.
///
/// # Examples
///
/// ```
/// use selio::io::sendfile;
/// use std::io::Read;
/// use std::os::unix::net::UnixStream;
///
/// # fn main() -> std::io::Result<()> {
/// let path = std::env::temp_dir().join(format!("selio-sendfile-{}", std::process::id()));
/// std::fs::write(&path, "0123456789")?;
/// let file = std::fs::File::open(&path)?;
/// std::fs::remove_file(&path)?;
///
/// let (near, mut far) = UnixStream::pair()?;
/// let near = selio::Async::new(near)?;
/// let sent = selio::block_on(sendfile(&file, 4..=6, &near))?;
/// assert_eq!(sent, 3);
/// let mut heard = [0; 3];
/// far.read_exact(&mut heard)?;
/// assert_eq!(&heard, b"456");
/// # Ok(())
/// # }
/// ```
pub async fn sendfile<W: AsFd>(
    file: &File,
    range: impl RangeBounds<u64>,
    to: &Async<W>,
) -> io::Result<u64> {
    let (start, end) = offsets(&range);
    let mut sending = Sending { file, at: start, end, sink: Sink::new(to), buffer: None };
    let mut pace = Pace::new();
    while sending.at < end && sending.step().await? {
        pace.keep((sending.at - start) as u64).await;
    }
    Ok((sending.at - start) as u64)
}

/// The first offset, and the one after the last. No file reaches beyond those that the kernel can
/// name.
fn offsets(range: &impl RangeBounds<u64>) -> (i64, i64) {
    let start = match range.start_bound() {
        Bound::Included(&first) => first,
        Bound::Excluded(&before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&last) => last.saturating_add(1),
        Bound::Excluded(&end) => end,
        Bound::Unbounded => u64::MAX,
    };
    let clamp = |offset: u64| i64::try_from(offset).unwrap_or(i64::MAX);
    (clamp(start), clamp(end))
}

struct Sending<'a, W> {
    file: &'a File,
    at: i64,
    end: i64,
    sink: Sink<'a, W>,
    /// Made when sendfile(2) has been refused.
    buffer: Option<Vec<u8>>,
}

impl<W: AsFd> Sending<'_, W> {
    /// Sends some bytes, or says that the file ends here.
    async fn step(&mut self) -> io::Result<bool> {
        let most = (self.end - self.at).min(MOST) as usize;
        let sent = match &mut self.buffer {
            None => match self.send(most).await {
                Err(error) if is_refusal(&error) => {
                    self.buffer = Some(vec![0; BUFFER]);
                    return Ok(true);
                }
                sent => sent?,
            },
            Some(buffer) => {
                let most = most.min(BUFFER);
                let got = read_at(self.file, &mut buffer[..most], self.at)?;
                self.sink.write_all(&buffer[..got]).await?;
                got
            }
        };
        self.at += sent as i64;
        Ok(sent > 0)
    }

    async fn send(&self, most: usize) -> io::Result<usize> {
        let (file, to) = (self.file.as_raw_fd(), self.sink.to.fd());
        let op = || self.sink.sigpipe.spare(|| send_file(file, self.at, to, most));
        self.sink.to.write_with(|_| op()).await
    }
}

/// Reads at an offset; pread(2) may be interrupted on some file systems.
fn read_at(file: &File, buffer: &mut [u8], offset: i64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, offset as u64) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
