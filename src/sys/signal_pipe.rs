//! The pipe from the signal handler to whoever reads signals: one per process, never closed,
//! because a handler may be running in any thread at any time.
//!
//! A handler must not wait, so a full pipe refuses it. Then it raises the signal's flag and writes
//! *once more*. The reader empties the pipe first and looks at the flags *after* that. Either the
//! second write was refused too, and there was something to read after the flag was up; or it got
//! through, and is an event of its own.
//!
//! A read that brings less than was asked for has emptied the pipe (epoll(7)), as one that fails
//! would have told. And a handler notes that it has written, so that a task which it interrupted
//! can read at once, and need not wait to be told.

use super::fork::PerProcess;
use super::signal_record::SignalRecord;
use super::{MOST_SIGNALS, ask_for_capacity, pipe};
use libc::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// What the kernel lets any process have (pipe(7)): room for 16,384 signals. Where the system
/// allows less, the default holds 1,024.
const CAPACITY: c_int = 1 << 20;

/// How many signals one read may bring.
const BATCH: usize = 64;

/// How many flags there are in a word.
const BITS: usize = u32::BITS as usize;

static PIPE: PerProcess<SignalPipe> = PerProcess::new();

#[derive(Debug)]
pub(crate) struct SignalPipe {
    reader: OwnedFd,
    writer: OwnedFd,
    /// Whether a handler has written since somebody has begun to read.
    unread: AtomicBool,
    /// The signals of which a delivery did not fit into the pipe, a bit for each.
    missed: [AtomicU32; MOST_SIGNALS / BITS],
}

/// Another descriptor of the pipe's read end, to be registered somewhere.
#[derive(Debug)]
pub(crate) struct PipeReader(OwnedFd);

impl SignalPipe {
    /// Returns the pipe of this process, made at the first call.
    #[inline]
    pub(crate) fn get() -> io::Result<&'static Self> {
        PIPE.get_or_make(Self::new)
    }

    #[inline]
    fn new() -> io::Result<Self> {
        let (reader, writer) = pipe()?;
        ask_for_capacity(&writer, CAPACITY);
        let missed = [const { AtomicU32::new(0) }; MOST_SIGNALS / BITS];
        Ok(Self { reader, writer, unread: AtomicBool::new(false), missed })
    }

    #[inline]
    pub(crate) fn reader(&self) -> io::Result<PipeReader> {
        Ok(PipeReader(self.reader.try_clone()?))
    }

    /// Whether a handler has written what nobody has begun to read. It is a hint, for who would
    /// otherwise wait: whoever waits is told by the pipe itself.
    #[inline]
    pub(crate) fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    /// Takes all that is there. Of a signal that did not fit, only the number is left.
    pub(crate) fn drain(&self, mut each: impl FnMut(SignalRecord)) -> io::Result<()> {
        // Before the reads: what is written meanwhile is noted again.
        self.unread.store(false, Ordering::Relaxed);
        let mut batch = [const { MaybeUninit::uninit() }; BATCH];
        loop {
            let records = self.read(&mut batch)?;
            records.iter().copied().for_each(&mut each);
            if records.len() < BATCH {
                break;
            }
        }
        for (first, missed) in (0..).step_by(BITS).zip(&self.missed) {
            // Not written without need: all handlers share it.
            if missed.load(Ordering::Relaxed) != 0 {
                let flags = missed.swap(0, Ordering::SeqCst);
                let signals = (0..u32::BITS as c_int).filter(|bit| flags >> bit & 1 == 1);
                signals.for_each(|bit| each(SignalRecord::of(first + bit)));
            }
        }
        Ok(())
    }

    /// Reads a batch. Less than a full one is the last; it is empty if the pipe was.
    #[inline]
    fn read<'a>(
        &self,
        batch: &'a mut [MaybeUninit<SignalRecord>; BATCH],
    ) -> io::Result<&'a [SignalRecord]> {
        let target = batch.as_mut_ptr();
        // SAFETY: `target` points at `batch`, which is writable, as long as said, and outlives the
        // call.
        let count =
            unsafe { libc::read(self.reader.as_raw_fd(), target.cast(), size_of_val(batch)) };
        let count = match usize::try_from(count) {
            // Writes of this size go in whole (pipe(7)), so they come out whole.
            Ok(count) if count > 0 && count % size_of::<SignalRecord>() == 0 => {
                count / size_of::<SignalRecord>()
            }
            // Somebody has put another file under our number.
            Ok(_) => return Err(io::Error::from_raw_os_error(libc::EIO)),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => 0,
                error => return Err(error),
            },
        };
        // SAFETY: the kernel has just filled so many records, which are made of integers, for which
        // any bits are a value.
        Ok(unsafe { slice::from_raw_parts(target.cast(), count) })
    }

    /// Async-signal-safe: system calls and atomics only.
    #[inline]
    fn write(&self, record: &SignalRecord) {
        if !self.try_write(record) {
            let Ok(signal) = usize::try_from(record.signo) else { return };
            let Some(missed) = self.missed.get(signal / BITS) else { return };
            missed.fetch_or(1 << (signal % BITS), Ordering::SeqCst);
            self.try_write(record);
        }
        self.unread.store(true, Ordering::Relaxed);
    }

    #[inline]
    fn try_write(&self, record: &SignalRecord) -> bool {
        let source = std::ptr::from_ref(record).cast();
        // SAFETY: `source` points at `record`, which is as long as said and outlives the call.
        let count =
            unsafe { libc::write(self.writer.as_raw_fd(), source, size_of::<SignalRecord>()) };
        count >= 0
    }
}

/// Writes a signal to this process's pipe, if there is one. Async-signal-safe.
#[inline]
pub(super) fn send(record: &SignalRecord) {
    if let Some(pipe) = PIPE.get() {
        pipe.write(record);
    }
}

impl AsFd for PipeReader {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
