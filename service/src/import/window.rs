//! The limits of services that count in fixed windows.

use tidegate::Limit;

/// How a fixed window is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    /// Whether it becomes a smooth limit where one can be that long.
    pub(super) smooth: bool,
}

impl Windows {
    /// The text of a limit of `count` requests in each `period`, such as `min` or `30s`.
    ///
    /// # Errors
    /// A sentence that names the bound.
    pub(super) fn limit(self, count: u64, period: &str) -> Result<String, String> {
        if count == 0 {
            return Ok("none".to_owned());
        }
        let smooth = format!("{count}/{period}");
        if self.smooth && Limit::parse(&smooth).is_ok() {
            return Ok(smooth);
        }
        let window = format!("{smooth} window");
        Limit::parse(&window).map(|_| window).map_err(|error| error.to_string())
    }
}
