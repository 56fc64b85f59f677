//! Seams: where ranges end, whatever lies on either side (H7).

use super::OffsetHeap;
use super::node::{NIL, State};

impl OffsetHeap {
    /// Makes a seam at `at`: from now on no block reaches across it, and free ranges on its sides stay two. Whether that can be:
    /// not inside a live block. At the ends of the region there is nothing to do. Looks at all ranges.
    pub fn part(&mut self, at: u32) -> bool {
        if at == 0 || at >= self.capacity {
            return true;
        }
        let Some(index) = self.nodes.around(at) else {
            return false;
        };
        let range = *self.nodes.get(index);
        if range.offset == at {
            self.nodes.get_mut(index).seam = true;
            return true;
        }
        if range.state == State::Live {
            return false;
        }
        self.unlink(index);
        self.nodes.get_mut(index).len = at - range.offset;
        let behind = self
            .nodes
            .add(at, range.end() - at, index, range.after, State::Free, range.tag, true);
        self.free_runs += 1;
        self.link(index);
        self.link(behind);
        true
    }

    /// Takes the seam at `at` back, if there is one: free ranges on its sides are one again. Looks at all ranges.
    pub fn join(&mut self, at: u32) {
        let Some(index) = self.nodes.around(at) else { return };
        let range = *self.nodes.get(index);
        if range.offset != at || !range.seam {
            return;
        }
        self.nodes.get_mut(index).seam = false;
        if range.state == State::Free && range.before != NIL && self.nodes.get(range.before).is_free(range.tag) {
            self.unlink(index);
            self.free_runs -= 1;
            self.release(index, range.tag);
        }
    }
}
