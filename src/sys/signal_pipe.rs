//! The pipe from the signal handler to whoever reads signals: one per process, never closed,
//! because a handler may be running in any thread at any time.
//!
//! A handler must not wait, so a full pipe refuses it. Then it raises the signal's flag and writes
//! *once more*. The reader empties the pipe first and looks at the flags *after* that. Either the
//! second write was refused too, and there was something to read after the flag was up; or it got
//! through, and is an event of its own.

use super::fork::PerProcess;
use super::signal_record::SignalRecord;
use super::{MOST_SIGNALS, ask_for_capacity, pipe};
use libc::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// What the kernel lets any process have (pipe(7)): room for 16,384 signals. Where the system
/// allows less, the default holds 1,024.
const CAPACITY: c_int = 1 << 20;

/// How many signals one read may bring.
const BATCH: usize = 64;

static PIPE: PerProcess<SignalPipe> = PerProcess::new();

#[derive(Debug)]
pub(crate) struct SignalPipe {
    reader: OwnedFd,
    writer: OwnedFd,
    /// The signals of which a delivery did not fit into the pipe.
    missed: [AtomicBool; MOST_SIGNALS],
}

/// Another descriptor of the pipe's read end, to be registered somewhere.
#[derive(Debug)]
pub(crate) struct PipeReader(OwnedFd);

impl SignalPipe {
    /// Returns the pipe of this process, made at the first call.
    pub(crate) fn get() -> io::Result<&'static Self> {
        PIPE.get_or_make(Self::new)
    }

    fn new() -> io::Result<Self> {
        let (reader, writer) = pipe()?;
        ask_for_capacity(&writer, CAPACITY);
        Ok(Self { reader, writer, missed: [const { AtomicBool::new(false) }; MOST_SIGNALS] })
    }

    pub(crate) fn reader(&self) -> io::Result<PipeReader> {
        Ok(PipeReader(self.reader.try_clone()?))
    }

    /// Takes all that is there. Of a signal that did not fit, only the number is left.
    pub(crate) fn drain(&self, mut each: impl FnMut(SignalRecord)) -> io::Result<()> {
        let mut batch = [SignalRecord::default(); BATCH];
        loop {
            let count = self.read(&mut batch)?;
            if count == 0 {
                break;
            }
            batch[..count].iter().copied().for_each(&mut each);
        }
        for (signal, missed) in (0..).zip(&self.missed) {
            if missed.load(Ordering::Relaxed) && missed.swap(false, Ordering::SeqCst) {
                each(SignalRecord::of(signal));
            }
        }
        Ok(())
    }

    /// Reads a batch; none if the pipe is empty.
    fn read(&self, batch: &mut [SignalRecord; BATCH]) -> io::Result<usize> {
        let target = batch.as_mut_ptr().cast();
        // SAFETY: `target` points at `batch`, which is writable, as long as said, outlives the
        // call, and is made of integers, for which any bits are a value.
        let count = unsafe { libc::read(self.reader.as_raw_fd(), target, size_of_val(batch)) };
        match usize::try_from(count) {
            // Writes of this size go in whole (pipe(7)), so they come out whole.
            Ok(count) if count > 0 && count % size_of::<SignalRecord>() == 0 => {
                Ok(count / size_of::<SignalRecord>())
            }
            // Somebody has put another file under our number.
            Ok(_) => Err(io::Error::from_raw_os_error(libc::EIO)),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                error => Err(error),
            },
        }
    }

    /// Async-signal-safe: system calls and atomics only.
    fn write(&self, record: &SignalRecord) {
        if self.try_write(record) {
            return;
        }
        if let Some(missed) = usize::try_from(record.signo).ok().and_then(|at| self.missed.get(at))
        {
            missed.store(true, Ordering::SeqCst);
            self.try_write(record);
        }
    }

    fn try_write(&self, record: &SignalRecord) -> bool {
        let source = std::ptr::from_ref(record).cast();
        // SAFETY: `source` points at `record`, which is as long as said and outlives the call.
        let count =
            unsafe { libc::write(self.writer.as_raw_fd(), source, size_of::<SignalRecord>()) };
        count >= 0
    }
}

/// Writes a signal to this process's pipe, if there is one. Async-signal-safe.
pub(super) fn send(record: &SignalRecord) {
    if let Some(pipe) = PIPE.get() {
        pipe.write(record);
    }
}

impl AsFd for PipeReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
