//! `Lane`: a thread of a device that does one kind of slow work in order, so that whoever asked for it goes on meanwhile.
//!
//! A job submits work, and says what is to be waited for and what to do then. While the device is at it, the lane does the next
//! job. The thread is there while there are jobs, and a little longer; it blocks all signals, so that it takes none from the
//! program. If the system gives no thread, the caller does the job himself.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, PoisonError};
use std::time::Duration;

use super::Engine;
use super::uses::Waits;
use crate::backend::host::os;
use crate::error::Result;
use crate::sync::global::{Mutex, lock};

/// How long the thread waits for another job before it ends.
const PATIENCE: Duration = Duration::from_millis(200);

/// What a job left to be done by the device, and what comes then.
pub(crate) struct Landing {
    pub(crate) until: Waits,
    /// Does not panic.
    pub(crate) then: Box<dyn FnOnce(Result<()>) + Send>,
}

pub(super) type Job = Box<dyn FnOnce() -> Landing + Send>;

/// The lanes of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    Up,
    Down,
}

#[derive(Default)]
pub(super) struct Lane {
    state: Mutex<State>,
    came: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Whether there is a thread, which will look here again before it ends.
    running: bool,
}

impl Engine {
    /// Has a job done behind those that were given to this lane before. Waits for nothing, if there is a thread to be had.
    pub(crate) fn start(self: &Arc<Self>, way: Way, job: Job) {
        let lane = self.lane(way);
        let mut state = lock(&lane.state);
        state.jobs.push_back(job);
        if state.running {
            drop(state);
            lane.came.notify_one();
            return;
        }
        state.running = true;
        drop(state);
        let engine = Arc::clone(self);
        let blocked = os::SignalsBlocked::now(); // a new thread inherits them
        let name = match way {
            Way::Up => "neuro-upload",
            Way::Down => "neuro-download",
        };
        let started = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || engine.run(way, Some(PATIENCE)));
        drop(blocked);
        if started.is_err() {
            self.run(way, None);
        }
    }

    /// Does jobs until none has come for so long; without patience, until none is there.
    fn run(&self, way: Way, patience: Option<Duration>) {
        let lane = self.lane(way);
        let mut flying: VecDeque<Landing> = VecDeque::new();
        loop {
            let job = lock(&lane.state).jobs.pop_front();
            if let Some(job) = job {
                // A job that panics has said so, and has let go of what it was to answer to.
                if let Ok(landing) = std::panic::catch_unwind(AssertUnwindSafe(job)) {
                    flying.push_back(landing);
                }
                self.land_those_down(&mut flying);
                continue;
            }
            if let Some(landing) = flying.pop_front() {
                self.land(landing);
                continue;
            }
            let state = lock(&lane.state);
            let (mut state, waited) = lane
                .came
                .wait_timeout_while(state, patience.unwrap_or_default(), |state| state.jobs.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            if waited.timed_out() && state.jobs.is_empty() {
                state.running = false;
                return;
            }
        }
    }

    /// What has landed while there are other jobs.
    fn land_those_down(&self, flying: &mut VecDeque<Landing>) {
        // Whether the device is lost comes out when somebody waits.
        let done = self.poll().unwrap_or_else(|_| self.done());
        let down = |landing: &Landing| landing.until.iter().all(|wait| wait.number <= done[wait.queue.index()]);
        let landed = flying.iter().take_while(|landing| down(landing)).count();
        flying.drain(..landed).for_each(|landing| self.land(landing));
    }

    fn land(&self, landing: Landing) {
        let landed = self.wait(&landing.until);
        (landing.then)(landed);
    }
}
