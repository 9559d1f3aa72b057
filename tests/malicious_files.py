"""Archives that claim or contain what no recording does, each with a part of its refusal."""

import io
import zipfile

import numpy as np


def header(shape: tuple[int, ...]) -> bytes:
    """An array of 8 bytes that claims a shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<i8", "fortran_order": False, "shape": shape})
    return file.getvalue() + bytes(8)


def archive(path, name: str, content: bytes, compression: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr(name, content)


def encrypted(path) -> None:
    archive(path, "meta.npy", header(()), zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    path.write_bytes(data)


def of_an_unknown_compression(path) -> None:
    archive(path, "meta.npy", header(()))
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        data[data.index(signature) + offset] = 99
    path.write_bytes(data)


def bomb(path) -> None:
    """3 MB that expand to 3 GB, written as the archive's directory would say it."""
    archive(path, "meta.npy", header(()))
    data = bytearray(path.read_bytes())
    start = data.index(b"PK\x01\x02") + 24
    data[start : start + 4] = (3 * 10**9).to_bytes(4, "little")
    path.write_bytes(data)


MALICIOUS = {
    "encrypted": (encrypted, "encrypted"),
    "unknown compression": (of_an_unknown_compression, "compression"),
    "huge": (lambda path: archive(path, "a.npy", header((2**40, 2**20))), "which 136 bytes cannot hold"),
    "bomb": (bomb, "1 arrays of 3,000,000,000 bytes; expected at most 100 of 1,073,741,824"),
    "deep": (lambda path: np.savez(path, meta=np.array("[" * 100_000)), "no valid meta"),
    "many": (lambda path: np.savez(path, **{f"a{i}": np.zeros(1) for i in range(101)}), "101 arrays"),
}
