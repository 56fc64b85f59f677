//! What a random program does with other libraries: tensors that they have on loan, and theirs that are used here.

use std::sync::Arc;

use super::super::calls;
use super::super::exchange::{Consumes, fill, from_a_stranger};
use super::{Actor, Item};
use crate::dlpack::Consumer;

/// A tensor that a consumer writes on a stream of his own.
pub(super) struct Lent {
    device: usize,
    /// 0: the default stream.
    stream: usize,
    item: Item,
    consumer: Consumes,
}

impl Actor<'_> {
    /// A consumer gets a tensor, and writes it now and then.
    pub(super) fn lend(&mut self) {
        if self.lent.len() > 7 {
            return self.end_loan();
        }
        let device = self.random.below(2);
        let Some(at) = self.pick_on(device, true) else { return };
        let item = self.items.swap_remove(at);
        let stream = match self.random.below(3) {
            0 => 0,
            _ => calls::stream(&self.machine.engines[device]),
        };
        let to = if stream == 0 {
            Consumer::DefaultStream
        } else {
            Consumer::Stream(stream)
        };
        let sent = Consumes::new(&item.tensor, to);
        match self.ok("export", sent) {
            Some(consumer) => self.lent.push(Lent {
                device,
                stream,
                item,
                consumer,
            }),
            None if stream != 0 => calls::destroy(&self.machine.engines[device], stream),
            None => {}
        }
    }

    pub(super) fn consumer_writes(&mut self) {
        let Some(at) = self.one_lent() else { return };
        let value = self.random.next() as u32;
        let Lent {
            device,
            stream,
            item,
            consumer,
        } = &mut self.lent[at];
        let count = item.holds.len();
        let filled = fill(
            &self.machine.engines[*device],
            *stream,
            consumer.address(),
            value,
            count,
        );
        if filled.is_ok() {
            item.holds = Arc::new(vec![value; count]);
        }
        self.ok("a consumer fills", filled);
    }

    /// We use what is on loan: behind all that its consumer has written.
    pub(super) fn use_lent(&mut self) {
        let Some(at) = self.one_lent() else { return };
        let Item { tensor, holds, .. } = self.lent[at].item.clone();
        let to_host = self.random.below(2) == 0;
        let pools = if to_host { &self.pools.host } else { &self.pools.device };
        let copied = tensor.to_pool(&pools[self.random.below(2)]);
        if let Some(copy) = self.ok("a copy of what is on loan", copied) {
            self.look("what is on loan", &copy, &holds);
            self.hold(copy, holds);
        }
    }

    /// The consumer has no use for it any more, nor have we, perhaps.
    pub(super) fn end_loan(&mut self) {
        let Some(at) = self.one_lent() else { return };
        let Lent {
            device,
            stream,
            item,
            consumer,
        } = self.lent.swap_remove(at);
        if self.random.below(2) == 0 {
            self.items.push(item);
        } else {
            drop(item);
        }
        drop(consumer);
        if stream != 0 {
            calls::destroy(&self.machine.engines[device], stream);
        }
    }

    /// A tensor comes back as another library's.
    pub(super) fn adopt(&mut self) {
        let device = self.random.below(2);
        let Some(at) = self.pick_on(device, true) else { return };
        let Item { tensor, holds, .. } = self.items.swap_remove(at);
        let theirs = from_a_stranger(&tensor);
        drop(tensor);
        match theirs {
            Ok(theirs) => self.hold(theirs, holds),
            Err(crate::Error::Exchange { .. }) if self.plan.faults => {}
            Err(error) => drop(self.ok::<()>("import", Err(error))),
        }
    }

    fn one_lent(&mut self) -> Option<usize> {
        (!self.lent.is_empty()).then(|| self.random.below(self.lent.len()))
    }
}
