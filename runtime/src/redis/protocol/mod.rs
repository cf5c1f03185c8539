//! What travels to Redis and what comes back, without the travelling: requests are put
//! together into the calls of a trip, and the answer of each is replayed from what its
//! script saw. Who sends them, and over which client, is not decided here.

mod call;
mod exchange;
mod lease;
mod replay;
mod request;
mod script;
mod seen;
mod trip;
pub mod value;

pub use call::{Call, Refusal};
pub use exchange::{Exchange, Reply};
pub use lease::LeaseCall;
pub use replay::step;
pub use request::Request;
pub use script::{CANCEL, CHECK, CHECK_EACH, HOLD, LEASE, RESERVE, RESET, SCRIPTS, SETTLE, Script};
pub use seen::{Part, Seen};
pub use trip::{MAX_KEYS, plan};
