//! What a child has used.

use std::time::Duration;

use crate::sys::child::ResourceUsage;

/// What a child has used up to its end, together with those of its own children that it waited for
/// (getrusage(2)).
///
/// # Examples
///
/// ```
/// use selio::process::Command;
///
/// # fn main() -> std::io::Result<()> {
/// let mut child = Command::new("true").spawn()?;
/// assert!(child.usage().is_none());
/// selio::block_on(child.status())?;
/// let usage = child.usage().expect("it has ended");
/// assert!(usage.max_rss() > 0);
/// println!("{:?} of CPU time", usage.user_time() + usage.system_time());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Usage(ResourceUsage);

impl Usage {
    #[inline]
    pub(super) fn new(usage: ResourceUsage) -> Self {
        Self(usage)
    }

    /// Returns the CPU time spent in user space.
    ///
    /// # Examples
    ///
    /// See [`Usage`].
    #[must_use]
    #[inline]
    pub fn user_time(&self) -> Duration {
        self.0.user_time
    }

    /// Returns the CPU time that the kernel spent for it.
    ///
    /// # Examples
    ///
    /// See [`Usage`].
    #[must_use]
    #[inline]
    pub fn system_time(&self) -> Duration {
        self.0.system_time
    }

    /// Returns the most memory it had resident at once, in bytes. It begins with what the starting
    /// process had, until exec.
    ///
    /// # Examples
    ///
    /// See [`Usage`].
    #[must_use]
    #[inline]
    pub fn max_rss(&self) -> u64 {
        self.0.max_rss
    }

    /// Returns how many page faults needed no reading from a disk.
    ///
    /// # Examples
    ///
    /// See [`Usage`].
    #[must_use]
    #[inline]
    pub fn minor_faults(&self) -> u64 {
        self.0.minor_faults
    }

    /// Returns how many page faults had to read from a disk.
    ///
    /// # Examples
    ///
    /// See [`Usage`].
    #[must_use]
    #[inline]
    pub fn major_faults(&self) -> u64 {
        self.0.major_faults
    }

    /// Returns how many blocks of 512 bytes it had read from disks.
    ///
    /// # Examples
    ///
    /// See [`Usage`].
    #[must_use]
    #[inline]
    pub fn blocks_read(&self) -> u64 {
        self.0.blocks_read
    }

    /// Returns how many blocks of 512 bytes it had written to disks.
    ///
    /// # Examples
    ///
    /// See [`Usage`].
    #[must_use]
    #[inline]
    pub fn blocks_written(&self) -> u64 {
        self.0.blocks_written
    }

    /// Returns how often it waited for something.
    ///
    /// # Examples
    ///
    /// See [`Usage`].
    #[must_use]
    #[inline]
    pub fn voluntary_switches(&self) -> u64 {
        self.0.voluntary_switches
    }

    /// Returns how often others were given the CPU while it could have gone on.
    ///
    /// # Examples
    ///
    /// See [`Usage`].
    #[must_use]
    #[inline]
    pub fn involuntary_switches(&self) -> u64 {
        self.0.involuntary_switches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Most of these are zero for a child of a test, and cannot be told from one another there.
    #[test]
    fn each_number_is_its_own() {
        let usage = Usage::new(ResourceUsage {
            user_time: Duration::from_secs(10),
            system_time: Duration::from_secs(11),
            max_rss: 12,
            minor_faults: 13,
            major_faults: 14,
            blocks_read: 15,
            blocks_written: 16,
            voluntary_switches: 17,
            involuntary_switches: 18,
        });
        assert_eq!((usage.user_time().as_secs(), usage.system_time().as_secs()), (10, 11));
        assert_eq!((usage.max_rss(), usage.minor_faults(), usage.major_faults()), (12, 13, 14));
        assert_eq!((usage.blocks_read(), usage.blocks_written()), (15, 16));
        assert_eq!((usage.voluntary_switches(), usage.involuntary_switches()), (17, 18));
    }
}
