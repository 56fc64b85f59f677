//! The protocol.

use std::error::Error;
use std::io::{self, BufRead, Write};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::steps::Work;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Deserialize)]
#[serde(untagged)]
enum Request<Spec, Fact> {
    Exec { exec: Spec },
    Eval { eval: Fact },
    Time { times: usize, clock: Clock },
}

/// What one arm can do, without its type: the requests come at run time, the calls are compiled for each arm.
pub struct Ability<Spec, Fact> {
    pub prepare: fn(Spec) -> Result<Box<dyn Work>>,
    pub tell: fn(Fact) -> Result<Value>,
}

/// Does what it is told until there are no more requests; `name` stands before each error.
///
/// # Errors
/// Where the requests cannot be read, or the replies not be written.
pub fn serve<Spec: DeserializeOwned, Fact: DeserializeOwned>(name: &str, ability: &Ability<Spec, Fact>) -> Result<()> {
    let mut work = None;
    let mut replies = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let reply = match answer(ability, &mut work, &line?) {
            Ok(value) => json!({ "ok": value }),
            Err(error) => json!({ "error": format!("{name}: {error}") }),
        };
        writeln!(replies, "{reply}")?;
        replies.flush()?;
    }
    Ok(())
}

fn answer<Spec: DeserializeOwned, Fact: DeserializeOwned>(
    ability: &Ability<Spec, Fact>,
    work: &mut Option<Box<dyn Work>>,
    line: &str,
) -> Result<Value> {
    match serde_json::from_str(line).map_err(|error| format!("{error} in {line}"))? {
        Request::Exec { exec } => {
            *work = Some((ability.prepare)(exec)?);
            Ok(Value::Null)
        }
        Request::Eval { eval } => (ability.tell)(eval),
        Request::Time { times, clock } => {
            let work = work.as_mut().ok_or("nothing is prepared to be timed")?;
            Ok(json!(work.run(times, clock)?))
        }
    }
}
