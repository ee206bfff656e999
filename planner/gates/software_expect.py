"""What software checks must answer, computed from the run's nonce alone. Pure, and standard library only.

Nothing here is shared with the probe: a mistake in one of the two shows as a difference.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Sequence
from functools import lru_cache
from operator import mul
from typing import Any

from .expect import data_of

N = 64                      # rows and columns of the matrices
WORDS = 256                 # of what a compiled kernel writes
ROUND_TRIP_BYTES = 256
FFT_POINTS = 1024
IMAGE, FILTER = 8, 3
_M32 = 0xFFFFFFFF


class Numbers:
    """The run's numbers for one subject of one check.

    Args:
        nonce: Of the run.
        host: As asked.
        check: Its name.
        subject: The path or name that the probe gave it.
    """

    def __init__(self, nonce: str, host: str, check: str, subject: str) -> None:
        self._nonce, self._label = nonce, f"{host}:software:{check}:{subject}"

    def data(self, purpose: str, size_bytes: int) -> bytes:
        """Return bytes for one purpose."""
        return data_of(self._nonce, self._label, purpose, size_bytes)

    def small(self, purpose: str, count: int) -> list[int]:
        """Return integers from -8 to 7."""
        return [(byte & 15) - 8 for byte in self.data(purpose, count)]

    def kernel_output(self, purpose: str) -> str:
        """Return what the compiled kernel writes, in base64."""
        a, b, c = (word | 1 for word in struct.unpack(">3I", self.data(purpose, 12)))
        words = []
        for i in range(WORDS):
            x = i * a + b & _M32
            x = (x ^ x >> 13) * c & _M32
            words.append(x ^ x >> 16)
        return base64.b64encode(struct.pack(f"<{WORDS}I", *words)).decode("ascii")

    def round_trip(self) -> str:
        """Return the bytes that a runtime carries to the GPU and back, in base64."""
        return base64.b64encode(self.data("round trip", ROUND_TRIP_BYTES)).decode("ascii")

    def product_by_rows(self) -> str:
        """Return the digest of a times b, matrices stored by rows."""
        return _product(tuple(self.small("a", N * N)), tuple(self.small("b", N * N)))

    def product_by_columns(self) -> str:
        """Return the digest of a times b, matrices stored by columns: by rows that is b times a."""
        return _product(tuple(self.small("b", N * N)), tuple(self.small("a", N * N)))

    def spectrum(self) -> str:
        """Return the digest of the transform of an impulse at the first point: its height everywhere, no phase."""
        return _digest([self.data("height", 1)[0] + 1, 0] * FFT_POINTS)

    def convolution(self) -> str:
        """Return the digest of the picture's correlation with the small kernel, without padding."""
        x, w, edge = self.small("x", IMAGE ** 2), self.small("w", FILTER ** 2), IMAGE - FILTER + 1
        places = [(i, j) for i in range(FILTER) for j in range(FILTER)]
        return _digest([sum(x[(row + i) * IMAGE + column + j] * w[i * FILTER + j] for i, j in places)
                        for row in range(edge) for column in range(edge)])

    def sum_of_pictures(self) -> str:
        """Return the digest of x plus y."""
        return _digest([x + y for x, y in zip(self.small("x", IMAGE ** 2), self.small("y", IMAGE ** 2), strict=True)])


@lru_cache(maxsize=64)
def _product(a: tuple[int, ...], b: tuple[int, ...]) -> str:
    columns = [b[j::N] for j in range(N)]
    rows = [a[i * N:(i + 1) * N] for i in range(N)]
    return _digest([sum(map(mul, row, column)) for row in rows for column in columns])


def _digest(values: Sequence[int]) -> str:
    return hashlib.sha256(struct.pack(f"<{len(values)}i", *values)).hexdigest()


def version_key(value: Any) -> tuple[int, ...] | None:
    """Return a version call's answer (a number, or its parts) as something to compare, or None where it is neither."""
    parts = value if isinstance(value, (list, tuple)) else (value,)
    numbers = tuple(part for part in parts if isinstance(part, int) and not isinstance(part, bool))
    return numbers if numbers and len(numbers) == len(parts) and numbers[0] > 0 else None
