//! The options of `tidegate plan`.

use core::time::Duration;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tidegate::{Limit, Shape};
use tidegate_sim::plan::{Call, Host, Inputs, Mode, Spike, Vendor};

const AFTER_HELP: &str = "\
Examples:
  The limit that keeps 10 calls in any second, over a network whose delay varies by 50 ms:
    tidegate plan --vendor 10/s --jitter 50ms

  A queue of 1000 messages, handled in batches by a function:
    tidegate plan --vendor 10/s --jitter 50ms --backlog 1000 --batch 10 --mode parallel \\
      --latency 5s --overhead 5s --event-source

A file has the same names: `vendor = \"10/s\"`, `backlog = 1000`, `event-source = true`. The command line
takes precedence. On a terminal, `tidegate plan` without options asks for what it needs.

Exit codes: 0 a plan was made, with --strict one without warnings; 1 with --strict, one with warnings;
2 an input is wrong.";

/// What is known of the vendor, the work and the program that calls.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = AFTER_HELP, args_override_self = true)]
pub(crate) struct PlanOptions {
    /// A file with these options (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// The vendor's limit, such as 10/s or 100/min: so many calls in any window of that length
    #[arg(long, value_name = "LIMIT", value_parser = vendor_limit)]
    pub(crate) vendor: Option<(u64, Duration)>,

    /// How much longer one call may take to arrive than another
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "0s")]
    pub(crate) jitter: Duration,

    /// How many calls may be made at once; the more, the fewer in the long run
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub(crate) burst: u64,

    /// How many calls arrive, at random, such as 8/s or 0.2/s
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub(crate) arrivals: Option<f64>,

    /// What arrives at first and for a while, in place of --arrivals, such as "50/s for 60s"
    #[arg(long, value_name = "SPIKE", value_parser = spike)]
    pub(crate) spike: Option<Spike>,

    /// How many calls wait at the beginning
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub(crate) backlog: u64,

    /// The age at which a waiting call is worth nothing any more
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) deadline: Option<Duration>,

    /// How long a call takes: the median
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "0s")]
    pub(crate) latency: Duration,

    /// The shortest call
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "0s")]
    pub(crate) latency_min: Duration,

    /// The time that 1 call in 100 exceeds
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "0s")]
    pub(crate) latency_p99: Duration,

    /// The time that 1 call in 1000 exceeds
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "0s")]
    pub(crate) latency_p999: Duration,

    /// The share of calls that fail and are made again, such as 2% or 0.02
    #[arg(long, value_name = "SHARE", value_parser = share, default_value = "0")]
    pub(crate) failures: f64,

    /// How many messages the program takes at a time
    #[arg(long, value_name = "COUNT")]
    pub(crate) batch: Option<u64>,

    /// How the calls of a batch are made
    #[arg(long, value_enum, value_name = "MODE")]
    pub(crate) mode: Option<BatchMode>,

    /// The time that a batch takes beside its calls
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) overhead: Option<Duration>,

    /// The batches that may run at a time, if that is fixed
    #[arg(long, value_name = "COUNT")]
    pub(crate) concurrency: Option<u64>,

    /// The longest time that a batch may take, if that is fixed
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,

    /// The time for which the queue hides a message that it has given, if that is fixed
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) visibility_timeout: Option<Duration>,

    /// How often the queue gives a message before it puts it aside, if that is fixed
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_receives: Option<u64>,

    /// A queue's event source starts the batches, as with SQS and Lambda
    #[arg(long)]
    pub(crate) event_source: bool,

    /// The event source has provisioned pollers
    #[arg(long)]
    pub(crate) provisioned: bool,

    /// Runs the settings in the simulator, and prints what comes of them beside the plan
    #[arg(long)]
    pub(crate) simulate: bool,

    /// Prints the plan as JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// Exits with 1 if there is a warning
    #[arg(long)]
    pub(crate) strict: bool,
}

/// How the calls of a batch are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BatchMode {
    /// All at once
    Parallel,
    /// One after the other
    Sequential,
}

impl PlanOptions {
    /// What the plan is made from; `None` without the vendor's limit.
    pub(crate) fn inputs(&self) -> Option<Inputs> {
        let (calls, window) = self.vendor?;
        let vendor =
            Vendor { calls, window: nanos(window), jitter: nanos(self.jitter), burst: self.burst };
        Some(Inputs {
            arrivals: self.arrivals,
            spike: self.spike,
            backlog: self.backlog,
            deadline: self.deadline.map(nanos),
            call: Call {
                min: nanos(self.latency_min),
                typical: nanos(self.latency),
                p99: nanos(self.latency_p99),
                p999: nanos(self.latency_p999),
                failures: self.failures,
            },
            host: self.host(),
            ..Inputs::new(vendor)
        })
    }

    fn host(&self) -> Option<Host> {
        let is_known = self.batch.is_some()
            || self.mode.is_some()
            || self.overhead.is_some()
            || self.concurrency.is_some()
            || self.timeout.is_some()
            || self.visibility_timeout.is_some()
            || self.max_receives.is_some()
            || self.event_source
            || self.provisioned;
        is_known.then(|| Host {
            batch: self.batch.unwrap_or(1),
            mode: self.mode.map(|mode| match mode {
                BatchMode::Parallel => Mode::Parallel,
                BatchMode::Sequential => Mode::Sequential,
            }),
            overhead: nanos(self.overhead.unwrap_or_default()),
            concurrency: self.concurrency,
            timeout: self.timeout.map(nanos),
            visibility: self.visibility_timeout.map(nanos),
            max_receives: self.max_receives,
            is_event_source: self.event_source,
            is_provisioned: self.provisioned,
        })
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn vendor_limit(text: &str) -> Result<(u64, Duration), String> {
    let limit: Limit = text.parse().map_err(|error| format!("{error}"))?;
    if limit.shape() != Shape::Smooth || limit.burst() != limit.tokens() || text.contains("any") {
        return Err("write only the calls and their window, as in 10/s".to_owned());
    }
    Ok((limit.tokens(), Duration::from_nanos(limit.period())))
}

fn duration(text: &str) -> Result<Duration, String> {
    let most = Duration::from_secs(366 * 86_400);
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= most => Ok(duration),
        Ok(_) => Err("the longest time is 366 days".to_owned()),
        Err(error) => Err(format!("{error}: write a number and a unit, as in 50ms or 5s")),
    }
}

/// A rate in calls a second.
fn rate(text: &str) -> Result<f64, String> {
    let wrong = || "write a number and a unit of time, as in 8/s, 0.2/s or 480/min".to_owned();
    let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
    let count: f64 = count.trim().parse().map_err(|_| wrong())?;
    let seconds = match unit.trim() {
        "s" | "second" => 1.0,
        "min" | "minute" => 60.0,
        "h" | "hour" => 3600.0,
        "d" | "day" => 86_400.0,
        _ => return Err(wrong()),
    };
    if count.is_finite() && count >= 0.0 { Ok(count / seconds) } else { Err(wrong()) }
}

fn spike(text: &str) -> Result<Spike, String> {
    let (arrivals, length) = text
        .split_once(" for ")
        .ok_or_else(|| "write a rate and a time, as in 50/s for 60s".to_owned())?;
    Ok(Spike { rate: rate(arrivals)?, length: nanos(duration(length.trim())?) })
}

fn share(text: &str) -> Result<f64, String> {
    let wrong = || "write a share from 0 to below 1, as in 0.02 or 2%".to_owned();
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse(),
    };
    share.ok().filter(|share| (0.0..1.0).contains(share)).ok_or_else(wrong)
}
