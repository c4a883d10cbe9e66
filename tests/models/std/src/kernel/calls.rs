//! The system calls that the modelled sources make, by their names in libc.

use super::{Refused, file, new_counter, new_pipe};
use std::ffi::{c_int, c_uint, c_void};
use std::slice;

const EBADF: c_int = 9;
const EAGAIN: c_int = 11;
const EINVAL: c_int = 22;

unsafe extern "C" {
    fn __errno_location() -> *mut c_int;
}

fn answer(result: Result<usize, Refused>) -> isize {
    let number = match result {
        Ok(count) => return count as isize,
        Err(Refused::WouldBlock) => EAGAIN,
        Err(Refused::Invalid) => EINVAL,
    };
    fail(number)
}

fn fail(number: c_int) -> isize {
    // SAFETY: the address is this thread's `errno`.
    unsafe { *__errno_location() = number };
    -1
}

/// # Safety
///
/// As read(2).
pub unsafe fn read(fd: c_int, target: *mut c_void, length: usize) -> isize {
    let Some(file) = file(fd) else { return fail(EBADF) };
    // SAFETY: the caller says that it is writable and as long.
    answer(file.read(unsafe { slice::from_raw_parts_mut(target.cast(), length) }))
}

/// # Safety
///
/// As write(2).
pub unsafe fn write(fd: c_int, source: *const c_void, length: usize) -> isize {
    let Some(file) = file(fd) else { return fail(EBADF) };
    // SAFETY: the caller says that it is as long.
    answer(file.write(unsafe { slice::from_raw_parts(source.cast(), length) }))
}

/// # Safety
///
/// None is needed.
pub unsafe fn eventfd(_: c_uint, _: c_int) -> c_int {
    new_counter()
}

/// # Safety
///
/// As pipe2(2).
pub unsafe fn pipe2(ends: *mut c_int, _: c_int) -> c_int {
    // SAFETY: the caller says that there is room for two.
    unsafe { *ends.cast::<[c_int; 2]>() = new_pipe() };
    0
}
