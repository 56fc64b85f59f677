//! `Head`: what the address table leads to. The words of one region, that say what lies at an address ([`record`](super::record)),
//! written under the pool's lock, read without.
//!
//! ```text
//! region of slabs    | page | page | page | ..           a word for each 4 KiB
//! region of blocks   | long | long | long | ..           a word for each 256 KiB: the block longer than that which starts there
//!                    | leaf | leaf | leaf | ..           and one that says where its leaf is,
//!                       | page | page | .. 64            which has a word for each 4 KiB: made with the first shorter block there
//! ```
//!
//! So two long blocks never meet in a word, gigabytes of them need few words, and shorter ones only as many as they are. The word
//! of a page has room for one block: one that starts in a page that has a word already is *odd*, and stands in the pool's map of
//! odd blocks instead.
//!
//! Invariants:
//! - W1: `leaf` words are 0, or of a leaf that lives as long as the head. Made under the pool's lock.
//! - W2: the words of the first `opened` bytes are accessible, and no block was ever behind them.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use super::Inner;
use super::record::{BlockWord, COARSE, COARSE_UNITS, GRANULE, PAGE, Record};
use super::region::Kind;
use crate::backend::host::words::Words;

pub(super) struct Head {
    base: NonNull<u8>,
    /// Bytes of the region.
    len: usize,
    pub(super) pool: NonNull<Inner>,
    /// Number of the pool.
    pub(super) number: u64,
    kind: Kind,
    /// Bytes of the region whose words are accessible: at least those that were opened.
    opened: AtomicUsize,
    /// By page, or by 256 KiB.
    words: Words,
    /// By 256 KiB, of a region of blocks.
    leaves: Option<Words>,
    /// The leaf that was made last, and how many there are.
    newest_leaf: AtomicPtr<Leaf>,
    leaf_count: AtomicUsize,
}

struct Leaf {
    pages: [AtomicU64; COARSE / PAGE],
    /// The one made before.
    next: *mut Leaf,
}

/// Stands for words that nobody has written.
static NOTHING: AtomicU64 = AtomicU64::new(0);

impl Head {
    /// # Errors
    /// What the system said when asked for the words.
    pub(super) fn new(
        kind: Kind,
        base: NonNull<u8>,
        len: usize,
        pool: NonNull<Inner>,
        number: u64,
    ) -> std::io::Result<Self> {
        let (words, leaves) = match kind {
            Kind::Slabs => (Words::new(len.div_ceil(PAGE))?, None),
            // A 16,384th of the region together: not worth a call to the system each time the region grows.
            Kind::Blocks => (
                Words::open(len.div_ceil(COARSE))?,
                Some(Words::open(len.div_ceil(COARSE))?),
            ),
        };
        Ok(Self {
            base,
            len,
            pool,
            number,
            kind,
            opened: AtomicUsize::new(if kind == Kind::Blocks { len } else { 0 }),
            words,
            leaves,
            newest_leaf: AtomicPtr::new(std::ptr::null_mut()),
            leaf_count: AtomicUsize::new(0),
        })
    }

    /// The word at `index`, of words that cover the region.
    #[inline]
    fn word(words: &Words, index: usize) -> &AtomicU64 {
        debug_assert!(index < words.as_slice().len());
        // SAFETY: callers have an address of the region's opened bytes, all of which have words (W2).
        unsafe { words.as_slice().get_unchecked(index) }
    }

    /// The word of the page that `address`, which lies in a region of slabs, is in.
    #[inline]
    pub(super) fn page(&self, address: usize) -> &AtomicU64 {
        debug_assert!(self.kind == Kind::Slabs);
        Self::word(&self.words, (address - self.base.addr().get()) / PAGE)
    }

    /// The word of the long block for an address that lies in a region of blocks.
    #[inline]
    fn long(&self, address: usize) -> &AtomicU64 {
        debug_assert!(self.kind == Kind::Blocks);
        Self::word(&self.words, (address - self.base.addr().get()) / COARSE)
    }

    /// The word that says where the leaf is for such an address.
    #[inline]
    fn leaf(&self, address: usize) -> Option<&AtomicU64> {
        let words = self.leaves.as_ref()?;
        Some(Self::word(words, (address - self.base.addr().get()) / COARSE))
    }

    /// The word of the page that `address` is in, if the leaf is there, whose own word is `leaf`.
    #[inline]
    fn page_of_leaf<'a>(&'a self, leaf: &AtomicU64, address: usize) -> Option<&'a AtomicU64> {
        // Acquire: its words begin as zeros.
        let leaf = std::ptr::with_exposed_provenance::<Leaf>(leaf.load(Ordering::Acquire) as usize);
        // SAFETY: W1.
        Some(&unsafe { leaf.as_ref() }?.pages[address % COARSE / PAGE])
    }

    /// Makes a leaf, whose address it writes into the word `place`. Under the pool's lock.
    #[cold]
    fn make_leaf(&self, place: &AtomicU64) {
        let leaf = Box::into_raw(Box::new(Leaf {
            pages: [const { AtomicU64::new(0) }; COARSE / PAGE],
            next: self.newest_leaf.load(Ordering::Relaxed),
        }));
        self.newest_leaf.store(leaf, Ordering::Relaxed);
        self.leaf_count.fetch_add(1, Ordering::Relaxed);
        place.store(leaf.expose_provenance() as u64, Ordering::Release);
    }

    /// The addresses whose words are accessible.
    pub(super) fn addresses(&self) -> std::ops::Range<usize> {
        let start = self.base.addr().get();
        start..start + self.opened()
    }

    /// The first word, of a region of slabs.
    pub(super) fn pages(&self) -> *const AtomicU64 {
        debug_assert!(self.kind == Kind::Slabs);
        self.words.as_slice().as_ptr()
    }

    /// Writes the word of a new block of `units` granules at `address`, in a region of blocks; false if its place is taken by
    /// another's. Under the pool's lock.
    #[inline]
    pub(super) fn record(&self, address: usize, units: u32, word: BlockWord) -> bool {
        if units > COARSE_UNITS {
            self.long(address).store(word.0, Ordering::Release);
            return true;
        }
        let Some(leaf) = self.leaf(address) else { return false };
        if leaf.load(Ordering::Relaxed) == 0 {
            self.make_leaf(leaf);
        }
        let Some(place) = self.page_of_leaf(leaf, address) else {
            return false;
        };
        let vacant = place.load(Ordering::Relaxed) == 0;
        if vacant {
            place.store(word.0, Ordering::Release);
        }
        vacant
    }

    /// Makes the words of the first `bytes` of the region accessible.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn open_up_to(&self, bytes: usize) -> std::io::Result<()> {
        if self.kind == Kind::Slabs {
            self.words.open_up_to(bytes.div_ceil(PAGE))?;
            let opened = self.len.min(self.words.as_slice().len() * PAGE);
            self.opened.store(opened, Ordering::Release);
        }
        Ok(())
    }

    /// Bytes of the region whose words are accessible: at least those that were opened.
    #[inline]
    pub(super) fn opened(&self) -> usize {
        // Acquire: who reads it touches the words.
        self.opened.load(Ordering::Acquire)
    }

    /// What is known of `address`, as it is now: the block that starts there, or the slab it lies in. And where that stands.
    #[inline]
    pub(super) fn look(&self, address: usize) -> (Record, &AtomicU64) {
        if address - self.base.addr().get() >= self.opened() {
            return (Record::None, &NOTHING); // no block was ever there
        }
        // Acquire: a slab's address is followed, whatever address the caller brought.
        if self.kind == Kind::Slabs {
            let word = self.page(address);
            return (Record::of(word.load(Ordering::Acquire)), word);
        }
        let long = self.long(address);
        if let Record::Block(block) = Record::of(long.load(Ordering::Acquire))
            && block.starts_at(address, COARSE)
        {
            return (Record::Block(block), long);
        }
        let Some(word) = self.leaf(address).and_then(|leaf| self.page_of_leaf(leaf, address)) else {
            return (Record::None, &NOTHING);
        };
        match Record::of(word.load(Ordering::Acquire)) {
            Record::Block(block) if block.starts_at(address, PAGE) => (Record::Block(block), word),
            _ => (Record::None, word),
        }
    }

    /// The offset of `address`, which lies in the region, in granules.
    #[inline]
    pub(super) fn offset_of(&self, address: usize) -> u32 {
        ((address - self.base.addr().get()) / GRANULE) as u32
    }

    /// Bytes of records that memory up to `used` bytes can have made the system hold.
    pub(super) fn side_bytes(&self, used: usize) -> usize {
        let unit = if self.kind == Kind::Slabs { PAGE } else { COARSE };
        let words = [Some(&self.words), self.leaves.as_ref()];
        let words: usize = words
            .iter()
            .flatten()
            .map(|words| words.committed(used.div_ceil(unit)))
            .sum();
        size_of::<Self>() + words + self.leaf_count.load(Ordering::Relaxed) * size_of::<Leaf>()
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        let mut leaf = *self.newest_leaf.get_mut();
        while !leaf.is_null() {
            // SAFETY: from `make_leaf`, each once in the list; nobody has the head any more.
            let made = unsafe { Box::from_raw(leaf) };
            leaf = made.next;
        }
    }
}
