"""Small instances of the synthetic benchmark, and what is true of them by the plainest code: dictionaries and a heap.

Nothing here is shared with the search or with the benchmark's adapter, so that a mistake there cannot hide itself here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from heapq import heappop, heappush
from itertools import combinations, count, product
from typing import Any

Instance = dict[str, Any]
State = dict[str, frozenset[str]]
Key = tuple[tuple[str, ...], ...]
Cost = tuple[int, ...]
Step = dict[str, dict[str, list[str]]]

COST = {"reboot": 0, "drain": 1, "minutes": 10, "risk": 0}
WHOLE = (0, 0, 0)      # the only cohort


def kind(versions: int | Sequence[str], *, several: bool = False, least: int = 0, most: int | None = None,
         down: bool = False, hop: int | None = None, **cost: int) -> dict[str, Any]:
    """Return one kind of component; versions are ``"0"`` to the oldest-first last one."""
    named = [str(v) for v in range(versions)] if isinstance(versions, int) else list(versions)
    return {"mode": "set" if several else "single", "versions": named, "min": least if several else 1,
            "max": (len(named) if most is None else most) if several else 1, "moves": {"down": down, "max_hop": hop},
            "cost": {**COST, **cost}}


def rule(name: str, if_: Mapping[str, str], then: Mapping[str, str] | None = None, arch: Sequence[str] = ()
         ) -> dict[str, Any]:
    """Return one rule; versions are written as words: ``"3 4"``."""
    made = {"id": name, "if": {k: v.split() for k, v in if_.items()},
            "then": {k: v.split() for k, v in (then or {}).items()}, "why": name}
    return {**made, "arch": list(arch)} if arch else made


def instance(kinds: Mapping[str, Any], rules: Sequence[Any], start: Mapping[str, str], goal: Mapping[str, Any],
             bundles: Sequence[Sequence[str]] = (), archs: Sequence[str] = ("a",)) -> Instance:
    """Return an instance with one node; a goal that is text means "one of these versions"."""
    target = {k: {"in": g.split()} if isinstance(g, str) else g for k, g in goal.items()}
    return {"format": "fleet-bench/1", "name": "small", "seed": 0, "family": "test", "kinds": dict(kinds),
            "bundles": [list(b) for b in bundles], "rules": list(rules), "targets": [target],
            "states": [{k: v.split() for k, v in start.items()}], "archs": list(archs),
            "nodes": {"state": [0], "arch": [0], "target": [0], "pool": [0], "fd": [0], "comm": [-1], "nvl": [-1]},
            "pools": [], "policy": {}}


class Truth:
    """What holds of one cohort, all constraints counting or some of them."""

    def __init__(self, made: Instance, kept: frozenset[str] | None = None, arch: int = 0) -> None:
        self._made = made
        self._kept = kept
        self._arch = made["archs"][arch]
        self.names = list(made["kinds"])
        self.start = self._key({k: frozenset(v) for k, v in made["states"][0].items()})
        self._order = {k: {v: i for i, v in enumerate(d["versions"])} for k, d in made["kinds"].items()}

    def _counts(self, name: str) -> bool:
        return self._kept is None or name in self._kept

    def _key(self, state: State) -> Key:
        return tuple(tuple(sorted(state[k])) for k in self.names)

    def _state(self, key: Key) -> State:
        return {k: frozenset(v) for k, v in zip(self.names, key, strict=True)}

    def allowed(self, key: Key) -> bool:
        """Tell whether a state breaks no rule and every kind has as many versions as it may have."""
        state = self._state(key)
        for one in self._made["rules"]:
            if not self._counts(f"rule:{one['id']}") or self._arch not in one.get("arch", [self._arch]):
                continue
            met = all(state[k] & set(vs) for k, vs in one["if"].items())
            if met and not any(state[k] & set(vs) for k, vs in one["then"].items()):
                return False
        for k, data in self._made["kinds"].items():
            limited = data["mode"] == "single" or self._counts(f"cap:{k}")
            if limited and not data["min"] <= len(state[k]) <= data["max"]:
                return False
        return True

    def ends(self, key: Key) -> bool:
        """Tell whether a state meets every goal that counts."""
        state = self._state(key)
        for k, goal in self._made["targets"][0].items():
            if not self._counts(f"goal:{k}"):
                continue
            if not state[k] <= set(goal.get("in", state[k])) or not set(goal.get("has", ())) <= state[k] \
                    or state[k] & set(goal.get("not", ())):
                return False
        return True

    def _singles(self, name: str, state: State) -> Iterator[str]:
        data, order = self._made["kinds"][name], self._order[name]
        (old,) = state[name]
        for new in data["versions"]:
            far = order[new] - order[old]
            limited = self._counts(f"moves:{name}")
            if far and not (limited and ((far < 0 and not data["moves"]["down"])
                                         or abs(far) > (data["moves"]["max_hop"] or len(order)))):
                yield new

    def _changes(self, state: State) -> Iterator[dict[str, frozenset[str]]]:
        single = [k for k, d in self._made["kinds"].items() if d["mode"] == "single"]
        parts = {tuple(sorted(part)) for b in (*self._made["bundles"], *([k] for k in single))
                 for size in range(1, len(b) + 1) for part in combinations(sorted(b), size)}
        for part in sorted(parts):
            for chosen in product(*(list(self._singles(k, state)) for k in part)):
                yield {k: frozenset({v}) for k, v in zip(part, chosen, strict=True)}
        for k, data in self._made["kinds"].items():
            if data["mode"] == "set":
                yield from ({k: state[k] ^ {v}} for v in data["versions"])

    def _price(self, state: State, changes: Mapping[str, frozenset[str]]) -> Cost:
        reboot = drain = minutes = risk = 0
        for k, new in changes.items():
            cost, removal = self._made["kinds"][k]["cost"], new < state[k]
            minutes += cost.get("remove_minutes", cost["minutes"]) if removal else cost["minutes"]
            risk += cost["risk"]
            reboot, drain = max(reboot, 0 if removal else cost["reboot"]), max(drain, 0 if removal else cost["drain"])
        return (reboot, drain, 1, minutes, risk)

    def steps(self, key: Key) -> Iterator[tuple[Key, Cost]]:
        """Yield every legal step into an allowed state."""
        state = self._state(key)
        for changes in self._changes(state):
            after = self._key({**state, **changes})
            if self.allowed(after):
                yield after, self._price(state, changes)

    def optimum(self) -> Cost | None:
        """Return the least cost of a path, or None when there is none (Dijkstra over whole states)."""
        if not self.allowed(self.start):
            return None
        tie, done = count(), set()
        queue: list[tuple[Cost, int, Key]] = [((0,) * 5, 0, self.start)]
        while queue:
            cost, _, key = heappop(queue)
            if key in done:
                continue
            done.add(key)
            if self.ends(key):
                return cost
            for after, own in self.steps(key):
                heappush(queue, (tuple(map(sum, zip(cost, own, strict=True))), next(tie), after))
        return None

    def replay(self, steps: Sequence[Step]) -> tuple[Cost, list[Key]]:
        """Return what steps of an answer cost in all, and the states they run through; every one must be legal."""
        key, total, seen = self.start, (0,) * 5, [self.start]
        for step in steps:
            state = self._state(key)
            for k in {*step["add"], *step["remove"]}:
                assert set(step["remove"].get(k, ())) <= state[k], "removes what is not there"
                assert not set(step["add"].get(k, ())) & state[k], "adds what is there"
                state[k] = state[k] - set(step["remove"].get(k, ())) | set(step["add"].get(k, ()))
            after = self._key(state)
            own = [cost for reached, cost in self.steps(key) if reached == after]
            assert own, f"no legal step leads from {key} to {after}"
            key, total = after, tuple(map(sum, zip(total, min(own), strict=True)))
            seen.append(key)
        return total, seen


def all_constraints(made: Instance) -> list[str]:
    """Return the names of everything that may be blamed, in no particular order."""
    return [f"{'cap' if d['mode'] == 'set' else 'moves'}:{k}" for k, d in made["kinds"].items()] + [
        f"rule:{r['id']}" for r in made["rules"]] + [f"goal:{k}" for k in made["targets"][0]]


def is_minimal_conflict(made: Instance, conflict: Sequence[str], arch: int = 0) -> bool:
    """Tell whether some constraints leave no path by themselves, and any one fewer leaves one."""
    return Truth(made, frozenset(conflict), arch).optimum() is None and all(
        Truth(made, frozenset(conflict) - {one}, arch).optimum() is not None for one in conflict)
