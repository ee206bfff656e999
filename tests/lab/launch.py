"""Runs on a lab node: launches one kernel through libcuda and counts wrong elements. Standard library only."""

import ctypes
import json
import sys

MASK = 0xFFFFFFFF
SEED, COUNT, ROUNDS = 0xC0FFEE, 256, 8
PTX = b"// test\n.version 7.0\n.target sm_70\n.address_size 64\n.visible .entry %s() { ret; }\n\0"


def expected(i: int) -> int:
    """Return one element."""
    x = SEED ^ (i * 0x9E3779B9 & MASK)
    for _ in range(ROUNDS):
        x ^= x << 13 & MASK
        x ^= x >> 17
        x ^= x << 5 & MASK
        x = (x * 0x85EBCA6B + 0xC2B2AE35) & MASK
    return x


def main(entry: str) -> None:
    """Print ``{"init", "launch", "wrong"}``."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        print(json.dumps({"init": -1}))
        return
    code = cuda.cuInit(0)
    if code:
        print(json.dumps({"init": code}))
        return
    device, context, module, function = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    out, seed = ctypes.c_uint64(), ctypes.c_uint32(SEED)
    count, rounds = ctypes.c_uint32(COUNT), ctypes.c_uint32(ROUNDS)
    for failed in (
        cuda.cuDeviceGet(ctypes.byref(device), 0), cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device),
        cuda.cuCtxSetCurrent(context), cuda.cuModuleLoadData(ctypes.byref(module), PTX % entry.encode()),
        cuda.cuModuleGetFunction(ctypes.byref(function), module, entry.encode()),
        cuda.cuMemAlloc_v2(ctypes.byref(out), COUNT * 4),
    ):
        assert failed == 0, failed
    parameters = (ctypes.c_void_p * 4)(*[ctypes.addressof(p) for p in (out, seed, count, rounds)])
    launched = cuda.cuLaunchKernel(function, 2, 1, 1, 128, 1, 1, 0, None, parameters, None)
    assert cuda.cuCtxSynchronize() == 0
    result = (ctypes.c_uint32 * COUNT)()
    assert cuda.cuMemcpyDtoH_v2(result, out, COUNT * 4) == 0
    wrong = sum(result[i] != expected(i) for i in range(COUNT))
    print(json.dumps({"init": 0, "launch": launched, "wrong": wrong}))


main(sys.argv[1])
