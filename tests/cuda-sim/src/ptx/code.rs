//! The decoded form of a kernel: instructions whose operands are indices into the registers of a thread. Constants and
//! special registers (`%tid.x`) are registers too, filled before a thread starts.

use super::convert::Cvt;

/// A function of up to four registers.
pub(super) type Pure = fn(u64, u64, u64, u64) -> u64;

/// A register that is always 0, which stands where an operation has fewer operands.
pub(super) const ZERO: u32 = 0;
/// A register that nothing reads, which stands where a result is not wanted.
pub(super) const SINK: u32 = 1;

/// An instruction.
#[derive(Debug)]
pub(super) struct Inst {
    /// The predicate that must hold, if there is one.
    pub(super) guard: Option<Guard>,
    pub(super) line: u32,
    pub(super) op: Op,
}

/// A predicate register, and whether it is read negated.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guard {
    pub(super) register: u32,
    pub(super) negated: bool,
}

/// The memories that addresses refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    Generic,
    Global,
    Shared,
    Local,
    Param,
}

/// A place in memory: the register `base` plus `offset`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) space: Space,
    pub(super) base: u32,
    pub(super) offset: i64,
    /// The bytes of one element.
    pub(super) bytes: u32,
}

/// How `setp` joins its comparison with another predicate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Join {
    pub(super) f: Pure,
    pub(super) with: Guard,
}

/// How a shuffle chooses its lane.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

/// What a vote or a barrier with a vote asks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Vote {
    All,
    Any,
    Uniform,
    Ballot,
    Count,
}

/// An operation in which the threads of a warp take part together.
#[derive(Debug, Clone, Copy)]
pub(super) enum Warp {
    Shuffle {
        how: Shuffle,
        d: u32,
        valid: u32,
        value: u32,
        lane: u32,
        clamp: u32,
    },
    Vote {
        how: Vote,
        d: u32,
        of: Guard,
    },
    Reduce {
        f: Pure,
        d: u32,
        value: u32,
    },
    Active {
        d: u32,
    },
    Sync,
}

/// An operation.
#[derive(Debug)]
pub(super) enum Op {
    Pure {
        f: Pure,
        d: u32,
        s: [u32; 4],
    },
    /// As `Pure`, with the result of type `f32` brought into 0 to 1.
    Saturated {
        f: Pure,
        d: u32,
        s: [u32; 4],
    },
    Compare {
        f: Pure,
        d: u32,
        not_d: u32,
        a: u32,
        b: u32,
        join: Option<Join>,
    },
    /// `yes` and `no` are what the destination becomes.
    Set {
        f: Pure,
        d: u32,
        a: u32,
        b: u32,
        yes: u64,
    },
    Convert {
        cvt: Cvt,
        d: u32,
        a: u32,
        keep: u64,
    },
    Pack {
        d: u32,
        parts: Box<[u32]>,
        bits: u32,
    },
    Unpack {
        parts: Box<[u32]>,
        a: u32,
        bits: u32,
    },
    Load {
        place: Place,
        sign_bits: Option<u32>,
        keep: u64,
        d: Box<[u32]>,
    },
    Store {
        place: Place,
        values: Box<[u32]>,
    },
    Atomic {
        place: Place,
        f: Pure,
        d: u32,
        b: u32,
        c: u32,
    },
    Branch {
        to: u32,
    },
    Switch {
        index: u32,
        to: Box<[u32]>,
    },
    Barrier {
        id: u32,
        threads: Option<u32>,
        vote: Option<(Vote, u32, Guard)>,
    },
    Warp {
        op: Warp,
        mask: u32,
    },
    Exit,
    Nothing,
    Trap,
    Unknown(Box<str>),
}

/// A register whose value is known when a thread starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Special {
    Tid(usize),
    Ntid(usize),
    Ctaid(usize),
    Nctaid(usize),
    Lane,
    Warp,
    Warps,
    MaskEq,
    MaskLt,
    MaskLe,
    MaskGt,
    MaskGe,
    Dynamic,
}

impl Special {
    /// The special register of a name such as `%tid.x`.
    pub(super) fn of(name: &str) -> Option<Self> {
        let (stem, axis) = name.rsplit_once('.').unwrap_or((name, ""));
        let axis = match axis {
            "x" => Some(0),
            "y" => Some(1),
            "z" => Some(2),
            _ => None,
        };
        Some(match (stem, axis) {
            ("%tid", Some(axis)) => Self::Tid(axis),
            ("%ntid", Some(axis)) => Self::Ntid(axis),
            ("%ctaid", Some(axis)) => Self::Ctaid(axis),
            ("%nctaid", Some(axis)) => Self::Nctaid(axis),
            ("%laneid", None) => Self::Lane,
            ("%warpid", None) => Self::Warp,
            ("%nwarpid", None) => Self::Warps,
            ("%lanemask_eq", None) => Self::MaskEq,
            ("%lanemask_lt", None) => Self::MaskLt,
            ("%lanemask_le", None) => Self::MaskLe,
            ("%lanemask_gt", None) => Self::MaskGt,
            ("%lanemask_ge", None) => Self::MaskGe,
            ("%dynamic_smem_size", None) => Self::Dynamic,
            _ => return None,
        })
    }
}
