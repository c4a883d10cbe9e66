//! Files and directories of a test's own, which no other process takes for its own, not even one
//! with the same pid in another namespace or after a test that was killed.

use std::ffi::CString;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A new directory, gone with all that is in it when this value is.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Self {
        let template = std::env::temp_dir().join("selio-XXXXXX").into_os_string();
        let template = CString::new(template.into_vec()).unwrap().into_raw();
        // SAFETY: the call fills in a C string of ours, and keeps its length.
        let made = unsafe { libc::mkdtemp(template) };
        // SAFETY: it came from `into_raw`, and is a C string of that length still.
        let path = unsafe { CString::from_raw(template) };
        assert!(!made.is_null(), "mkdtemp: {}", std::io::Error::last_os_error());
        Self(std::ffi::OsString::from_vec(path.into_bytes()).into())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// A name that no other process on the machine has, but for a forked child, for what is in no
/// directory.
pub fn unique_name(kind: &str) -> String {
    format!("selio {kind} {:016x}", random())
}

/// A number that is another one each time, and in each process, but for a forked child.
pub fn random() -> u64 {
    // The seed is the kernel's.
    RandomState::new().build_hasher().finish()
}

/// An empty file without a name, which may be read and written.
pub fn nameless_file() -> File {
    let place = Directory::new();
    File::options().read(true).write(true).create_new(true).open(place.join("file")).unwrap()
}
