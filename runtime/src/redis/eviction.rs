//! Finds out whether a server evicts buckets when its memory is full.

use ::redis::{FromRedisValue as _, Value};
use tidegate_protocol::{Host as _, StoreChange, StoreNotice};

use super::link::Link;
use crate::host::NativeHost;

/// The policies that are safe: the first evicts nothing, the others first what is nearly full or seldom
/// used, which a flood of new keys is. In docs/redis.md, "When Redis fails".
const SAFE: [&str; 3] = ["noeviction", "volatile-ttl", "volatile-lfu"];

/// Asks the server for its policy, and tells the program if it is not a safe one.
pub(super) async fn look(link: Link, store: String) {
    let mut question = ::redis::cmd("INFO");
    question.arg("memory");
    // The user may lack the permission to ask; then nothing is known.
    if let Some(Ok(told)) = link.send(vec![question], 0).await.pop()
        && let Some(policy) = unsafe_policy(told)
    {
        NativeHost::store_changed(StoreChange::noticed(store, StoreNotice::Evicts(policy)));
    }
}

/// The eviction policy of a server whose memory is bounded, if keys can be evicted that owe.
fn unsafe_policy(told: Value) -> Option<String> {
    let told = String::from_redis_value(told).ok()?;
    let field = |name: &str| {
        told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    let is_bounded = field("maxmemory")? != "0";
    let policy = field("maxmemory_policy")?;
    (is_bounded && !SAFE.contains(&policy)).then(|| policy.to_owned())
}
