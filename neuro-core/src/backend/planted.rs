//! Mistakes that tests plant into the code of devices, to see that the simulated device finds them. In the product none is ever there.

/// A wait, a check or a note that is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Omission {
    WaitForWrite,
    WaitForReads,
    NoteRead,
    NoteWrite,
    LastOfQueue,
    TagOfFreed,
    SecondQueue,
    DoneBeforeIdle,
    DoneBeforePendingIsFree,
    BehindOfReused,
    ChunkInUse,
    WaitBeforeHostReads,
    WaitBeforeHostWrites,
    SlabInUse,
    PieceInUse,
    Ceiling,
    HostBlockInUse,
    Budget,
    EventIsDone,
    EventOfTicket,
    StreamWaits,
    EventIsSpare,
    MarkOfGuest,
    GuestAfterGuest,
    NoteElsewhere,
    PeerWait,
    PeerNote,
    MarkForAll,
    NoteOther,
    Loan,
    EndOfLoan,
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Omission>> = const { std::cell::Cell::new(None) };
}

/// Whether a test on this thread left this out.
#[cfg(test)]
pub(crate) fn omitted(what: Omission) -> bool {
    PLANTED.get() == Some(what)
}

#[cfg(not(test))]
#[inline(always)]
pub(crate) fn omitted(_: Omission) -> bool {
    false
}

/// Runs `work` without `what`.
#[cfg(all(test, not(loom)))]
pub(crate) fn without<R>(what: Omission, work: impl FnOnce() -> R) -> R {
    PLANTED.set(Some(what));
    let result = work();
    PLANTED.set(None);
    result
}
