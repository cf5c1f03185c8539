//! The `envoy.config.core.v3.GrpcService` that names the cluster of a call and its `:authority`.

use crate::config::MAX_NAME;
use crate::protobuf::{Message, field_size};

/// The tag and the length of a field of up to 16383 bytes.
const OVERHEAD: usize = 4;
pub(crate) const GRPC_SERVICE: usize = 2 * (MAX_NAME + OVERHEAD) + OVERHEAD;

/// The authority of a call to a cluster whose name cannot be one.
const AUTHORITY: &[u8] = b"tidegate";

/// A `GrpcService` with this cluster; `None` if its name is longer than [`MAX_NAME`].
///
/// Given only a name, Envoy takes one that can be read as a message for that message. And it sends the name as
/// `:authority`, which many servers refuse when it is like Istio's `outbound|8081||host`.
pub(crate) fn grpc_service<'b>(
    cluster: &[u8],
    room: &'b mut [u8; GRPC_SERVICE],
) -> Option<&'b [u8]> {
    let authority = authority(cluster);
    let mut service = Message::new(room);
    service.begin(1, field_size(cluster.len()) + field_size(authority.len()))?;
    service.bytes(1, cluster)?;
    service.bytes(2, authority)?;
    Some(service.finish())
}

/// The cluster's name, or what follows the last `|` of it, if that can be an authority.
fn authority(cluster: &[u8]) -> &[u8] {
    let host = cluster.rsplit(|byte| *byte == b'|').next().unwrap_or_default();
    let may_stand = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    if !host.is_empty() && host.iter().all(may_stand) { host } else { AUTHORITY }
}

#[cfg(test)]
mod tests {
    use super::{GRPC_SERVICE, authority, grpc_service};

    #[test]
    fn the_authority_is_one_that_every_server_accepts() {
        let cases: [(&[u8], &[u8]); 6] = [
            (b"rate-limit_service.1", b"rate-limit_service.1"),
            (b"outbound|8081||tidegate.ns.svc.cluster.local", b"tidegate.ns.svc.cluster.local"),
            (b"httproute/default/tidegate/rule/0", b"tidegate"),
            ("gr\u{fc}n".as_bytes(), b"tidegate"),
            (b"outbound|8081||", b"tidegate"),
            (b"[::1]:8081", b"tidegate"),
        ];
        for (cluster, expected) in cases {
            assert_eq!(authority(cluster), expected);
        }
    }

    #[test]
    fn the_message_has_the_name_and_the_authority() {
        let mut room = [0; GRPC_SERVICE];
        let service = grpc_service(b"a|b", &mut room);
        let expected = [0x0A, 8, 0x0A, 3, b'a', b'|', b'b', 0x12, 1, b'b'];
        assert_eq!(service, Some(&expected[..]));
    }

    #[test]
    fn names_up_to_the_bound_fit() {
        let mut room = [0; GRPC_SERVICE];
        assert!(grpc_service(&[b'x'; 255], &mut room).is_some());
        assert!(grpc_service(&[b'x'; 600], &mut room).is_none());
    }
}
