//! The two clocks a batch can be timed by.

use serde::Deserialize;

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// Time as it passes.
    Wall,
    /// Processor time of the calling thread, in the system too.
    Cpu,
}

impl Clock {
    /// Seconds since some moment.
    pub fn seconds(self) -> f64 {
        let id = match self {
            Clock::Wall => libc::CLOCK_MONOTONIC,
            Clock::Cpu => libc::CLOCK_THREAD_CPUTIME_ID,
        };
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a timespec of ours to write to.
        let status = unsafe { libc::clock_gettime(id, &mut time) };
        assert_eq!(status, 0, "Linux has both clocks");
        time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
    }
}
