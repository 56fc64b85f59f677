//! What a reader of the times must know of the machine.

use std::fs::read_to_string;

use bench_worker::ticks::Ticks;

/// Names and values, in the order to print them.
pub(crate) fn describe(clock: &Ticks) -> Vec<(&'static str, String)> {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    vec![
        ("processor", format!("{}, {processors} to use", processor())),
        (
            "system",
            format!("{} {}", std::env::consts::OS, line_of("/proc/sys/kernel/osrelease")),
        ),
        (
            "load",
            format!(
                "{} in the last minute (more than 0.5: the times are of a busy machine)",
                load()
            ),
        ),
        (
            "clock",
            format!(
                "ticks of {:.3} ns; a reading takes {:.0} ns, part of each single time",
                clock.ns_a_tick, clock.reading_ns
            ),
        ),
    ]
}

fn processor() -> String {
    let text = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find(|line| line.starts_with("model name"));
    let name = model
        .and_then(|line| line.split_once(':'))
        .map(|(_, name)| name.trim().to_owned());
    name.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

fn load() -> String {
    let text = line_of("/proc/loadavg");
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn line_of(path: &str) -> String {
    read_to_string(path).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}
