"""Stand-ins for several GPUs of one node and for NCCL, in pure Python: peers, copies between them, all-reduces.

Built on ``standin_driver``; every device says "(stand-in)" in its name. Times mean nothing.
"""

# ruff: noqa: N802 - the calls have the driver's names

from __future__ import annotations

import ctypes
from typing import Any

from planner.probe.cuda import CudaError
from planner.probe.nccl import NcclError
from tests.gates.standin_driver import SIGNATURES, P, StandInDriver, words


class StandInNode(StandInDriver):
    """Plays the driver of a node with several GPUs.

    Args:
        gpus: How many.
        apart: (reader, owner) that the driver offers no direct access for.
        refuse_access: (reader, owner) -> error code of opening it, although offered.
        spoil: (source, target, "copy" or "read") -> word of the target in which one bit arrives wrong.
        lazy: Ways that move nothing and say success.
        broken: Ordinals that give no context.
        **more: See ``StandInDriver``.
    """

    def __init__(self, gpus: int = 2, apart: set[tuple[int, int]] | None = None,
                 refuse_access: dict[tuple[int, int], int] | None = None,
                 spoil: dict[tuple[int, int, str], int] | None = None, lazy: tuple[str, ...] = (),
                 broken: tuple[int, ...] = (), **more: Any) -> None:
        super().__init__(**more)
        self.gpus, self.apart, self.refuse_access = gpus, apart or set(), refuse_access or {}
        self.spoil, self.lazy, self.broken = spoil or {}, lazy, broken
        self.current = -1
        self.owners: dict[int, int] = {}        # address -> ordinal
        self.opened: set[tuple[int, int]] = set()
        self.streams = 0

    @staticmethod
    def uuid(ordinal: int) -> str:
        """The UUID of a GPU that is played."""
        return f"GPU-000000{ordinal:02x}-0000-0000-0000-000000000000"

    def _cuDeviceGet(self, device: Any, number: int) -> None:
        if number >= self.gpus or number in self.broken:
            raise CudaError("cuDeviceGet failed with 101 (stand-in)", 101)
        device._obj.value = number

    def _cuDeviceGetUuid(self, raw: Any, device: Any) -> None:
        raw[:] = bytes((0, 0, 0, device.value, *([0] * 12)))

    def _cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> None:
        super()._cuDevicePrimaryCtxRetain(context, device)
        context._obj.value = 100 + device.value

    def _cuCtxSetCurrent(self, context: Any) -> None:
        self.current = context.value - 100

    def _cuDeviceCanAccessPeer(self, may: Any, reader: Any, owner: Any) -> None:
        may._obj.value = int(reader.value != owner.value and (reader.value, owner.value) not in self.apart)

    def _cuCtxEnablePeerAccess(self, context: Any, flags: Any) -> None:
        pair = (self.current, context.value - 100)
        code = self.refuse_access.get(pair, 217 if pair in self.apart else 704 if pair in self.opened else 0)
        if code:
            raise CudaError(f"cuCtxEnablePeerAccess failed with {code} (stand-in)", code)
        self.opened.add(pair)

    def _cuMemAlloc_v2(self, address: Any, size: Any) -> None:
        super()._cuMemAlloc_v2(address, size)
        self.owners[address._obj.value] = self.current

    def _cuMemFree_v2(self, address: Any) -> None:
        assert self.owners.pop(address.value) == self.current, "freed in another context"
        super()._cuMemFree_v2(address)

    def _cuMemcpyPeerAsync(self, to: Any, to_context: Any, source: Any, source_context: Any, size: Any, stream: Any
                           ) -> None:
        assert self.owners[to.value] == to_context.value - 100
        assert self.owners[source.value] == source_context.value - 100
        if "copy" not in self.lazy:
            ctypes.memmove(to.value, source.value, size.value)
        self._spoil(source.value, to.value, "copy")

    def _spoil(self, source: int, target: int, way: str) -> None:
        place = self.spoil.get((self.owners[source], self.owners[target], way))
        if place is not None:
            words(target, place + 1)[place] ^= 1 << 3

    def _cuLaunchKernel(self, function: Any, blocks: int, *rest: Any) -> None:
        name, parameters = self.functions[function.value], rest[7]
        addresses = [kind.from_address(parameters[n]).value for n, kind in enumerate(SIGNATURES[name]) if kind is P]
        for owner in (self.owners[at] for at in addresses if at in self.owners):
            if owner != self.current and (self.current, owner) not in self.opened:
                raise CudaError("cuLaunchKernel failed with 700 (stand-in)", 700)
        if name == "planner_copy" and "read" in self.lazy:
            return
        super()._cuLaunchKernel(function, blocks, *rest)
        if name == "planner_copy":
            self._spoil(addresses[1], addresses[0], "read")

    def _cuStreamCreate(self, stream: Any, flags: Any) -> None:
        self.streams += 1
        stream._obj.value = 500 + self.current

    def _cuStreamDestroy_v2(self, stream: Any) -> None:
        assert stream.value == 500 + self.current
        self.streams -= 1

    def _cuEventQuery(self, event: Any) -> None:
        pass


class StandInNccl:
    """Plays ``planner.probe.nccl.Nccl``: the sums are right, unless ``spoil`` names (bytes, rank).

    Args:
        fail: Call -> result code that it answers.
        others: Words of ranks that live in other processes: bytes -> list of 32-bit words to add.
        late: Result code of the communicator after the first all-reduce.
    """

    def __init__(self, spoil: tuple[int, int] | None = None, fail: dict[str, int] | None = None,
                 others: dict[int, list[int]] | None = None, late: int = 0) -> None:
        self.spoil, self.fail, self.others, self.late = spoil, fail or {}, others or {}, late
        self.calls: list[str] = []
        self.comms: dict[int, int] = {}     # handle -> rank
        self.queue: list[tuple[Any, ...]] = []
        self.unique = b""

    def version(self) -> str:
        """As NCCL says it."""
        return "2.99.1"

    def loaded(self) -> list[str]:
        """Nothing is mapped."""
        return []

    def check(self, comm: Any) -> None:
        """Raise what happened meanwhile."""
        if self.late:
            raise NcclError(f"the communicator failed with {self.late} (stand-in)", self.late)

    def call(self, name: str, *arguments: Any) -> None:
        """Play one call."""
        self.calls.append(name)
        if name in self.fail:
            raise NcclError(f"{name} failed with {self.fail[name]} (stand-in)", self.fail[name])
        if name == "ncclCommInitAll":
            comms, count, _ = arguments
            for rank in range(count):
                comms[rank] = 900 + rank
                self.comms[900 + rank] = rank
        elif name == "ncclGetUniqueId":
            arguments[0]._obj.internal = b"stand-in"
        elif name == "ncclCommInitRank":
            comm, _, unique, rank = arguments
            comm._obj.value, self.unique = 900 + rank, bytes(unique)
            self.comms[900 + rank] = rank
        elif name == "ncclAllReduce":
            self.queue.append(arguments)
        elif name == "ncclGroupEnd" and self.queue:
            self._reduce()
        elif name in ("ncclCommDestroy", "ncclCommAbort"):
            self.comms.pop(arguments[0].value)

    def _reduce(self) -> None:
        count = self.queue[0][2].value
        total = list(self.others.get(4 * count, [0] * count))
        for send, *_ in self.queue:
            total = [a + b & 0xFFFFFFFF for a, b in zip(total, words(send.value, count), strict=True)]
        for _, receive, _, _, _, comm, _ in self.queue:
            target = words(receive.value, count)
            target[:] = total
            if self.spoil == (4 * count, self.comms[comm.value]):
                target[count - 1] ^= 1
        self.queue = []
