//! Functions of the host that streams run: each on a thread of its own, as the driver has one for them.

use std::sync::Arc;

use races::Clock;

use crate::state::State;
use crate::stream::HostFunction;
use crate::{protect, registry};

impl State {
    /// Starts a function for piece `number` of `stream`, which goes on when it has returned.
    pub(crate) fn run_for_stream(
        &mut self,
        stream: u32,
        number: u64,
        clock: Clock,
        HostFunction { function, argument }: HostFunction,
    ) {
        self.running += 1;
        let world = self.me.clone();
        std::thread::spawn(move || {
            // What it does wrong is a finding of this world.
            let Some(world) = world.upgrade() else { return };
            registry::push(Arc::clone(&world));
            protect::set_host_function_clock(&clock);
            // SAFETY: whoever submitted it promised that it may be called with this argument, from any thread.
            unsafe { function(std::ptr::with_exposed_provenance_mut(argument)) };
            protect::set_host_function_clock(std::ptr::null());
            let mut state = world.lock();
            state.running -= 1;
            state.finish(stream, number);
            drop(state);
            world.wake();
        });
    }
}
