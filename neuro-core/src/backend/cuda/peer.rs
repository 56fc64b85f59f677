//! Copies to another device: what each of the two has to do for it.

use std::sync::Arc;

use super::driver::Handle;
use super::refuse::SUCCESS;
use super::slabs::address;
use super::{CudaDevice, Shared};
use crate::backend::raw_cuda::{Handles, HeldEvent};
use crate::backend::{Refusal, Span, Ticket};
use crate::sync::global::lock;

impl CudaDevice {
    /// As [`RawCuda::events_of`](crate::backend::raw_cuda::RawCuda::events_of).
    ///
    /// # Errors
    /// As there.
    pub(super) fn held_events(&self, waits: &[Ticket]) -> Result<Vec<HeldEvent>, Refusal> {
        let _current = self.shared.make_current()?;
        let mut events = Vec::new();
        for wait in waits {
            let moment = self.line(wait.queue).moment(&self.shared, wait.number)?;
            events.extend(moment.map(|moment| HeldEvent {
                event: moment.event.handle(),
                _keeper: moment.event,
            }));
        }
        Ok(events)
    }

    /// As [`RawCuda::copy_to_peer`](crate::backend::raw_cuda::RawCuda::copy_to_peer).
    ///
    /// # Errors
    /// As there.
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn peer_copy(
        &self,
        stream: Handle,
        from: Span,
        (peer, to): (Handles, u64),
        bytes: usize,
    ) -> Result<(), Refusal> {
        const CALL: &str = "cuMemcpyPeerAsync";
        let Shared { driver, context, .. } = &*self.shared;
        let Some(copy) = driver.peer_copy else {
            return Err(self.shared.lacks(CALL));
        };
        self.reach(&peer);
        // SAFETY: forwarded contract; both contexts are retained.
        let code = unsafe { copy(to, peer.context, address(from), *context, bytes, stream) };
        self.shared.answer(CALL, code)
    }

    /// Lets this device write the memory of another directly, where the machine can do that. Where it cannot, the driver takes a way around.
    fn reach(&self, peer: &Handles) {
        let mut known = lock(&self.peers);
        if known.contains(&peer.device) {
            return;
        }
        known.push(peer.device);
        drop(known);
        if let (Some(can), Some(enable)) = (self.shared.driver.peer_can_access, self.shared.driver.peer_enable) {
            let mut answer = 0;
            // SAFETY: two devices that the driver has listed, and room for the answer.
            let code = unsafe { can(&mut answer, self.number, peer.device) };
            if code == SUCCESS && answer != 0 {
                // SAFETY: a retained context; this device's own is current. That somebody has enabled it already is as good.
                let _ = unsafe { enable(peer.context, 0) };
            }
        }
    }
}

impl Shared {
    /// As [`RawCuda::wait_for_event`](crate::backend::raw_cuda::RawCuda::wait_for_event).
    ///
    /// # Errors
    /// As there.
    pub(super) fn wait_for_held(self: &Arc<Self>, stream: Handle, event: &HeldEvent) -> Result<(), Refusal> {
        // SAFETY: a stream of this context, which is current; the event was recorded, and is held.
        let code = unsafe { (self.driver.stream_wait)(stream, event.event, 0) };
        self.answer("cuStreamWaitEvent", code)
    }
}
