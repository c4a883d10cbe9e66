//! What epoll has said, for who asked for everything.

use crate::sys::epoll::mask;

/// What an event says of a descriptor that is watched for both directions, or for all that it can
/// report.
///
/// A hang-up or an error counts as both directions, as in a [`ReadyKey`](super::ReadyKey).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reported(pub(super) u32);

impl Reported {
    #[inline]
    pub(crate) fn reads(self) -> bool {
        self.0 & (mask::IN | mask::RDHUP | mask::HUP | mask::ERR) != 0
    }

    #[inline]
    pub(crate) fn writes(self) -> bool {
        self.0 & (mask::OUT | mask::HUP | mask::ERR) != 0
    }

    /// Whether a hang-up, an error or urgent data were reported.
    #[inline]
    pub(crate) fn is_unusual(self) -> bool {
        self.0 & (mask::PRI | mask::RDHUP | mask::HUP | mask::ERR) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flag_says_what_it_says() {
        let says = |bits| {
            let reported = Reported(bits);
            (reported.reads(), reported.writes(), reported.is_unusual())
        };
        assert_eq!(says(0), (false, false, false));
        assert_eq!(says(mask::IN), (true, false, false));
        assert_eq!(says(mask::OUT), (false, true, false));
        assert_eq!(says(mask::PRI), (false, false, true));
        assert_eq!(says(mask::RDHUP), (true, false, true));
        assert_eq!(says(mask::HUP), (true, true, true));
        assert_eq!(says(mask::ERR), (true, true, true));
        assert_eq!(says(mask::IN | mask::OUT), (true, true, false));
        assert_eq!(says(mask::IN | mask::RDHUP | mask::HUP | mask::ERR), (true, true, true));
        assert_eq!(says(mask::OUT | mask::HUP | mask::ERR), (true, true, true));
        assert_eq!(says(mask::PRI | mask::RDHUP | mask::HUP | mask::ERR), (true, true, true));
    }
}
