"""Checks that the built filter imports and exports what it should, and stays small.

An import that a host does not have makes the module unloadable there, and a callback
that is not exported is never called: both are found here rather than in a proxy.
"""

import pathlib
import sys

# It was 96 KiB until responses were read: scanning bodies, keeping what a request reserved and settling it take
# 9 KB. Envoy compiles a module when it starts, which takes about 3 ms for each KB.
MAX_BYTES = 112 * 1024
# wasm-opt makes the module a seventh smaller. Without it, the module may have so much more.
MAX_BYTES_NOT_OPTIMIZED = 128 * 1024
IMPORTS = {
    "env": {
        "proxy_add_header_map_value",
        "proxy_close_stream",
        "proxy_continue_stream",
        "proxy_define_metric",
        "proxy_get_buffer_bytes",
        "proxy_get_header_map_value",
        "proxy_get_property",
        "proxy_grpc_call",
        "proxy_increment_metric",
        "proxy_log",
        "proxy_replace_header_map_value",
        "proxy_send_local_response",
        "proxy_set_effective_context",
        "proxy_set_property",
    },
    "wasi_snapshot_preview1": {"clock_time_get", "random_get"},
}
EXPORTS = {
    "_initialize",
    "memory",
    "proxy_abi_version_0_2_1",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_done",
    "proxy_on_grpc_close",
    "proxy_on_grpc_receive",
    "proxy_on_memory_allocate",
    "proxy_on_new_connection",
    "proxy_on_request_headers",
    "proxy_on_response_body",
    "proxy_on_response_headers",
    "proxy_on_response_trailers",
    "proxy_on_vm_start",
}
# Exports that the linker adds; hosts ignore them.
LINKER_EXPORTS = {"__data_end", "__heap_base"}

IMPORT_SECTION, EXPORT_SECTION = 2, 7


class Cursor:
    """Reads the WebAssembly binary format."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def number(self) -> int:
        number = shift = 0
        while (byte := self.byte()) >= 0x80:
            number |= (byte & 0x7F) << shift
            shift += 7
        return number | byte << shift

    def bytes(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]

    def name(self) -> str:
        return self.bytes(self.number()).decode()


def sections(module: bytes) -> dict[int, Cursor]:
    cursor = Cursor(module)
    if cursor.bytes(8) != b"\0asm\x01\0\0\0":
        sys.exit("error: not a WebAssembly module")
    found = {}
    while cursor.at < len(module):
        kind = cursor.byte()
        found[kind] = Cursor(cursor.bytes(cursor.number()))
    return found


def imports(section: Cursor) -> set[tuple[str, str]]:
    found = set()
    for _ in range(section.number()):
        found.add((section.name(), section.name()))
        if section.byte() != 0:
            sys.exit("error: the module imports something that is not a function")
        section.number()
    return found


def exports(section: Cursor) -> set[str]:
    found = set()
    for _ in range(section.number()):
        found.add(section.name())
        section.byte()
        section.number()
    return found


def main() -> None:
    most = MAX_BYTES_NOT_OPTIMIZED if "--not-optimized" in sys.argv[1:] else MAX_BYTES
    module = pathlib.Path(sys.argv[-1]).read_bytes()
    found = sections(module)
    allowed = {(space, name) for space, names in IMPORTS.items() for name in names}
    imported = imports(found[IMPORT_SECTION])
    exported = exports(found[EXPORT_SECTION])
    problems = [
        *(f"imports {'.'.join(name)}" for name in sorted(imported - allowed)),
        *(f"lacks the export {name}" for name in sorted(EXPORTS - exported)),
        *(f"exports {name}" for name in sorted(exported - EXPORTS - LINKER_EXPORTS)),
    ]
    if len(module) > most:
        problems.append(f"has {len(module)} bytes, more than {most}")
    if problems:
        sys.exit("error: the module " + "; ".join(problems))
    print(f"tidegate_proxy.wasm: {len(module)} bytes")


if __name__ == "__main__":
    main()
