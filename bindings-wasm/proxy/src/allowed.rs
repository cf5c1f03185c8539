//! What the responses to allowed requests say of their limits.

use crate::host::Host;
use crate::id_map::IdMap;
use crate::plugin::Plugin;
use crate::reply::{self, Quota};
use crate::rls::Response;
use crate::text::Text;

/// The streams to whose responses headers are added.
pub(crate) struct Allowed(IdMap<Stream>);

#[derive(Clone, Copy)]
struct Stream {
    root: u32,
    /// The numbers of the limit of which least remains, of those that this worker has decided by.
    quota: Quota,
    /// Whether the host keeps the service's response.
    has_response: bool,
}

impl Allowed {
    pub(crate) const EMPTY: Self =
        Self(IdMap::empty(Stream { root: 0, quota: Quota::NONE, has_response: false }));

    /// Remembers the numbers of a limit that has allowed the request of a stream so far. Where there is no
    /// room, the response has no headers.
    pub(crate) fn add(&mut self, stream: u32, plugin: &Plugin, quota: Quota) {
        match self.0.get_mut(stream) {
            Some(known) => known.quota.merge(quota),
            None => {
                let new = Stream { root: plugin.root, quota, has_response: false };
                self.0.insert(stream, new);
            }
        }
    }

    /// Remembers the service's response to an allowed request, if there is anything in it to show.
    #[inline(never)]
    pub(crate) fn answered(
        &mut self,
        host: &impl Host,
        stream: u32,
        plugin: &Plugin,
        response: &Response<'_>,
    ) {
        if plugin.config.refusals.on_allowed {
            self.add(stream, plugin, Quota::service(response.status));
        }
        if response.headers().next().is_none() {
            return;
        }
        self.add(stream, plugin, Quota::NONE);
        let kept = host.keep(stream, kept_name(plugin).as_str(), response.message());
        plugin.count_failure(host, kept);
        if let Some(known) = self.0.get_mut(stream) {
            known.has_response = kept.is_ok();
        }
    }

    /// Forgets a stream that has ended, or whose request was refused.
    pub(crate) fn forget(&mut self, stream: u32) {
        self.0.remove(stream);
    }

    /// The root context of a stream to whose response headers are added.
    pub(crate) fn root_of(&mut self, stream: u32) -> Option<u32> {
        self.0.get_mut(stream).map(|known| known.root)
    }

    /// Adds the headers to the response of a stream.
    #[inline(never)]
    pub(crate) fn headers(&mut self, host: &impl Host, stream: u32, plugin: &Plugin) {
        let Some(known) = self.0.remove(stream) else { return };
        let kept = known.has_response.then(|| host.property(kept_name(plugin).as_bytes()));
        // What was kept has been parsed before.
        let message = kept.transpose().ok().flatten();
        let response = message.and_then(|message| Response::parse(message, true).ok());
        let added = reply::add_to_allowed(host, &plugin.config, &known.quota, response.as_ref());
        plugin.count_failure(host, added);
    }
}

/// The name under which the host keeps the service's response.
fn kept_name(plugin: &Plugin) -> Text<64> {
    let mut name = plugin.kept_name();
    name.append(format_args!(".answer"));
    name
}
