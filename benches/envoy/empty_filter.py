"""A proxy-wasm filter that does nothing, as the bytes of a WebAssembly module: what a filter costs at least.

It has the callbacks without which Envoy does not load a module, and the one for a request's headers.
"""

from __future__ import annotations

I32, FUNCTION = 0x7F, 0x60
# Callbacks by name: how many numbers they take, and the number that they return, if any.
CALLBACKS: list[tuple[str, int, int | None]] = [
    ("_initialize", 0, None),
    ("proxy_abi_version_0_2_1", 0, None),
    ("proxy_on_context_create", 2, None),
    ("proxy_on_vm_start", 2, 1),
    ("proxy_on_configure", 2, 1),
    # Envoy writes its bytes at the start of the one page of memory.
    ("proxy_on_memory_allocate", 1, 1024),
    # 0 is "continue".
    ("proxy_on_request_headers", 3, 0),
    ("proxy_on_done", 1, 1),
]


def module() -> bytes:
    """The module in WebAssembly's binary format."""
    types = [bytes([FUNCTION, *vector([b"\x7f"] * takes), *result(gives)]) for _, takes, gives in CALLBACKS]
    bodies = [body(gives) for _, _, gives in CALLBACKS]
    exports = [name("memory") + b"\x02\x00"]
    exports += [name(each) + b"\x00" + number(at) for at, (each, _, _) in enumerate(CALLBACKS)]
    return b"\0asm\x01\0\0\0" + b"".join(
        [
            section(1, vector(types)),
            section(3, vector([number(at) for at in range(len(CALLBACKS))])),
            section(5, vector([b"\x00\x01"])),
            section(7, vector(exports)),
            section(10, vector(bodies)),
        ]
    )


def body(gives: int | None) -> bytes:
    # No locals; `i32.const gives`; `end`.
    code = b"\x00" + (b"" if gives is None else b"\x41" + signed(gives)) + b"\x0b"
    return number(len(code)) + code


def result(gives: int | None) -> bytes:
    return vector([] if gives is None else [bytes([I32])])


def section(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + number(len(content)) + content


def vector(items: list[bytes]) -> bytes:
    return number(len(items)) + b"".join(items)


def name(text: str) -> bytes:
    return number(len(text)) + text.encode()


def number(value: int) -> bytes:
    """An unsigned number in LEB128."""
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + number(rest) if rest else bytes([low])


def signed(value: int) -> bytes:
    """A number of at least 0 in signed LEB128, whose last byte has no sign bit."""
    low, rest = value & 0x7F, value >> 7
    return bytes([low]) if not rest and not low & 0x40 else bytes([low | 0x80]) + signed(rest)
