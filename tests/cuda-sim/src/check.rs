//! What is looked at when work is submitted: whether there is such memory, and whether the device may use it there.

use std::ops::Range;

use races::{Clock, Event};

use crate::codes::{Answer, INVALID_VALUE};
use crate::gate::Locked;
use crate::protect::table::{self, InFlight};
use crate::space::{Found, Kind, Part, Parts};
use crate::state::State;
use crate::stream::{Action, End, HostUse};

/// A copy, as a call describes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copy {
    pub(crate) to: u64,
    pub(crate) from: u64,
    pub(crate) bytes: u64,
    /// Whether the ends must be memory that the driver knows.
    pub(crate) to_known: bool,
    pub(crate) from_known: bool,
}

/// A fill, as a call describes it: so many values of so many bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fill {
    pub(crate) address: u64,
    pub(crate) value: u32,
    pub(crate) count: u64,
    pub(crate) width: u64,
}

impl State {
    /// Whether kernels of `device` reach a part.
    pub(crate) fn reaches(&self, device: u32, part: &Part) -> bool {
        match part.kind {
            Kind::Host | Kind::Registered => true,
            Kind::Device(owner) => owner == device || self.devices[device as usize].peers.contains(&owner),
            Kind::Piece(_) => part.access >> device & 1 == 1,
        }
    }

    /// An end of a copy.
    fn end(&mut self, call: &str, device: u32, address: u64, bytes: u64, known: bool) -> Answer<End> {
        match self.space.find(address, bytes) {
            Found::Wrong(words) => self.wrong(format!("{call}: {words}"), INVALID_VALUE),
            Found::Pageable if known => {
                let words = format!("{call}: wild pointer: {address:#x} is no memory that the driver knows");
                self.wrong(words, INVALID_VALUE)
            }
            Found::Pageable => Ok(End::Pageable(address)),
            Found::Known(parts) => {
                let closed = |part: &&Part| match part.kind {
                    Kind::Piece(owner) => part.access & (1 << device | 1 << owner) == 0,
                    _ => false,
                };
                if parts.iter().find(closed).is_some() {
                    let words = format!("{call}: {address:#x} is mapped, and no access to it was given");
                    return self.wrong(words, INVALID_VALUE);
                }
                Ok(End::Known(parts))
            }
        }
    }

    /// Memory that a fill, or a call like a kernel, uses itself.
    fn target(&mut self, call: &str, device: u32, address: u64, bytes: u64) -> Answer<Parts> {
        match self.space.find(address, bytes) {
            Found::Wrong(words) => self.wrong(format!("{call}: {words}"), INVALID_VALUE),
            Found::Pageable => {
                let words = format!("{call}: wild pointer: {address:#x} is no memory that the driver knows");
                self.wrong(words, INVALID_VALUE)
            }
            Found::Known(parts) => match parts.iter().find(|part| !self.reaches(device, part)) {
                Some(part) => {
                    let words = self.out_of_reach(call, device, address, part);
                    self.wrong(words, INVALID_VALUE)
                }
                None => Ok(parts),
            },
        }
    }

    pub(crate) fn out_of_reach(&self, call: &str, device: u32, address: u64, part: &Part) -> String {
        let words = self
            .space
            .pieces
            .get(&part.piece)
            .map(|piece| piece.words())
            .unwrap_or_default();
        format!("{call}: device {device} uses {address:#x}, in {words}, to which it has no access")
    }

    /// `event` uses these parts: freeing them is wrong from now on, and so is what the host does there.
    pub(crate) fn note_use(&mut self, parts: &[Part], event: Event, writes: bool) {
        for part in parts {
            let Some(piece) = self.space.pieces.get_mut(&part.piece) else {
                continue;
            };
            piece.uses(event);
            if part.kind.is_host() {
                let start = piece.address + part.offset;
                let guarded = piece.guarded && self.protect;
                if guarded {
                    self.protect_in_flight(start..start + part.bytes, event, writes);
                }
            }
        }
    }

    fn protect_in_flight(&mut self, bytes: Range<u64>, event: Event, writes: bool) {
        let place = table::add_in_flight(InFlight {
            start: bytes.start,
            end: bytes.end,
            world: self.world,
            writes,
            actor: event.actor as u32,
            count: event.count,
        });
        if place.is_some() {
            self.cover.add(&bytes, writes);
        }
        let in_flight = &mut self.actors[event.actor].in_flight;
        // What a kernel uses is known when it runs, which is later than its submission.
        let at = in_flight.partition_point(|other| other.count <= event.count);
        let count = event.count;
        in_flight.insert(
            at,
            HostUse {
                count,
                bytes,
                writes,
                place,
            },
        );
    }
}

impl State {
    /// Nothing that is in flight in `bytes`, which are not page-locked from now on, counts any more.
    pub(crate) fn let_host_go(&mut self, bytes: &Range<u64>) {
        for actor in &mut self.actors {
            actor.in_flight.retain(|work| {
                let stays = work.bytes.start >= bytes.end || bytes.start >= work.bytes.end;
                if let (false, Some(place)) = (stays, work.place) {
                    table::remove_in_flight(place);
                    self.cover.remove(&work.bytes, work.writes);
                }
                stays
            });
        }
    }
}

fn overlap(to: &End, from: &End) -> bool {
    let (End::Known(to), End::Known(from)) = (to, from) else {
        return false;
    };
    let pairs = to.iter().flat_map(|to| from.iter().map(move |from| (to, from)));
    pairs.into_iter().any(|(to, from)| {
        to.piece == from.piece && to.offset < from.offset + from.bytes && from.offset < to.offset + to.bytes
    })
}

impl Locked<'_> {
    /// Submits a copy, and waits for as much of it as CUDA does.
    ///
    /// # Errors
    /// What the call answers; each is a finding.
    pub(crate) fn copy(&mut self, call: &'static str, device: u32, stream: u32, copy: Copy) -> Answer {
        if copy.bytes == 0 {
            return Ok(());
        }
        let to = self.end(call, device, copy.to, copy.bytes, copy.to_known)?;
        let mut from = self.end(call, device, copy.from, copy.bytes, copy.from_known)?;
        if overlap(&to, &from) {
            let Copy { to, from, bytes, .. } = copy;
            let words = format!("{call}: {bytes} B are copied from {from:#x} to {to:#x}, which overlap");
            return self.wrong(words, INVALID_VALUE);
        }
        let pageable = [&to, &from].iter().any(|end| matches!(end, End::Pageable(_)));
        self.calls.pageable += u64::from(pageable);
        if let End::Pageable(address) = from {
            // Read as soon as it is the copy's turn, and not by the device.
            let number = self.streams.get(stream).map_or(0, |stream| stream.submitted);
            self.run_until(call, stream, number)?;
            let mut bytes = vec![0; copy.bytes as usize];
            if !crate::contents::host_read(address, &mut bytes) {
                let words = format!("{call}: wild pointer: there are no {} B at {address:#x}", copy.bytes);
                return self.wrong(words, INVALID_VALUE);
            }
            from = End::Bytes(bytes);
        }
        let parts = |end: &End| match end {
            End::Known(parts) => parts.clone(),
            End::Pageable(_) | End::Bytes(_) => Parts::new(),
        };
        let (to_parts, from_parts, waits) = (parts(&to), parts(&from), matches!(to, End::Pageable(_)));
        let bytes = copy.bytes;
        let (event, clock) = self.submit(call, stream, None, Action::Copy { to, from, bytes });
        self.note_use(&from_parts, event, false);
        self.note_use(&to_parts, event, true);
        if waits {
            self.run_until(call, stream, event.count)?;
            self.host_sees(&clock);
        } else {
            self.now_and_then();
        }
        Ok(())
    }

    /// Submits a fill.
    ///
    /// # Errors
    /// What the call answers; each is a finding.
    pub(crate) fn fill(&mut self, call: &'static str, device: u32, stream: u32, fill: Fill) -> Answer {
        let Fill {
            address,
            value,
            count,
            width,
        } = fill;
        let Some(bytes) = count.checked_mul(width) else {
            return Err(INVALID_VALUE);
        };
        if bytes == 0 {
            return Ok(());
        }
        if !address.is_multiple_of(width) {
            return self.wrong(
                format!("{call}: {address:#x} is not a multiple of {width}"),
                INVALID_VALUE,
            );
        }
        let to = self.target(call, device, address, bytes)?;
        let parts = to.clone();
        let (event, _): (Event, Clock) = self.submit(
            call,
            stream,
            None,
            Action::Fill {
                to,
                bytes,
                value,
                width,
            },
        );
        self.note_use(&parts, event, true);
        self.now_and_then();
        Ok(())
    }
}
