//! `std::os::fd` for the modelled kernel's descriptors.

use super::{close, file, install};
use crate::counted::Arc;
use std::io;
use std::marker::PhantomData;

pub use std::os::fd::RawFd;

pub trait AsRawFd {
    fn as_raw_fd(&self) -> RawFd;
}

pub trait AsFd {
    fn as_fd(&self) -> BorrowedFd<'_>;
}

pub trait FromRawFd {
    /// # Safety
    ///
    /// As std's.
    unsafe fn from_raw_fd(fd: RawFd) -> Self;
}

#[derive(Debug, Clone, Copy)]
pub struct BorrowedFd<'a> {
    fd: RawFd,
    owner: PhantomData<&'a OwnedFd>,
}

/// Closes its descriptor when it is dropped.
#[derive(Debug)]
pub struct OwnedFd(RawFd);

impl BorrowedFd<'_> {
    /// # Safety
    ///
    /// As std's.
    pub const unsafe fn borrow_raw(fd: RawFd) -> Self {
        Self { fd, owner: PhantomData }
    }

    pub fn try_clone_to_owned(&self) -> io::Result<OwnedFd> {
        let file = file(self.fd).ok_or_else(|| io::Error::from_raw_os_error(9))?;
        Ok(OwnedFd(install(&file)))
    }
}

impl OwnedFd {
    pub fn try_clone(&self) -> io::Result<Self> {
        self.as_fd().try_clone_to_owned()
    }
}

impl Drop for OwnedFd {
    fn drop(&mut self) {
        close(self.0);
    }
}

impl FromRawFd for OwnedFd {
    unsafe fn from_raw_fd(fd: RawFd) -> Self {
        Self(fd)
    }
}

impl AsRawFd for OwnedFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

impl AsRawFd for BorrowedFd<'_> {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

impl AsFd for OwnedFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: it is open as long as `self` lives.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

impl AsFd for BorrowedFd<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        *self
    }
}

impl<T: AsFd + ?Sized> AsFd for &T {
    fn as_fd(&self) -> BorrowedFd<'_> {
        T::as_fd(self)
    }
}

impl<T: AsFd> AsFd for Arc<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        T::as_fd(self)
    }
}
