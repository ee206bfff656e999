"""Judges of copies between GPUs and of NCCL on one node: data exact, the same peers, transports and speed as before.

Pure, and standard library only. Evidence of ``planner.probe.pairs`` and ``planner.probe.collective`` is computed again
from the run's nonce; a report that cannot be read is ``GATE_BUG``, never a pass and never an exception.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from .asked import STAND_IN
from .expect import copy_sums, hash_table, seed_of
from .failures import WORST_FIRST
from .samples import compare_figure, cuda_code, guarded, numbers, refused
from .verdicts import GateResult

MIB = 1 << 20
PERIOD = 4096
PAIR_SIZES: dict[str, dict[str, int]] = {
    "quick": {"bytes": 32 * MIB, "samples": 5, "budget_ms": 4000},
    "standard": {"bytes": 128 * MIB, "samples": 7, "budget_ms": 10000},
    "deep": {"bytes": 256 * MIB, "samples": 15, "budget_ms": 30000},
    "stand-in": {"bytes": MIB // 16, "samples": 5, "budget_ms": 30000},
}
COLLECTIVE_SIZES: dict[str, dict[str, Any]] = {
    "quick": {"bytes": [8, 32 * MIB], "samples": 5},
    "standard": {"bytes": [8, 32 * MIB, 1024 * MIB], "samples": 9},
    "deep": {"bytes": [8, 32 * MIB, 1024 * MIB], "samples": 25},
    "stand-in": {"bytes": [8, MIB // 16], "samples": 5},
}
WAYS = ("copy", "read")
DIRECTIONS = ("_forth", "_back")        # from the first of both UUIDs as they are sorted, and to it
_M64 = (1 << 64) - 1


@lru_cache(maxsize=256)
def reduced_sums(seeds: tuple[int, ...], words: int) -> tuple[int, int, int]:
    """Return (sum, sum weighted by index + 1, words) of an all-reduce over hash patterns, 32-bit sums that wrap.

    Word i of a rank is its table's word i modulo 4096 plus i // 4096, so each column grows by the number of ranks from
    block to block, and is cut where it passes 2^32.
    """
    tables, ranks = [hash_table(seed) for seed in seeds], len(seeds)
    plain = heavy = 0
    for column in range(min(PERIOD, words)):
        first, count, k = sum(table[column] for table in tables), (words - column + PERIOD - 1) // PERIOD, 0
        while k < count:
            wraps = (first + ranks * k) >> 32
            end = min(count, -(-(((wraps + 1) << 32) - first) // ranks))
            base = first - (wraps << 32)
            k0 = end - k
            k1 = (end * (end - 1) - k * (k - 1)) // 2
            k2 = ((end - 1) * end * (2 * end - 1) - (k - 1) * k * (2 * k - 1)) // 6
            plain += base * k0 + ranks * k1
            heavy += (column + 1) * (base * k0 + ranks * k1) + PERIOD * (base * k1 + ranks * k2)
            k = end
    return plain & _M64, heavy & _M64, words


# --- pairs --------------------------------------------------------------------------------------------------------

def judge_pairs(report: Mapping[str, Any], request: Mapping[str, Any], before: Mapping[str, Any] | None
                ) -> list[GateResult]:
    """Judge ``report["pairs"]``; gates ``pairs``, ``pairs.matrix`` and ``pairs.bandwidth``; none of a quick report.

    Args:
        report: ``planner.gate/2`` of this run.
        request: What was asked: profile, nonce, host.
        before: The node's report from before the change.
    """
    host = str(request.get("host", ""))
    return guarded("pairs", host, lambda: list(_pairs(report, request, before, host)))


def _pairs(report: Mapping[str, Any], request: Mapping[str, Any], before: Mapping[str, Any] | None, host: str
           ) -> Iterator[GateResult]:
    seen = report.get("pairs")
    if not isinstance(seen, Mapping):
        yield from _absent("pairs", host, report, request)
        return
    if trouble := refused("pairs", host, seen, "GATE_TIMEOUT"):
        yield trouble
        return
    uuids = [str(gpu["uuid"]) for gpu in seen["gpus"] if "error" not in gpu]
    for gpu in seen["gpus"]:
        if "error" in gpu:
            yield GateResult("pairs", str(gpu["asked"]), cuda_code(gpu), (str(gpu["error"]),))
    if not uuids and seen["gpus"]:
        return
    asked, nonce = PAIR_SIZES[_profile(seen, request)], str(request.get("nonce", ""))
    if other := _other_run("pairs", seen, nonce, host, asked):
        yield other
        return
    was = before.get("pairs") if isinstance(before, Mapping) else None
    known = was if isinstance(was, Mapping) else None
    yield _matrix(seen, known, uuids, host)
    found = {(str(pair["from"]), str(pair["to"])): pair for pair in seen["pairs"]}
    old = {(str(pair["from"]), str(pair["to"])): pair for pair in known.get("pairs", ())} if known else {}
    for source in uuids:
        results = [_pair(found.get((source, target)), source, target, nonce, host, asked["bytes"])
                   for target in uuids if target != source]
        yield worst("pairs", source, results)
        yield worst("pairs.bandwidth", source, [
            compare_figure(f"{way} to {target}", "bandwidth", _gbps(old.get((source, target)), way),
                           _gbps(found.get((source, target)), way), 1e9)
            for target in uuids if target != source for way in WAYS
            if way in found.get((source, target), {}) or way in old.get((source, target), {})])


def _matrix(seen: Mapping[str, Any], was: Mapping[str, Any] | None, uuids: list[str], host: str) -> GateResult:
    now = _reachable(seen, uuids)
    words = [f"{pair['to']} may reach {pair['from']}, but opening it failed: {pair['access']}"
             for pair in seen["pairs"] if pair["access"] not in ("open", "not offered")]
    if was is None:
        return GateResult("pairs.matrix", host, "P2P_CHANGED" if words else "BASELINE_MISSING",
                          tuple(words or ["nobody knows which GPUs reached each other before"]))
    known = [str(gpu["uuid"]) for gpu in was["gpus"] if "uuid" in gpu]
    old = _reachable(was, known)
    both = set(known) & set(uuids)
    for verb, pairs in (("cannot", old - now), ("can now", now - old)):
        words += [f"{reader} {verb} reach {owner}" for reader, owner in sorted(pairs) if {reader, owner} <= both]
    return GateResult("pairs.matrix", host, "P2P_CHANGED" if words else "OK", tuple(words), passed_before=True)


def _reachable(seen: Mapping[str, Any], uuids: list[str]) -> set[tuple[str, str]]:
    rows = [[int(may) for may in row] for row in seen["matrix"]]
    if len(rows) != len(uuids) or any(len(row) != len(uuids) or set(row) - {0, 1} for row in rows):
        raise ValueError("the matrix of peers has another shape than the list of GPUs")
    return {(uuids[i], uuids[j]) for i, row in enumerate(rows) for j, may in enumerate(row) if may}


def _pair(pair: Mapping[str, Any] | None, source: str, target: str, nonce: str, host: str, size_bytes: int
          ) -> tuple[str, str]:
    """Return (code, sentence) of one ordered pair's data."""
    if pair is None:
        return "GATE_NO_RESULT", f"nothing about {source} to {target}"
    if pair["access"] == "open" and "read" not in pair:
        return "GATE_NO_RESULT", f"{target} may reach {source}, and did not try"
    for way in WAYS:
        if way not in pair:
            continue
        if pair[way]["status"] != "ok":
            return cuda_code(pair[way]), f"{way} to {target}: {pair[way].get('reason')}"
        wanted = copy_sums(seed_of(nonce, host, f"p2p {way} {source}>{target}"), size_bytes // 4)
        if pair[way]["sums"] != [wanted, wanted]:
            return "RESULT_WRONG", f"{way} to {target}: sums {pair[way]['sums']}, must be {wanted} twice"
    if "copy" not in pair:
        return "GATE_NO_RESULT", f"no copy from {source} to {target}"
    return "OK", ""


def _gbps(pair: Mapping[str, Any] | None, way: str) -> list[float] | None:
    if pair is None or pair.get("late") or not isinstance(pair.get(way), Mapping):
        return None
    return numbers(pair[way].get("gbps"))


# --- all-reduce on one node ---------------------------------------------------------------------------------------

def judge_collective(report: Mapping[str, Any], request: Mapping[str, Any], before: Mapping[str, Any] | None
                     ) -> list[GateResult]:
    """Judge ``report["collective"]``; gates ``collective``, ``collective.transports`` and ``collective.speed``."""
    host = str(request.get("host", ""))
    return guarded("collective", host, lambda: list(_collective(report, request, before, host)))


def _collective(report: Mapping[str, Any], request: Mapping[str, Any], before: Mapping[str, Any] | None, host: str
                ) -> Iterator[GateResult]:
    seen = report.get("collective")
    if not isinstance(seen, Mapping):
        yield from _absent("collective", host, report, request)
        return
    if seen.get("status") == "skip":
        yield GateResult("collective", host, "PART_MISSING", (str(seen.get("reason")),))
        return
    if trouble := refused("collective", host, seen, "NCCL_HANG"):
        yield trouble
        return
    nonce, asked = str(request.get("nonce", "")), COLLECTIVE_SIZES[_profile(seen, request)]
    uuids = [str(gpu["uuid"]) for gpu in seen["gpus"]]
    if other := _other_run("collective", seen, nonce, host, asked):
        yield other
        return
    if len(uuids) != seen["ranks"] or len(set(uuids)) != len(uuids):
        raise ValueError(f"{seen['ranks']} ranks on {len(uuids)} GPUs")
    wrong = wrong_sums(seen["sizes"], asked["bytes"], nonce, host, range(len(uuids)), len(uuids))
    version = f"NCCL {seen['nccl'].get('version')} ({seen['nccl'].get('library')})"
    yield GateResult("collective", host, "RESULT_WRONG" if wrong else "OK", (*wrong, version))
    was = before.get("collective") if isinstance(before, Mapping) else None
    if not isinstance(was, Mapping) or not isinstance(was.get("sizes"), list):
        yield GateResult("collective.speed", host, "BASELINE_MISSING", ("NCCL was not measured before",))
        return
    yield _transports(seen, was, host)
    yield speed("collective.speed", host, was["sizes"], seen["sizes"])


def wrong_sums(seen: Iterable[Mapping[str, Any]], sizes: Iterable[int], nonce: str, label: str, local: Iterable[int],
               ranks: int) -> list[str]:
    """Return what is wrong with the results of all-reduces: one sentence each; empty where all are exact.

    Args:
        seen: ``sizes`` of a report.
        sizes: What was asked, in bytes.
        nonce: The run's nonce.
        label: What entered the seeds: the host, or the run's common word.
        local: Ranks that this report must speak for.
        ranks: Ranks in all.
    """
    found, numbers_of = [], {result["bytes"]: result["results"] for result in seen}
    for size in sizes:
        results = {result["rank"]: result["sums"] for result in numbers_of.get(size, ())}
        wanted = list(reduced_sums(tuple(seed_of(nonce, label, f"nccl {size} {rank}") for rank in range(ranks)),
                                   size // 4))
        for rank in local:
            if rank not in results:
                found.append(f"{size} bytes, rank {rank}: no result")
            elif results[rank] != [wanted, wanted]:
                found.append(f"{size} bytes, rank {rank}: sums {results[rank]}, must be {wanted} twice")
    return found


def _transports(seen: Mapping[str, Any], was: Mapping[str, Any], host: str) -> GateResult:
    """Compare what NCCL's log says of its ways; a log that was not kept tells nothing."""
    now, old = (_ways(each.get("log")) for each in (seen, was))
    if not now or not old:
        return GateResult("collective.transports", host, "PART_MISSING", ("NCCL's log was not kept",))
    words = [f"{name} {old[name]} before, {now[name]} now" for name in sorted(now) if now[name] != old[name]]
    return GateResult("collective.transports", host, "P2P_CHANGED" if words else "OK", tuple(words),
                      passed_before=True)


def _ways(log: object) -> dict[str, str]:
    if not isinstance(log, Mapping) or "via" not in log:
        return {}
    families = sorted({str(way).split("/")[0] for way in log["via"]})
    return {"transports": " ".join(families) or "none", "network": str(log.get("network")),
            "NVLS": "in use" if log.get("nvls") else "not in use"}


def speed(gate: str, subject: str, before: Iterable[Mapping[str, Any]], after: Iterable[Mapping[str, Any]]
          ) -> GateResult:
    """Compare the speed of every size that both have: algorithm bandwidth, and for small ones the time."""
    old, now = ({result["bytes"]: result for result in each} for each in (before, after))
    found = []
    for size in sorted(old):
        key, kind, unit = ("gbps", "collective", 1e9) if "gbps" in old[size] else ("us", "latency", 1e-6)
        found.append(compare_figure(f"{size} bytes", kind, numbers(old[size].get(key)),
                                    numbers(now.get(size, {}).get(key)), unit))
    return worst(gate, subject, found)


# --- figures to compare with another time -------------------------------------------------------------------------

Taken = tuple[str, str, str, float, str, Any]      # name, class, SI unit, factor to it, which is better, samples


def pair_figures(seen: Mapping[str, Any]) -> dict[tuple[str, str], list[Taken]]:
    """Return both GPUs' UUIDs, sorted -> figures of the copies between them. A late pair was proved, not timed."""
    names = {str(gpu["uuid"]): str(gpu.get("asked") or gpu["uuid"]) for gpu in seen.get("gpus", ()) if "uuid" in gpu}
    found: dict[tuple[str, str], list[Taken]] = {}
    for pair in seen.get("pairs", ()):
        source, target = (names.get(str(pair[end]), str(pair[end])) for end in ("from", "to"))
        for way in WAYS:
            if not pair.get("late") and way in pair and pair[way].get("status") == "ok":
                found.setdefault((min(source, target), max(source, target)), []).append(
                    (f"peer_{way}{DIRECTIONS[source > target]}", "bandwidth", "B/s", 1e9, "higher",
                     pair[way].get("gbps")))
    return found


def all_reduce_figures(reports: Sequence[Iterable[Mapping[str, Any]]], *, played: bool, apart: bool) -> list[Taken]:
    """Return a figure for each size that all reports have: of every sample the slowest rank's.

    Args:
        reports: ``sizes`` of each process.
        played: On stand-ins, whose times are the processor's: only bandwidth is a figure.
        apart: Ranks in processes of their own begin a small all-reduce less evenly: two of them on one node told 14 to
            29 µs in one measurement, where one process for both told 16 to 22.
    """
    by_size = [{int(result["bytes"]): result for result in sizes} for sizes in reports]
    found: list[Taken] = []
    for size in sorted(set(by_size[0]).intersection(*by_size[1:])):
        large = all("gbps" in sizes[size] for sizes in by_size)
        rows = [numbers(sizes[size].get("gbps" if large else "us")) for sizes in by_size]
        known = [row for row in rows if row is not None]
        if len(known) < len(rows) or (played and not large):
            continue
        name, samples = f"all_reduce_{_size(size)}", zip(*known, strict=False)
        if large:
            found.append((name, "collective", "B/s", 1e9, "higher", [min(each) for each in samples]))
        else:
            kind = "latency-async" if apart else "latency"
            found.append((name, kind, "s", 1e-6, "lower", [max(each) for each in samples]))
    return found


def _size(size_bytes: int) -> str:
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size_bytes >> shift and not size_bytes % (1 << shift):
            return f"{size_bytes >> shift}_{unit}"
    return f"{size_bytes}_B"


# --- shared -------------------------------------------------------------------------------------------------------

def worst(gate: str, subject: str, found: list[tuple[str, str]]) -> GateResult:
    """Fold (code, sentence) into one answer: the worst code, and every sentence that is no pass, the worst first."""
    if not found:
        return GateResult(gate, subject, "PART_MISSING", ("there is no other GPU, or no figure",))
    rank = {verdict: place for place, verdict in enumerate(WORST_FIRST)}
    results = [GateResult(gate, subject, code, (words,)) for code, words in found]
    ordered = sorted(results, key=lambda result: (rank[result.verdict], result.code))
    words = tuple(result.evidence[0] for result in ordered if result.code != "OK" and result.evidence[0])
    return GateResult(gate, subject, ordered[0].code, words, passed_before=True if "." in gate else None)


def _profile(seen: Mapping[str, Any], request: Mapping[str, Any]) -> str:
    """Return whose sizes were asked: a GPU that calls itself a stand-in proves only a stand-in."""
    played = any(STAND_IN in str(gpu.get("name", "")) for gpu in seen["gpus"])
    return "stand-in" if played else str(request.get("profile", "quick"))


def _absent(gate: str, host: str, report: Mapping[str, Any], request: Mapping[str, Any]) -> Iterator[GateResult]:
    """Nothing is there: right where the profile has no such part or too few GPUs could be used."""
    if request.get("profile", "quick") == "quick":
        return
    free = [gpu for gpu in report.get("gpus", ()) if not {"error", "busy", "unsuited"} & set(gpu)]
    if len(free) < 2:
        yield GateResult(gate, host, "PART_MISSING", (f"{len(free)} GPUs could be used, two are needed",))
    else:
        yield GateResult(gate, host, "GATE_NO_RESULT", (f"the report has no {gate}",))


def _other_run(gate: str, seen: Mapping[str, Any], nonce: str, host: str, asked: Mapping[str, Any]
               ) -> GateResult | None:
    for what, have, want, code in (("nonce", seen.get("nonce"), nonce, "REPORT_FOREIGN"),
                                   ("host", seen.get("host"), host, "REPORT_FOREIGN"),
                                   ("sizes", seen.get("parameters"), dict(asked), "GATE_BUG")):
        if have != want:
            return GateResult(gate, host, code, (f"{what} {have!r}, asked {want!r}",))
    return None
