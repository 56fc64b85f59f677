//! Law: any program of handles behaves as with the standard library's `Arc`: same counts, same results, same drop moments.

use std::sync::Mutex;
use std::sync::{Arc as StdArc, Weak as StdWeak};

use proptest::prelude::*;

use super::super::{Arc, Weak};

/// Tells its drop to a log.
struct Logged {
    id: usize,
    log: StdArc<Mutex<Vec<usize>>>,
}

impl Drop for Logged {
    fn drop(&mut self) {
        self.log.lock().unwrap().push(self.id);
    }
}

/// What to do; the numbers choose a handle among those there are.
#[derive(Clone, Debug)]
enum Op {
    New,
    Clone(usize),
    Drop(usize),
    Downgrade(usize),
    Upgrade(usize),
    CloneWeak(usize),
    DropWeak(usize),
    DanglingWeak,
    GetMut(usize),
    TryUnwrap(usize),
    ThroughRaw(usize),
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => Just(Op::New),
        3 => any::<usize>().prop_map(Op::Clone),
        4 => any::<usize>().prop_map(Op::Drop),
        3 => any::<usize>().prop_map(Op::Downgrade),
        3 => any::<usize>().prop_map(Op::Upgrade),
        2 => any::<usize>().prop_map(Op::CloneWeak),
        3 => any::<usize>().prop_map(Op::DropWeak),
        1 => Just(Op::DanglingWeak),
        2 => any::<usize>().prop_map(Op::GetMut),
        2 => any::<usize>().prop_map(Op::TryUnwrap),
        1 => any::<usize>().prop_map(Op::ThroughRaw),
    ]
}

/// The same machine over either library: handles, and what was seen of them after each step.
macro_rules! machine {
    ($name:ident, $Arc:ident, $Weak:ident) => {
        fn $name(ops: &[Op]) -> Vec<String> {
            let log = StdArc::new(Mutex::new(vec![]));
            let mut next = 0..;
            let mut strong: Vec<$Arc<Logged>> = vec![];
            let mut weak: Vec<$Weak<Logged>> = vec![];
            let mut trace = vec![];
            for op in ops {
                let result = match *op {
                    Op::New => {
                        let id = next.next().unwrap();
                        strong.push($Arc::new(Logged { id, log: log.clone() }));
                        None
                    }
                    Op::DanglingWeak => {
                        weak.push($Weak::new());
                        None
                    }
                    Op::Upgrade(at) | Op::CloneWeak(at) | Op::DropWeak(at) if !weak.is_empty() => {
                        let at = at % weak.len();
                        match op {
                            Op::Upgrade(_) => {
                                let up = weak[at].upgrade();
                                let id = up.as_ref().map(|up| up.id);
                                strong.extend(up);
                                id
                            }
                            Op::CloneWeak(_) => {
                                weak.push(weak[at].clone());
                                None
                            }
                            _ => {
                                weak.swap_remove(at);
                                None
                            }
                        }
                    }
                    Op::Clone(at)
                    | Op::Drop(at)
                    | Op::Downgrade(at)
                    | Op::GetMut(at)
                    | Op::TryUnwrap(at)
                    | Op::ThroughRaw(at)
                        if !strong.is_empty() =>
                    {
                        let at = at % strong.len();
                        match op {
                            Op::Clone(_) => strong.push(strong[at].clone()),
                            Op::Drop(_) => drop(strong.swap_remove(at)),
                            Op::Downgrade(_) => weak.push($Arc::downgrade(&strong[at])),
                            _ => {}
                        }
                        match op {
                            Op::GetMut(_) => $Arc::get_mut(&mut strong[at]).map(|logged| {
                                logged.id += 1000;
                                logged.id
                            }),
                            Op::TryUnwrap(_) => match $Arc::try_unwrap(strong.swap_remove(at)) {
                                Ok(logged) => Some(logged.id),
                                Err(arc) => {
                                    strong.push(arc);
                                    None
                                }
                            },
                            Op::ThroughRaw(_) => {
                                let raw = $Arc::into_raw(strong.swap_remove(at));
                                // SAFETY: `raw` is from `into_raw`, and its count is taken back once.
                                strong.push(unsafe { $Arc::from_raw(raw) });
                                None
                            }
                            _ => None,
                        }
                    }
                    _ => None,
                };
                trace.push(format!(
                    "{op:?}: {result:?}, strong {:?}, weak {:?}, dropped {:?}",
                    strong
                        .iter()
                        .map(|arc| (arc.id, $Arc::strong_count(arc), $Arc::weak_count(arc)))
                        .collect::<Vec<_>>(),
                    weak.iter()
                        .map(|weak| (weak.strong_count(), weak.weak_count()))
                        .collect::<Vec<_>>(),
                    log.lock().unwrap(),
                ));
            }
            drop(strong);
            trace.push(format!("end: dropped {:?}", log.lock().unwrap()));
            trace
        }
    };
}

machine!(ours, Arc, Weak);
machine!(theirs, StdArc, StdWeak);

proptest! {
    #[test]
    fn any_program_of_handles_behaves_as_with_the_standard_library(ops in prop::collection::vec(any_op(), 0..200)) {
        let (ours, theirs) = (ours(&ops), theirs(&ops));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            prop_assert_eq!(ours, theirs);
        }
        prop_assert_eq!(ours.len(), theirs.len());
    }
}
