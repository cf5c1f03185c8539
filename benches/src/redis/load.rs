//! Makes calls for a while, by one thread or by many tasks at a time, and measures them.
//!
//! Every loop makes at least one call: on a busy machine the whole slice may pass before it begins.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;

use crate::Result;
use crate::contenders::{Contender, EXHAUSTED, Rate, Tidegate};

pub(crate) struct Load {
    /// How many keys are asked for in turn; each task has its own where there are as many tasks.
    pub(crate) keys: u64,
    pub(crate) limit: Rate,
    pub(crate) concurrency: u64,
    pub(crate) slice: Duration,
    /// How long one thread rests before each call.
    pub(crate) rest: Duration,
}

/// The measurement of one slice of calls.
#[derive(Default)]
pub(crate) struct Sample {
    calls: usize,
    allowed: u64,
    seconds: f64,
    cpu_seconds: f64,
    p50_us: f64,
    p99_us: f64,
}

/// Latencies in nanoseconds, and the number of calls that were allowed.
type Measured = (Vec<u32>, u64);

impl Load {
    pub(crate) fn run<C: Contender>(
        &self,
        runtime: &Runtime,
        contender: &Arc<C>,
    ) -> Result<Sample> {
        self.sample(|| match self.concurrency {
            1 => self.one_thread(runtime, contender),
            _ => self.tasks(runtime, contender),
        })
    }

    fn sample(&self, calls: impl FnOnce() -> Result<Measured>) -> Result<Sample> {
        let (cpu, start) = (cpu_seconds(), Instant::now());
        let (mut nanos, allowed) = calls()?;
        let seconds = start.elapsed().as_secs_f64();
        let cpu_seconds = cpu_seconds() - cpu;
        nanos.sort_unstable();
        let quantile = |q: f64| {
            let at = (nanos.len().saturating_sub(1) as f64 * q).round() as usize;
            nanos.get(at).map_or(f64::NAN, |&nanos| f64::from(nanos) / 1e3)
        };
        let (p50_us, p99_us) = (quantile(0.5), quantile(0.99));
        Ok(Sample { calls: nanos.len(), allowed, seconds, cpu_seconds, p50_us, p99_us })
    }

    fn one_thread<C: Contender>(&self, runtime: &Runtime, contender: &Arc<C>) -> Result<Measured> {
        let end = Instant::now() + self.slice;
        let (mut nanos, mut allowed) = (Vec::new(), 0);
        let mut before = Instant::now();
        loop {
            if !self.rest.is_zero() {
                std::thread::sleep(self.rest);
                before = Instant::now();
            }
            let key = nth_key(nanos.len() as u64, self.keys);
            allowed += u64::from(contender.check_blocking(runtime, self.limit, key)?);
            let after = Instant::now();
            nanos.push(saturating_nanos(after - before));
            before = after;
            if before >= end {
                return Ok((nanos, allowed));
            }
        }
    }

    /// Makes one call after the other, each of as many checks as are to be in flight.
    pub(crate) fn run_many(&self, runtime: &Runtime, tidegate: &Arc<Tidegate>) -> Result<Sample> {
        let keys: Vec<u64> = (0..self.concurrency).map(|nth| nth % self.keys).collect();
        let (tidegate, limit, slice) = (Arc::clone(tidegate), self.limit, self.slice);
        self.sample(|| {
            let calls = async move {
                let end = Instant::now() + slice;
                let (mut nanos, mut allowed) = (Vec::new(), 0);
                let mut before = Instant::now();
                loop {
                    allowed += tidegate.check_many(limit, &keys).await?;
                    let after = Instant::now();
                    let taken = saturating_nanos(after - before);
                    nanos.extend(core::iter::repeat_n(taken, keys.len()));
                    before = after;
                    if before >= end {
                        return Ok((nanos, allowed));
                    }
                }
            };
            runtime.block_on(runtime.spawn(calls))?
        })
    }

    fn tasks<C: Contender>(&self, runtime: &Runtime, contender: &Arc<C>) -> Result<Measured> {
        let next = Arc::new(AtomicU64::new(0));
        let tasks: Vec<_> = (0..self.concurrency)
            .map(|task| runtime.spawn(self.task(task, Arc::clone(&next), Arc::clone(contender))))
            .collect();
        let mut measured = Measured::default();
        for task in tasks {
            let (nanos, allowed) = runtime.block_on(task)??;
            measured.0.extend(nanos);
            measured.1 += allowed;
        }
        Ok(measured)
    }

    fn task<C: Contender>(
        &self,
        task: u64,
        next: Arc<AtomicU64>,
        contender: Arc<C>,
    ) -> impl Future<Output = Result<Measured>> + Send + 'static {
        let Self { keys, limit, concurrency, slice, .. } = *self;
        async move {
            let end = Instant::now() + slice;
            let (mut nanos, mut allowed) = (Vec::new(), 0);
            let mut before = Instant::now();
            loop {
                let key = match keys {
                    _ if keys == concurrency => task,
                    _ => nth_key(next.fetch_add(1, Ordering::Relaxed), keys),
                };
                allowed += u64::from(contender.check(limit, key).await?);
                let after = Instant::now();
                nanos.push(saturating_nanos(after - before));
                before = after;
                if before >= end {
                    return Ok((nanos, allowed));
                }
            }
        }
    }
}

impl Sample {
    pub(crate) fn as_json(&self) -> String {
        let Self { calls, allowed, seconds, cpu_seconds, p50_us, p99_us } = self;
        format!(
            "{{\"calls\":{calls},\"allowed\":{allowed},\"seconds\":{seconds},\
             \"cpu_seconds\":{cpu_seconds},\"p50_us\":{p50_us},\"p99_us\":{p99_us}}}"
        )
    }
}

/// Spends the one token of each key.
pub(crate) fn exhaust<C: Contender>(
    runtime: &Runtime,
    contender: &Arc<C>,
    keys: u64,
) -> Result<()> {
    let keys: Vec<u64> = (0..keys).collect();
    for some in keys.chunks(64) {
        let checks = some.iter().map(|&key| runtime.spawn(contender.check(EXHAUSTED, key)));
        for check in checks.collect::<Vec<_>>() {
            runtime.block_on(check)??;
        }
    }
    Ok(())
}

/// The key of the nth call. The order jumps, so that keys of successive calls are not neighbours
/// in any table.
fn nth_key(nth: u64, keys: u64) -> u64 {
    const PRIME: u64 = 1_000_003;
    nth.wrapping_mul(PRIME) % keys
}

fn saturating_nanos(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos()).unwrap_or(u32::MAX)
}

/// The CPU time that all threads of this process have used.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
