//! `pool-worker PEER`: the measured process of `bench/pool.py`; `bench_worker` has the protocol. It prepares the pieces of work
//! of [`work::Spec`], and answers the questions of [`facts::Fact`].

mod facts;
mod peers;
mod work;

use bench_worker::{Result, serve};

pub type Ability = bench_worker::Ability<work::Spec, facts::Fact>;

fn main() -> Result<()> {
    let name = std::env::args().nth(1).unwrap_or_default();
    let ability = peers::find(&name).ok_or_else(|| format!("no peer {name:?}; there are: {}", peers::names()))?;
    serve(&name, &ability)
}
