//! The log on standard error.

use std::io;

use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, registry};

use crate::cli::{LogFormat, ServeOptions};

/// Starts logging to standard error, with the filter and the format of the options.
pub(crate) fn start(options: &ServeOptions) {
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(false);
    let lines = match options.log_format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    registry().with(lines.with_filter(options.log.clone())).init();
}
