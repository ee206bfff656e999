"""The closed forms of the expected results against the plain words that they sum up."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.gates import asked, expect
from planner.probe import kernels
from planner.probe.measure import Nonce
from tests.gates.standin_driver import M32, M64, word

WORDS = st.integers(0, M32)


@settings(max_examples=60, deadline=None)
@given(kind=st.integers(0, 3), seed=WORDS, mask=st.sampled_from([0, M32]), blocks=st.integers(1, 3))
def test_a_pattern_sums_up_to_its_words(kind: int, seed: int, mask: int, blocks: int) -> None:
    words = 4096 * blocks
    assert expect.pattern_sum(words, kind, seed, mask) == sum(word(i, kind, seed, mask) for i in range(words)) & M64


@settings(max_examples=60, deadline=None)
@given(kind=st.integers(0, 2), seed=WORDS, mask=st.sampled_from([0, M32]), words=st.integers(1, 500))
def test_patterns_without_blocks_sum_up_at_any_length(kind: int, seed: int, mask: int, words: int) -> None:
    assert expect.pattern_sum(words, kind, seed, mask) == sum(word(i, kind, seed, mask) for i in range(words)) & M64


@given(start=WORDS, count=st.integers(0, 400), modulus=st.integers(1, 90))
def test_consecutive_numbers_sum_up(start: int, count: int, modulus: int) -> None:
    assert expect.consecutive_sum(start, count, modulus) == sum((start + i) % modulus for i in range(count))


@given(first=st.lists(WORDS, min_size=1, max_size=9), blocks=st.integers(1, 30))
def test_blocks_sum_up(first: list[int], blocks: int) -> None:
    plain = [value + k for k in range(blocks) for value in first]
    assert expect.blockwise_sums(first, blocks) == [
        sum(plain) & M64, sum(value * (i + 1) for i, value in enumerate(plain)) & M64, len(plain)]


@settings(max_examples=10, deadline=None)
@given(seed=WORDS, blocks=st.integers(1, 4))
def test_the_digest_is_that_of_the_words(seed: int, blocks: int) -> None:
    words = [word(i, 3, seed, 0) for i in range(4096 * blocks)]
    wanted = hashlib.sha256(struct.pack(f"<{len(words)}I", *words)).hexdigest()
    assert expect.hash_digest(seed, len(words)) == wanted


@settings(max_examples=40, deadline=None)
@given(seed=WORDS, step=st.integers(1, 7), rounds=st.integers(0, 6), threads=st.integers(1, 200))
def test_the_chains_sum_up(seed: int, step: int, rounds: int, threads: int) -> None:
    starts = [((seed + i) % 2**32 + 4097 * j) % 65536 for i in range(threads) for j in range(16)]
    assert expect.fma_chains(seed, step, rounds, threads) == [sum(x + step * rounds for x in starts), threads]


@pytest.mark.parametrize("profile", sorted(kernels.SIZES))
def test_all_sizes_stay_where_results_are_exact(profile: str) -> None:
    """Floats hold integers below 2^24, words 31 bits of hash plus the block, and closed forms need whole blocks."""
    sizes = kernels.SIZES[profile]
    assert sizes["vector"]["words"] % expect.PERIOD == 0
    assert sizes["vector"]["words"] // expect.PERIOD <= 4096
    assert expect.FLOAT_EXACT > 4095 * 4095 + 4095
    assert 65535 + 7 * max(sizes["fma"]["rounds"], sizes["ratio"]["fma_rounds"]) < expect.FLOAT_EXACT
    assert 16 * 3 * 3 * max(sizes["wmma_f16"]["rounds"], sizes["ratio"]["rounds"]) < expect.FLOAT_EXACT
    assert 16 * 15 * 15 * sizes["wmma_s8"]["rounds"] < 2**31
    for name in ("memory", "device_copy", "host_copy"):
        assert sizes[name]["bytes"] % (4 * expect.PERIOD) == 0
        assert sizes[name]["bytes"] // 4 // expect.PERIOD < 2**31


def test_probe_and_controller_agree_on_what_is_not_shared() -> None:
    numbers = Nonce("ab", "n1:7")
    assert numbers.data("wmma_s8", 1280) == expect.data_of("ab", "n1:7", "wmma_s8", 1280)
    assert numbers.seed("vector") == expect.seed_of("ab", "n1:7", "vector")
    assert kernels.PATTERNS == expect.PATTERNS
    assert kernels.CHUNK_BYTES == 4 * expect.CHUNK_WORDS


@pytest.mark.parametrize("name", ["NVIDIA H200", "NVIDIA H200 (stand-in)", ""])
@pytest.mark.parametrize("profile", ["quick", "standard", "deep"])
def test_probe_and_controller_agree_on_the_work(profile: str, name: str) -> None:
    assert kernels.sizes_for(profile, name) == asked.sizes_asked(profile, name)
    assert set(asked.PROFILES) == {"quick", "standard", "deep"}


def test_stand_ins_are_asked_for_little_and_an_unknown_profile_for_nothing() -> None:
    assert asked.sizes_asked("deep", "X (stand-in)") == kernels.SIZES["stand-in"] != kernels.SIZES["quick"]
    for ask in (asked.sizes_asked, kernels.sizes_for):
        with pytest.raises(KeyError):
            ask("full", "X (stand-in)")


def test_every_purpose_and_run_has_its_own_numbers() -> None:
    seen = {expect.seed_of(nonce, label, purpose) for nonce in ("a", "b") for label in ("h:0", "h:1")
            for purpose in ("vector", "memory", "planted")}
    assert len(seen) == 12


@pytest.mark.parametrize("words", [pytest.param(r, id=str(r)) for r in (
    None, {}, {"name": "fma"}, {"name": "fma", "status": "ok"}, {"name": "nothing", "status": "ok", "parameters": {}},
    {"name": "fma", "status": "ok", "parameters": {}, "evidence": {}},
    {"name": "launch", "status": "ok", "parameters": {}, "evidence": None},
    {"name": "memory", "status": "ok", "parameters": {}, "evidence": {"checks": 5}})])  # fmt: skip
def test_a_result_without_evidence_is_wrong(words: dict[str, object] | None) -> None:
    assert expect.wrong(words or {}, {}, "ab", "n1:0")
