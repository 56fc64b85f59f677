//! Replays a trace of allocations on each placement rule and prints what each reserves and what an operation takes.
//! `make replay TRACE=file.csv` runs it; bench/README.md says how it measures and what the figures leave out.
//!
//! - `trace.rs`: reads a file into a sequence of operations.
//! - `rules/`: the rules, ours and models of others.
//! - `measure.rs`: replays one rule: times, addresses, bookkeeping.
//! - `report.rs`: the table, the goals, the JSON file.
//! - `machine.rs`: what a reader of the times must know of the machine.

mod machine;
mod measure;
mod report;
mod rules;
mod trace;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bench_worker::ticks::Ticks;
use measure::{Measured, measure};
use report::Report;
use rules::{BestFit, Heap, Pool, PowerOfTwo, TorchLike};
use trace::Trace;

const USAGE: &str = "\
neuro-replay [--json FILE] [--strict] TRACE.csv…

Replays each trace on our pool, on its heap alone and on models of other placement rules.
A trace has the header `id,lower,upper,size` and a row for each buffer: live over [lower, upper) of a clock that counts
events, size in bytes.

  --json FILE   write the figures there too
  --strict      end with status 1 where a goal is missed";

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("neuro-replay: {message}");
            ExitCode::from(2)
        }
    }
}

/// What the command line asks for.
#[derive(Default)]
struct Options {
    traces: Vec<PathBuf>,
    json: Option<PathBuf>,
    strict: bool,
    help: bool,
}

impl Options {
    fn from(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--json" => options.json = Some(arguments.next().ok_or("--json needs the name of a file")?.into()),
                "--strict" => options.strict = true,
                "-h" | "--help" => options.help = true,
                name if name.starts_with('-') => return Err(format!("no option {name}\n\n{USAGE}")),
                name => options.traces.push(name.into()),
            }
        }
        if options.traces.is_empty() && !options.help {
            return Err(format!("which trace?\n\n{USAGE}"));
        }
        Ok(options)
    }
}

/// Replays all that is asked for; false where `--strict` was given and a goal missed.
fn run(arguments: impl Iterator<Item = String>) -> Result<bool, String> {
    let options = Options::from(arguments)?;
    if options.help {
        println!("{USAGE}");
        return Ok(true);
    }
    // All of them first: a wrong last file should not cost the time of the others.
    let traces = options
        .traces
        .iter()
        .map(|path| read(path))
        .collect::<Result<Vec<_>, _>>()?;
    let clock = Ticks::calibrated();
    let machine = machine::describe(&clock);
    report::print_header(&machine);
    let mut reports = Vec::new();
    for (path, trace) in options.traces.iter().zip(&traces) {
        let rules = replay(trace, &clock).map_err(|error| format!("{}: {error}", path.display()))?;
        let report = Report::new(path, trace, rules);
        report.print();
        reports.push(report);
    }
    if let Some(file) = &options.json {
        let text = report::json(&machine, &reports);
        std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(!options.strict || reports.iter().all(Report::all_met))
}

fn read(path: &Path) -> Result<Trace, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Trace::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Every rule on one trace.
fn replay(trace: &Trace, clock: &Ticks) -> Result<Vec<Measured>, String> {
    Ok(vec![
        measure::<Pool>(trace, clock)?,
        measure::<Heap>(trace, clock)?,
        measure::<BestFit>(trace, clock)?,
        measure::<TorchLike>(trace, clock)?,
        measure::<PowerOfTwo>(trace, clock)?,
    ])
}
