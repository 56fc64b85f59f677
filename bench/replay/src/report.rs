//! The figures of a trace as a reader sees them, and as a program does (JSON).

use std::path::Path;

use serde_json::{Value, json};

use crate::measure::{Measured, REPLAYS};
use crate::rules::{BestFit, Pool, Rule};
use crate::trace::Trace;

/// Most nanoseconds an operation of the pool takes in the mean.
const MEAN_NS: f64 = 60.0;
/// Most nanoseconds of 9,999 in 10,000 operations.
const P9999_NS: f64 = 5_000.0;
/// Most bookkeeping, as a share of the bytes live at the peak.
const SIDE_SHARE: f64 = 0.005;

/// Something that shall hold of our pool on every trace.
struct Goal {
    what: String,
    got: String,
    met: bool,
}

/// One trace on all rules.
pub(crate) struct Report {
    file: String,
    buffers: usize,
    operations: usize,
    peak_bytes: u64,
    rules: Vec<Measured>,
    goals: Vec<Goal>,
}

impl Report {
    pub(crate) fn new(file: &Path, trace: &Trace, rules: Vec<Measured>) -> Self {
        Self {
            file: file.display().to_string(),
            buffers: trace.buffers,
            operations: trace.ops.len(),
            peak_bytes: trace.peak_bytes,
            goals: goals(&rules, trace.peak_bytes),
            rules,
        }
    }

    pub(crate) fn all_met(&self) -> bool {
        self.goals.iter().all(|goal| goal.met)
    }

    pub(crate) fn print(&self) {
        println!(
            "\n{}: {} buffers, {} operations, {} live at the peak",
            self.file,
            self.buffers,
            self.operations,
            size(self.peak_bytes as f64)
        );
        println!(
            "{:<22} {:>13} {:>9} {:>15} {:>10} {:>10} {:>6}  bookkeeping",
            "rule", "reserved/peak", "mean ns", "slowest replay", "p99.99 ns", "worst ns", ">5 µs"
        );
        for rule in &self.rules {
            let side = rule.side_bytes.map_or("model".to_owned(), |bytes| {
                format!(
                    "{} ({:.3} %)",
                    size(bytes as f64),
                    100.0 * share(bytes, self.peak_bytes)
                )
            });
            println!(
                "{:<22} {:>13.3} {:>9.1} {:>15.1} {:>10.0} {:>10.0} {:>6}  {side}",
                rule.name,
                ratio(rule, self.peak_bytes),
                rule.best_mean_ns(),
                rule.worst_mean_ns(),
                rule.p9999_ns(),
                rule.worst_ns(),
                rule.above(P9999_NS),
            );
        }
        for goal in &self.goals {
            println!(
                "  {:<3} {}: {}",
                if goal.met { "yes" } else { "NO" },
                goal.what,
                goal.got
            );
        }
    }

    fn json(&self) -> Value {
        let rules: Vec<_> = self.rules.iter().map(|rule| rule_json(rule, self.peak_bytes)).collect();
        let goals: Vec<_> = self
            .goals
            .iter()
            .map(|goal| json!({"what": goal.what, "got": goal.got, "met": goal.met}))
            .collect();
        json!({
            "file": self.file,
            "buffers": self.buffers,
            "operations": self.operations,
            "peak_bytes": self.peak_bytes,
            "rules": rules,
            "goals": goals,
        })
    }
}

/// The machine and how to read what follows.
pub(crate) fn print_header(machine: &[(&'static str, String)]) {
    println!("Recorded allocations, replayed on placement rules");
    for (name, value) in machine {
        println!("  {name:<10} {value}");
    }
    println!(
        "\nreserved/peak: bytes from the lowest to the highest address used, or in segments, over the bytes asked for that\n\
         were live at once. mean: of the fastest of {REPLAYS} replays, an allocation or a free. p99.99 and worst: of the least\n\
         times of each operation over {REPLAYS} other replays. Times of a model are this program's, not those of what it models."
    );
}

/// All of it for programs.
pub(crate) fn json(machine: &[(&'static str, String)], reports: &[Report]) -> String {
    let machine: serde_json::Map<String, Value> = machine
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    let traces: Vec<_> = reports.iter().map(Report::json).collect();
    format!(
        "{:#}\n",
        json!({"machine": machine, "replays": REPLAYS, "traces": traces})
    )
}

fn rule_json(rule: &Measured, peak_bytes: u64) -> Value {
    json!({
        "name": rule.name,
        "reserved_bytes": rule.reserved_bytes,
        "reserved_over_peak": ratio(rule, peak_bytes),
        "mean_ns": rule.mean_ns,
        "p9999_ns": rule.p9999_ns(),
        "worst_ns": rule.worst_ns(),
        "operations_above_5_us": rule.above(P9999_NS),
        "side_bytes": rule.side_bytes,
        "side_share": rule.side_bytes.map(|bytes| share(bytes, peak_bytes)),
    })
}

/// What the pool shall hold to. Ratios are compared as they are printed, to three digits.
fn goals(rules: &[Measured], peak_bytes: u64) -> Vec<Goal> {
    let find = |name| rules.iter().find(|rule| rule.name == name);
    let (Some(pool), Some(best)) = (find(Pool::NAME), find(BestFit::NAME)) else {
        return Vec::new();
    };
    let digits = |rule| (ratio(rule, peak_bytes) * 1000.0).round() / 1000.0;
    let (ours, theirs) = (digits(pool), digits(best));
    let side = pool.side_bytes.map_or(0.0, |bytes| share(bytes, peak_bytes));
    vec![
        Goal {
            what: format!("pool reserves at most what exact best fit does, {theirs:.3}"),
            got: format!("{ours:.3}"),
            met: ours <= theirs,
        },
        Goal {
            what: format!("pool's mean is at most {MEAN_NS} ns"),
            got: format!("{:.1} ns", pool.best_mean_ns()),
            met: pool.best_mean_ns() <= MEAN_NS,
        },
        Goal {
            what: format!("pool's p99.99 is at most {} µs", P9999_NS / 1e3),
            got: format!("{:.2} µs", pool.p9999_ns() / 1e3),
            met: pool.p9999_ns() <= P9999_NS,
        },
        Goal {
            what: format!("pool's bookkeeping is at most {} % of the peak", 100.0 * SIDE_SHARE),
            got: format!("{:.3} %", 100.0 * side),
            met: side <= SIDE_SHARE,
        },
    ]
}

fn ratio(rule: &Measured, peak_bytes: u64) -> f64 {
    rule.reserved_bytes as f64 / peak_bytes as f64
}

fn share(bytes: usize, peak_bytes: u64) -> f64 {
    bytes as f64 / peak_bytes as f64
}

/// Bytes in the unit that suits them.
fn size(bytes: f64) -> String {
    for (unit, bytes_a_unit) in [
        ("GiB", f64::from(1 << 30)),
        ("MiB", f64::from(1 << 20)),
        ("KiB", 1024.0),
    ] {
        if bytes >= bytes_a_unit {
            return format!("{:.1} {unit}", bytes / bytes_a_unit);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(name: &'static str, reserved_bytes: u64, ns: f64, side_bytes: Option<usize>) -> Measured {
        Measured {
            name,
            reserved_bytes,
            side_bytes,
            mean_ns: vec![ns + 1.0, ns],
            least_ns: vec![ns; 10],
        }
    }

    #[test]
    fn goals_are_met_at_their_limits_and_missed_beyond_them() {
        let met = |reserved, ns, side| -> Vec<bool> {
            let rules = [
                measured(Pool::NAME, reserved, ns, Some(side)),
                measured(BestFit::NAME, 10_030_000, 1.0, None),
            ];
            goals(&rules, 10_000_000).iter().map(|goal| goal.met).collect()
        };
        assert_eq!(met(10_034_900, 60.0, 50_000), [true; 4]); // 1.00349 is 1.003 to three digits
        assert_eq!(met(10_035_100, 60.1, 50_001), [false, false, true, false]);
        assert_eq!(met(1, 5_000.1, 0), [true, false, false, true]);
    }

    #[test]
    fn of_few_operations_p9999_is_the_worst_and_of_many_it_is_not() {
        let rule = |count: u32| Measured {
            least_ns: (1..=count).map(f64::from).collect(),
            ..measured("", 0, 0.0, None)
        };
        assert_eq!((rule(9_999).p9999_ns(), rule(9_999).worst_ns()), (9_999.0, 9_999.0));
        assert_eq!((rule(20_000).p9999_ns(), rule(20_000).worst_ns()), (19_998.0, 20_000.0));
        assert_eq!((rule(9).above(7.0), rule(9).above(9.0), rule(9).above(0.0)), (2, 0, 9));
    }
}
