"""Parts of the matrices that most verbs never look into: they stay bytes until somebody does."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar, overload

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


class _Bytes:
    """What one of the two is made of; only the bytes are ever written again."""

    def __init__(self, value: Any) -> None:
        self._data = pickle.dumps(value)

    @cached_property
    def _value(self) -> Any:
        return pickle.loads(self._data)  # noqa: S301  # part of a document that is read in the same way, by its owner

    def __getstate__(self) -> dict[str, Any]:
        return {"_data": self._data}


class LaterTuple(_Bytes, Sequence[T]):
    """A tuple that is built at the first look."""

    @overload
    def __getitem__(self, place: int) -> T: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[T, ...]: ...

    def __getitem__(self, place: int | slice) -> T | tuple[T, ...]:
        found: T | tuple[T, ...] = self._value[place]
        return found

    def __iter__(self) -> Iterator[T]:
        return iter(self._value)

    def __len__(self) -> int:
        return len(self._value)


class LaterDict(_Bytes, Mapping[K, V]):
    """A mapping that is built at the first look."""

    def __getitem__(self, key: K) -> V:
        found: V = self._value[key]
        return found

    def __iter__(self) -> Iterator[K]:
        return iter(self._value)

    def __len__(self) -> int:
        return len(self._value)
