//! What a random program does with streams of its own, and with kernels.

use std::sync::Arc;

use super::super::calls;
use super::{Actor, Delay, Guest, Item};
use crate::cuda::{Access, Arg, Grid, Stream};
use crate::dtype::DType;
use crate::error::Error;
use crate::tensor::DynTensor;

impl Actor<'_> {
    /// A guest that is open: its place, and its device.
    pub(super) fn guest(&mut self) -> Option<(usize, usize)> {
        let at = self.random.below(self.guests.len());
        let device = self.guests[at].device;
        if self.guests[at].stream.is_none() {
            // SAFETY: a stream of the device's primary context, which stays until this actor ends.
            let opened = unsafe { Stream::of(self.machine.devices[device], self.guests[at].raw) };
            let opened = match opened {
                Err(Error::Driver {
                    call: "open_stream", ..
                }) => return None, // as many as there may be are open
                other => self.ok("Stream::of", other)?,
            };
            self.guests[at].stream = Some(opened);
        }
        Some((at, device))
    }

    pub(super) fn guest_fills(&mut self) {
        let Some((guest, device)) = self.guest() else { return };
        let Some(at) = self.pick_on(device, true) else { return };
        let mut item = self.items.swap_remove(at);
        let (count, value) = (item.holds.len(), self.random.next() as u32);
        let address = crate::cuda::pointer(&item.tensor).unwrap();
        let stream = self.guests[guest].stream.as_ref().unwrap();
        // SAFETY: this fills all of the tensor, which nobody else has.
        let filled = unsafe {
            stream.submit(&[(&item.tensor, Access::Write)], |raw| {
                calls::fill(raw, address, value, count)
            })
        };
        if self.ok("a guest fills", filled).is_some() {
            item.holds = Arc::new(vec![value; count]);
            self.items.push(item);
        }
    }

    pub(super) fn guest_copies(&mut self) {
        let Some((guest, device)) = self.guest() else { return };
        let Some(at) = self.pick_on(device, false) else { return };
        let Item {
            tensor: from, holds, ..
        } = self.items[at].clone();
        let stream = self.guests[guest].stream.as_ref().unwrap();
        let made = stream.empty(&self.pools.device[device], &[holds.len()], DType::U32);
        let Some(to) = self.ok("Stream::empty", made) else {
            return;
        };
        let (source, target) = (crate::cuda::pointer(&from).unwrap(), crate::cuda::pointer(&to).unwrap());
        let stream = self.guests[guest].stream.as_ref().unwrap();
        let uses = [(&from, Access::Read), (&to, Access::Write)];
        // SAFETY: as it says.
        let copied = unsafe { stream.submit(&uses, |raw| calls::copy(raw, target, source, from.nbytes())) };
        if self.ok("a guest copies", copied).is_some() {
            self.hold(to, holds);
        }
    }

    /// The same by the caller's own hand: waits, a call, and a note of it.
    pub(super) fn guest_by_hand(&mut self) {
        let Some((guest, device)) = self.guest() else { return };
        let Some(at) = self.pick_on(device, false) else { return };
        let Item {
            tensor: from, holds, ..
        } = self.items[at].clone();
        let made = DynTensor::empty_in(&self.pools.device[device], None, &[holds.len()], DType::U32);
        let Some(to) = self.ok("empty", made) else { return };
        let (source, target) = (crate::cuda::pointer(&from).unwrap(), crate::cuda::pointer(&to).unwrap());
        let stream = self.guests[guest].stream.as_ref().unwrap();
        let waited = stream
            .wait_for(&from, Access::Read)
            .and_then(|()| stream.wait_for(&to, Access::Write));
        if self.ok("wait_for", waited).is_none() {
            return;
        }
        let stream = self.guests[guest].stream.as_ref().unwrap();
        let copied = calls::in_context(&self.machine.engines[device], || {
            calls::copy(stream.raw(), target, source, from.nbytes())
        });
        let noted = stream
            .record(&from, Access::Read)
            .and_then(|()| stream.record(&to, Access::Write));
        if self.ok("record", noted).is_some() && self.ok("a copy by hand", copied).is_some() {
            self.hold(to, holds);
        }
    }

    /// A guest uses what is on its way as soon as it is there.
    pub(super) fn guest_waits(&mut self) {
        let Some((guest, device)) = self.guest() else { return };
        let device = self.machine.devices[device];
        let Some(at) = (0..self.ways.len()).next_back() else {
            return;
        };
        let stream = self.guests[guest].stream.as_ref().unwrap();
        let waited = stream.wait_for_transfer(&self.ways[at].0);
        match waited {
            Err(Error::InvalidArgument { .. }) => {} // to another device
            other => drop(self.ok("wait_for_transfer", other)),
        }
        debug_assert!(self.machine.devices.contains(&device));
    }

    /// Somebody else's stream in the place of this one.
    pub(super) fn change_guest(&mut self) {
        let at = self.random.below(self.guests.len());
        self.guests[at].stream = None;
        if self.random.below(2) == 0 {
            let device = self.guests[at].device;
            let raw = calls::stream(&self.machine.engines[device]);
            self.guests.push(Guest {
                device,
                raw,
                stream: None,
            });
            if self.guests.len() > 6 {
                let gone = self.guests.swap_remove(at);
                calls::destroy(&self.machine.engines[gone.device], gone.raw);
            }
        }
    }

    /// A kernel reads one tensor and writes another, or the same, on the library's own stream or on a guest's.
    pub(super) fn launch(&mut self) {
        let device = self.random.below(2);
        let guest = if self.random.below(2) == 0 {
            self.guest_of(device)
        } else {
            None
        };
        let Some(at) = self.pick_on(device, false) else { return };
        let Item {
            tensor: from,
            holds,
            shared,
        } = self.items[at].clone();
        let (count, by) = (holds.len(), self.random.next() as u32);
        let in_place = !shared && self.random.below(2) == 0;
        let to = if in_place {
            self.items.swap_remove(at);
            from.clone()
        } else {
            let made = DynTensor::empty_in(&self.pools.device[device], None, &[count], DType::U32);
            let Some(to) = self.ok("empty", made) else { return };
            to
        };
        let grid = Grid::for_elements(count, 64).unwrap();
        let mut arguments = vec![Arg::from(&from), (&to).into(), by.into(), (count as u32).into()];
        if let Delay::UpTo(most) = self.pools.delay {
            // As often short as long.
            let most = most >> self.random.below(most.ilog2() as usize);
            arguments.push((self.random.below(most) as u32).into());
        }
        let kernel = &self.pools.kernels[device];
        // SAFETY: the kernel reads and writes the first `count` elements, and ends.
        let launched = unsafe {
            match guest {
                Some(at) => self.guests[at]
                    .stream
                    .as_ref()
                    .unwrap()
                    .launch(kernel, &grid, &arguments),
                None => kernel.launch(&grid, &arguments),
            }
        };
        if self.ok("launch", launched).is_some() {
            drop(from);
            self.hold(to, Arc::new(holds.iter().map(|word| word.wrapping_add(by)).collect()));
        }
    }

    /// A guest of a device that is open.
    fn guest_of(&mut self, device: usize) -> Option<usize> {
        let of_it = |guest: &Guest| guest.device == device && guest.stream.is_some();
        (0..self.guests.len()).find(|&at| of_it(&self.guests[at]))
    }
}
