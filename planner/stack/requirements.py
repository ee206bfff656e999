"""What an image asks of the host: ``NVIDIA_REQUIRE_*``, read and judged as the container runtime's hook does it.

Inside one variable a blank means OR and a comma means AND; several variables are ANDed. A bare ``cuda>=13.0`` in front
is therefore one alternative among others, not a minimum.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from planner.model.version import version_key

PREFIX = "NVIDIA_REQUIRE_"
DISABLE = "NVIDIA_DISABLE_REQUIRE"
LEGACY_VERSION = "CUDA_VERSION"
_IGNORED_PREFIX = PREFIX + "JETPACK"
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})        # what Go's ParseBool takes for true
_NUMERIC = frozenset({"cuda", "driver", "arch"})
_PROPERTIES = _NUMERIC | {"brand"}
_FACTOR = re.compile(r"([^<>=!]*)(!=|<=|>=|=|<|>)(.*)", re.DOTALL)
_VERSION = re.compile(r"v?\d+(?:\.\d+)*")
_PAIR = re.compile(r"\d+\.\d+")


@dataclass(frozen=True, slots=True)
class Factor:
    """One comparison: ``driver>=535``."""

    name: str
    operator: str
    value: str

    def __str__(self) -> str:
        return f"{self.name}{self.operator}{self.value}"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One variable: alternatives, each a conjunction.

    Attributes:
        alternatives: Empty: nothing is asked for.
        problems: Parts that the hook refuses to read; it starts no container then.
    """

    alternatives: tuple[tuple[Factor, ...], ...]
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join(",".join(map(str, factors)) for factors in self.alternatives)


@dataclass(frozen=True, slots=True)
class Host:
    """What a host offers; None is unknown.

    Attributes:
        cuda: Highest CUDA level that the driver reports.
        driver: Full version, or a bare branch.
        brands: Brands that the GPUs may have; one of them is the true one.
        arches: Compute capability of every GPU.
    """

    cuda: str | None = None
    driver: str | None = None
    brands: frozenset[str] | None = None
    arches: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a host meets what an image asks for.

    Attributes:
        met: None where a fact is missing that decides.
        unmet: The variables' texts that are not met, shortened.
        disabled: The check is switched off.
    """

    met: bool | None
    unmet: tuple[str, ...] = ()
    disabled: bool = False


def parse_requirement(text: str) -> Requirement:
    """Parse the value of one variable. Properties that the hook does not know are left out, as it does."""
    alternatives, problems = [], []
    for term in text.split(" "):
        factors = []
        for part in term.split(","):
            if not part.strip():
                continue
            found = _FACTOR.fullmatch(part.strip())
            if found is None:
                problems.append(part.strip())
                continue
            name, operator, value = found.groups()
            if name not in _PROPERTIES:
                continue
            if name in _NUMERIC and not _VERSION.fullmatch(value):
                problems.append(part.strip())
                continue
            factors.append(Factor(name, operator, value))
        if factors:
            alternatives.append(tuple(factors))
    return Requirement(tuple(alternatives), tuple(problems))


def requirements_of(env: Mapping[str, str]) -> tuple[Requirement, ...]:
    """Return what an image's environment asks for; nothing where the check is switched off.

    An old image that names only its CUDA version asks for that level.
    """
    if is_disabled(env):
        return ()
    found = [parse_requirement(value) for name, value in sorted(env.items())
             if name.startswith(PREFIX) and not name.startswith(_IGNORED_PREFIX)]
    legacy = _PAIR.match(env.get(LEGACY_VERSION, ""))
    if legacy and not env.get(PREFIX + "CUDA"):
        found.append(Requirement(((Factor("cuda", ">=", legacy.group(0)),),)))
    return tuple(r for r in found if r.alternatives or r.problems)


def is_disabled(env: Mapping[str, str]) -> bool:
    """Tell whether the environment switches every check off."""
    return env.get(DISABLE, "") in _TRUE


def judge(env: Mapping[str, str], host: Host) -> Verdict:
    """Judge what an environment asks for against a host."""
    if is_disabled(env):
        return Verdict(met=True, disabled=True)
    answers = [(requirement, holds(requirement, host)) for requirement in requirements_of(env)]
    unmet = tuple(_short(requirement) for requirement, answer in answers if answer is False)
    return Verdict(met=_all(answer for _, answer in answers), unmet=unmet)


def holds(requirement: Requirement, host: Host) -> bool | None:
    """Tell whether a host meets one variable; None where it depends on what is not known.

    Every GPU must meet it. Of several possible brands all must agree, else the answer is not known.
    """
    if requirement.problems:
        return False
    if not requirement.alternatives:
        return True
    arches: Iterable[str | None] = host.arches or (None,)
    brands: Iterable[str | None] = sorted(host.brands) if host.brands else (None,)
    answers = {_all(_any(_all(_factor(f, host, brand, arch) for f in factors) for factors in requirement.alternatives)
                    for arch in arches) for brand in brands}
    return answers.pop() if len(answers) == 1 else None


def _factor(factor: Factor, host: Host, brand: str | None, arch: str | None) -> bool | None:
    have = {"cuda": host.cuda, "driver": host.driver, "brand": brand, "arch": arch}[factor.name]
    if have is None:
        return None
    if factor.name in _NUMERIC:
        if factor.name == "driver" and "." not in have and "." in factor.value and _same_branch(have, factor.value):
            return None                    # a bare branch may be any of its releases
        mine, theirs = version_key(have), version_key(factor.value.removeprefix("v"))
        order = (mine > theirs) - (mine < theirs)
    else:
        order = (have > factor.value) - (have < factor.value)
    return {"=": order == 0, "!=": order != 0, "<": order < 0, "<=": order <= 0, ">": order > 0,
            ">=": order >= 0}[factor.operator]


def _same_branch(branch: str, version: str) -> bool:
    return version.removeprefix("v").partition(".")[0] == branch


def _all(answers: Iterable[bool | None]) -> bool | None:
    found = set(answers)
    return False if False in found else None if None in found else True


def _any(answers: Iterable[bool | None]) -> bool | None:
    found = set(answers)
    return True if True in found else None if None in found else False


def _short(requirement: Requirement) -> str:
    """Return a requirement without the tail of its list of brands, which runs to pages."""
    if requirement.problems:
        return f"{requirement.problems[0]} (cannot be read)"
    shown = " ".join(",".join(map(str, factors)) for factors in requirement.alternatives[:2])
    more = len(requirement.alternatives) - 2
    return f"{shown} and {more} more alternatives" if more > 0 else shown
