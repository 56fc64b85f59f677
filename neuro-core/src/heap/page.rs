//! `Page`: the starts within 65,536 units, in the cheaper of two forms. The layout and the invariant (S1) are in
//! `starts.rs`.

/// Units of one page.
pub(super) const PAGE: usize = 1 << 16;
const WORDS: usize = PAGE / 64;
/// A list longer than this becomes bits, which then cost 6.5 bytes a start.
pub(super) const LIST_MAX: usize = 1280;
/// Bits with fewer starts than this become a list again; far below `LIST_MAX`, so that no page goes to and fro.
const BITS_MIN: usize = LIST_MAX / 2;

#[derive(Debug)]
pub(super) enum Page {
    List(Vec<u16>),
    Bits(Box<Bits>),
}

#[derive(Debug)]
pub(super) struct Bits {
    words: [u64; WORDS],
    summary: [u64; WORDS / 64],
    count: usize,
}

/// The lowest set bit at or above `from`.
pub(super) fn first_bit_from(words: &[u64], from: usize) -> Option<usize> {
    let mut index = from / 64;
    let mut word = *words.get(index)? & (u64::MAX << (from % 64));
    while word == 0 {
        index += 1;
        word = *words.get(index)?;
    }
    Some(index * 64 + word.trailing_zeros() as usize)
}

/// The highest set bit below `end`.
pub(super) fn last_bit_below(words: &[u64], end: usize) -> Option<usize> {
    let end = end.min(words.len() * 64);
    let mut index = end.checked_sub(1)? / 64;
    let mut word = words[index] & (u64::MAX >> (63 - (end - 1) % 64));
    while word == 0 {
        index = index.checked_sub(1)?;
        word = words[index];
    }
    Some(index * 64 + 63 - word.leading_zeros() as usize)
}

impl Page {
    pub(super) fn insert(&mut self, low: u16) {
        match self {
            Page::List(list) => {
                let at = list.partition_point(|&other| other < low);
                debug_assert!(list.get(at) != Some(&low));
                list.insert(at, low);
                if list.len() > LIST_MAX {
                    *self = Page::Bits(Bits::of(list));
                }
            }
            Page::Bits(bits) => bits.insert(low),
        }
    }

    /// Takes `low` out; how many starts remain. In a list it is looked for at `near` and behind it first.
    pub(super) fn remove(&mut self, low: u16, near: usize) -> usize {
        match self {
            Page::List(list) => {
                let at = match list.get(near..near.saturating_add(2)) {
                    Some(&[first, _]) if first == low => near,
                    Some(&[_, second]) if second == low => near + 1,
                    _ => list.partition_point(|&other| other < low),
                };
                debug_assert!(list.get(at) == Some(&low));
                list.remove(at);
                if list.capacity() > 16 && list.len() * 4 < list.capacity() {
                    list.shrink_to(list.len() * 2);
                }
                list.len()
            }
            Page::Bits(bits) => {
                bits.remove(low);
                let count = bits.count;
                if count < BITS_MIN {
                    *self = Page::List(bits.to_list());
                }
                count
            }
        }
    }

    /// The starts next to `low` in this page, and the place of `low` in the list; `None` if `low` is no start.
    pub(super) fn around(&self, low: u16) -> Option<(Option<u16>, Option<u16>, usize)> {
        match self {
            Page::List(list) => {
                let at = list.partition_point(|&other| other < low);
                if list.get(at) != Some(&low) {
                    return None;
                }
                Some((at.checked_sub(1).map(|at| list[at]), list.get(at + 1).copied(), at))
            }
            Page::Bits(bits) => bits.around(low),
        }
    }

    pub(super) fn at_or_before(&self, low: u16) -> Option<u16> {
        match self {
            Page::List(list) => list
                .partition_point(|&other| other <= low)
                .checked_sub(1)
                .map(|at| list[at]),
            Page::Bits(bits) => bits.last_below(usize::from(low) + 1),
        }
    }

    pub(super) fn first(&self) -> Option<u16> {
        match self {
            Page::List(list) => list.first().copied(),
            Page::Bits(bits) => bits.first_from(0),
        }
    }

    pub(super) fn last(&self) -> Option<u16> {
        match self {
            Page::List(list) => list.last().copied(),
            Page::Bits(bits) => bits.last_below(PAGE),
        }
    }

    pub(super) fn side_bytes(&self) -> usize {
        match self {
            Page::List(list) => list.capacity() * size_of::<u16>(),
            Page::Bits(_) => size_of::<Bits>(),
        }
    }

    pub(super) fn assert_valid(&self) {
        match self {
            Page::List(list) => {
                assert!(list.windows(2).all(|pair| pair[0] < pair[1]), "S1: list not ascending");
                assert!(list.len() <= LIST_MAX, "S1: list of {} starts", list.len());
            }
            Page::Bits(bits) => {
                let set: usize = bits.words.iter().map(|word| word.count_ones() as usize).sum();
                assert_eq!(set, bits.count, "S1: count of bits");
                for (index, &word) in bits.words.iter().enumerate() {
                    assert_eq!(
                        bits.summary[index / 64] >> (index % 64) & 1 == 1,
                        word != 0,
                        "S1: summary {index}"
                    );
                }
            }
        }
    }
}

impl Bits {
    fn of(list: &[u16]) -> Box<Bits> {
        let mut bits = Box::new(Bits {
            words: [0; WORDS],
            summary: [0; WORDS / 64],
            count: 0,
        });
        for &low in list {
            bits.insert(low);
        }
        bits
    }

    fn to_list(&self) -> Vec<u16> {
        let mut list = Vec::with_capacity(self.count * 2);
        let mut next = self.first_from(0);
        while let Some(low) = next {
            list.push(low);
            next = self.first_from(usize::from(low) + 1);
        }
        list
    }

    fn insert(&mut self, low: u16) {
        let word = usize::from(low) / 64;
        self.words[word] |= 1 << (low % 64);
        self.summary[word / 64] |= 1 << (word % 64);
        self.count += 1;
    }

    fn remove(&mut self, low: u16) {
        let word = usize::from(low) / 64;
        self.words[word] &= !(1 << (low % 64));
        if self.words[word] == 0 {
            self.summary[word / 64] &= !(1 << (word % 64));
        }
        self.count -= 1;
    }

    fn around(&self, low: u16) -> Option<(Option<u16>, Option<u16>, usize)> {
        let at = usize::from(low);
        if self.words[at / 64] >> (at % 64) & 1 == 0 {
            return None;
        }
        Some((self.last_below(at), self.first_from(at + 1), 0))
    }

    fn first_from(&self, from: usize) -> Option<u16> {
        let word = from / 64;
        let rest = self.words.get(word)? & (u64::MAX << (from % 64));
        if rest != 0 {
            return Some((word * 64) as u16 + rest.trailing_zeros() as u16);
        }
        let word = first_bit_from(&self.summary, word + 1)?;
        Some((word * 64) as u16 + self.words[word].trailing_zeros() as u16)
    }

    fn last_below(&self, end: usize) -> Option<u16> {
        let last = end.checked_sub(1)?;
        let word = last / 64;
        let rest = self.words[word] & (u64::MAX >> (63 - last % 64));
        if rest != 0 {
            return Some((word * 64 + 63) as u16 - rest.leading_zeros() as u16);
        }
        let word = last_bit_below(&self.summary, word)?;
        Some((word * 64 + 63) as u16 - self.words[word].leading_zeros() as u16)
    }
}
