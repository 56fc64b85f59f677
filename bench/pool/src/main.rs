//! `pool-worker PEER`: the measured process of `bench/pool.py`. Does what it is told on standard input, one JSON line a
//! request, one a reply, as `bench/compare/worker.py` does for Python:
//!
//! - `{"exec": {"work": …}}` prepares a piece of work ([`work::Spec`]); once a process.
//! - `{"times": n, "clock": "wall"}` does `n` steps of it; the reply is in seconds.
//! - `{"eval": {"fact": …}}` asks for what is not a time ([`facts::Fact`]).
//!
//! It waits in a blocking read between requests, so while another process is measured this one uses no processor.

mod clock;
mod facts;
mod peers;
mod random;
mod work;

use std::error::Error;
use std::io::{self, BufRead, Write};

use serde::Deserialize;
use serde_json::{Value, json};

use clock::Clock;
use facts::Fact;
use work::{Spec, Work};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Deserialize)]
#[serde(untagged)]
enum Request {
    Exec { exec: Spec },
    Eval { eval: Fact },
    Time { times: usize, clock: Clock },
}

/// What one kind of peer can do, without its type: the requests come at run time, the calls are compiled for each peer.
pub struct Ability {
    pub prepare: fn(Spec) -> Result<Box<dyn Work>>,
    pub tell: fn(Fact) -> Result<Value>,
}

fn main() -> Result<()> {
    let name = std::env::args().nth(1).unwrap_or_default();
    let ability = peers::find(&name).ok_or_else(|| format!("no peer {name:?}; there are: {}", peers::names()))?;
    let mut work = None;
    let mut replies = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let reply = match answer(&ability, &mut work, &line?) {
            Ok(value) => json!({ "ok": value }),
            Err(error) => json!({ "error": format!("{name}: {error}") }),
        };
        writeln!(replies, "{reply}")?;
        replies.flush()?;
    }
    Ok(())
}

fn answer(ability: &Ability, work: &mut Option<Box<dyn Work>>, line: &str) -> Result<Value> {
    match serde_json::from_str(line).map_err(|error| format!("{error} in {line}"))? {
        Request::Exec { exec } => {
            *work = Some((ability.prepare)(exec)?);
            Ok(Value::Null)
        }
        Request::Eval { eval } => (ability.tell)(eval),
        Request::Time { times, clock } => {
            let work = work.as_mut().ok_or("nothing is prepared to be timed")?;
            Ok(json!(work.run(times, clock)))
        }
    }
}
