"""Compares the matrices with what published wheels pin, and writes what differs as a matrix file. Pure.

A publisher's pins are a state that works: a rule that refuses it is contradicted, one that speaks of it and accepts it
is confirmed. Absence of a pin is not absence of the library, so only what is pinned is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from planner.documents import dump_model
from planner.matrix.index import MatrixSet
from planner.matrix.schema import Release, State
from planner.matrix.wheels import Wheel, agrees, allows_python, constraints, floor
from planner.model.version import version_key

# (rule, verdict, severity, statement, components) of every rule that applies to a state.
Judge = Callable[[State], Iterable[tuple[str, str, str, str, tuple[str, ...]]]]

_PYTHONS = tuple(f"3.{minor}" for minor in range(7, 17))
_RUNTIME = ("nvidia-cuda-runtime", "cuda-toolkit")


@dataclass(frozen=True, slots=True)
class Reading:
    """Where an attribute of a release stands in a wheel's metadata.

    Attributes:
        names: Distributions whose pin it is; ``python``, ``glibc`` and ``version`` stand for the wheel's own.
        parts: How many numbers of the pin the matrices keep; 0 keeps all, with operators.
        component: The component whose value in the publisher's state the pin is.
    """

    attribute: str
    names: tuple[str, ...]
    parts: int = 0
    component: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """A project whose wheels say something about releases of a component.

    Attributes:
        asks: Wheels to ask for, with their extras; the first that exists names the release.
        parts: How many numbers name a release in the matrices; 0: all.
        named_by: The distribution whose pin names the release, where it is not the wheel itself.
    """

    component: str
    asks: tuple[tuple[str, tuple[str, ...]], ...]
    readings: tuple[Reading, ...]
    parts: int = 0
    named_by: str = ""
    framework: bool = True


_PYTHON = Reading("python", ("python",))
_LIBRARIES = ("cudart", "nvrtc", "cufft", "curand", "cusolver", "cusparse", "nvjitlink")

SUBJECTS: Mapping[str, Subject] = {
    "torch": Subject("pytorch", (("torch", ()),), (
        Reading("default_cuda", _RUNTIME, 2, "cuda_runtime"), Reading("default_cudnn", ("nvidia-cudnn",), 0, "cudnn"),
        Reading("default_nccl", ("nvidia-nccl",), 0, "nccl"), Reading("triton", ("triton",), 0, "triton"),
        Reading("default_nvshmem", ("nvidia-nvshmem",), 0, "nvshmem"), _PYTHON,
        Reading("wheel_glibc", ("glibc",))), parts=2),
    "tensorflow": Subject("tensorflow", (("tensorflow", ("and-cuda",)),), (
        Reading("and_cuda", _RUNTIME, 0, "cuda_runtime"), Reading("and_cuda_cudnn", ("nvidia-cudnn",), 0, "cudnn"),
        Reading("and_cuda_nccl", ("nvidia-nccl",), 0, "nccl"), _PYTHON), parts=2),
    "jax": Subject("jax", (("jax-cuda12-plugin", ("with-cuda",)), ("jax-cuda13-plugin", ("with-cuda",))), (
        Reading("cuda", _RUNTIME, 2), Reading("cudnn", ("nvidia-cudnn",)), Reading("nccl", ("nvidia-nccl",)),
        Reading("nvshmem", ("nvidia-nvshmem",)), _PYTHON)),
    "vllm": Subject("vllm", (("vllm", ()),), (
        Reading("pytorch", ("torch",), 0, "pytorch"), _PYTHON, Reading("glibc", ("glibc",)))),
    "sglang": Subject("sglang", (("sglang", ()),), (Reading("pytorch", ("torch",), 0, "pytorch"), _PYTHON)),
    "cuda-toolkit": Subject("cublas", (("cuda-toolkit", ("cublas", *_LIBRARIES)),), (
        Reading("cuda", ("version",)), Reading("cudart", ("nvidia-cuda-runtime",)),
        Reading("nvrtc", ("nvidia-cuda-nvrtc",)),
        *(Reading(name, (f"nvidia-{name}",)) for name in _LIBRARIES[2:])), named_by="nvidia-cublas", framework=False),
}
ALIASES = {"pytorch": "torch"}


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison.

    Attributes:
        about: ``pytorch 2.8`` or the name of a rule.
        what: Attribute, or ``claim``.
        verdict: ``confirmed``, ``contradicted`` or ``missing``.
    """

    about: str
    what: str
    known: str
    published: str
    verdict: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What one version's wheels came to."""

    project: str
    version: str
    wheels: tuple[Wheel, ...]
    checks: tuple[Check, ...]
    release: Release | None
    name: str                                          # of the release, as the matrices name it
    values: Mapping[str, str] = field(default_factory=dict)     # attribute -> what the matrices should say


def full_version(project: str, version: str) -> str:
    """Return a release's name as a wheel's version: ``2.8`` of a project that counts three numbers is ``2.8.0``."""
    return f"{version}.0" if SUBJECTS[project].parts == 2 and version.count(".") == 1 else version


def default_requests(matrices: MatrixSet) -> list[tuple[str, str]]:
    """Return a small set of the matrices' own releases: the newest one of every project."""
    found = []
    for project, subject in SUBJECTS.items():
        releases = matrices.releases.get(subject.component, ())
        if releases:
            newest = releases[-1]
            version = newest.attributes.get("cuda", "") if subject.named_by else newest.version
            found.append((project, full_version(project, version)))
    return found


def compare(project: str, version: str, wheels: Sequence[Wheel], python: str, matrices: MatrixSet,
            judge: Judge) -> Verified:
    """Compare what is known of a release, and every rule that speaks of its pins, with its wheels.

    Args:
        project: A key of ``SUBJECTS``.
        version: As it was asked for.
        wheels: What was found, in the order of the subject's ``asks``.
        python: The Python whose wheels these are.
        matrices: What is known.
        judge: The evaluator.
    """
    subject = SUBJECTS[project]
    name = floor(wheels[0].pin(subject.named_by)) if subject.named_by else version
    release = matrices.release(subject.component, name)
    if release is None and subject.parts:
        name = ".".join(name.split(".")[:subject.parts])
        release = matrices.release(subject.component, name)
    name = release.version if release else name
    about = f"{subject.component} {name}"
    checks, values = [], {}
    for reading in subject.readings:
        known = release.attributes.get(reading.attribute, "") if release else ""
        found = [(_major(w), p) for w in wheels if (p := _published(reading, w))]
        if not found:
            continue
        answers = [agrees(_part(known, major, len(wheels)), text) for major, text in found if known]
        verdict = "missing" if not known else "confirmed" if all(answers) else "contradicted"
        shown = "; ".join(dict.fromkeys(f"{text}" if len(found) == 1 else f"cu{major} {text}" for major, text in found))
        checks.append(Check(about, reading.attribute, known, shown, verdict))
        if verdict != "confirmed":
            values[reading.attribute] = _written(reading, found)
    checks += _claims(subject, wheels, python, judge)
    return Verified(project, version, tuple(wheels), tuple(checks), release, name, values)


def _published(reading: Reading, wheel: Wheel) -> str:
    own = {"python": wheel.requires_python, "glibc": wheel.glibc, "version": f"=={wheel.version}"}
    return own[reading.names[0]] if reading.names[0] in own else wheel.pin(*reading.names)


def _major(wheel: Wheel) -> str:
    """Return the CUDA major that a plugin's name carries: ``13`` of jax-cuda13-plugin."""
    return "".join(c for c in wheel.project.partition("cuda")[2].partition("-")[0] if c.isdigit())


def _part(known: str, major: str, wheels: int) -> str:
    """Return the part of an attribute that is about one CUDA major: ``>=9.8; cu13 >=9.12`` or ``12.1, 13.0``."""
    if not major:
        return known
    if ";" in known:
        parts = [p.strip() for p in known.split(";")]
        own = next((p for p in parts if p.startswith(f"cu{major} ")), None)
        return own.partition(" ")[2] if own else next((p for p in parts if not p.startswith("cu")), known)
    if "," in known and not any(c in known for c in "<>="):
        return next((p.strip() for p in known.split(",") if p.strip().startswith(f"{major}.")), known)
    return known


def _written(reading: Reading, found: Sequence[tuple[str, str]]) -> str:
    """Write a published value as the matrices write it."""
    texts = [_one(reading, text) for _, text in found]
    if len(set(texts)) == 1:
        return texts[0]
    if reading.parts:
        return ", ".join(texts)
    return "; ".join(text if number == 0 else f"cu{found[number][0]} {text}" for number, text in enumerate(texts))


def _one(reading: Reading, text: str) -> str:
    if reading.parts:
        return ".".join(floor(text).split(".")[:reading.parts])
    pieces = constraints(text)
    if len(pieces) == 1 and pieces[0][0] in ("==", "===", "~=", ""):
        return pieces[0][1]
    order = {">=": 0, ">": 0}
    return " ".join(f"{o}{v.removesuffix('.0') if o == '<' else v}" for o, v in
                    sorted(pieces, key=lambda p: (order.get(p[0], 1), version_key(p[1]))))


def _claims(subject: Subject, wheels: Sequence[Wheel], python: str, judge: Judge) -> Iterator[Check]:
    if not subject.framework:
        return
    wheel = wheels[0]
    alone: State = {"framework": (subject.component,), subject.component: (wheel.version,)}
    pinned = _pinned(subject, wheel)
    for rule, verdict, severity, statement, components in judge({**alone, **pinned, "python": (python,)}):
        values = [f"{name} {pinned[name][0]}" for name in components if name in pinned]
        said = f"{wheel.project} {wheel.version} for Python {python} pins {', '.join(values) or 'none of it'}"
        if verdict == "supported" and len({*components} - {"framework", "built_cuda"}) > 1:
            yield Check(rule, "claim", statement.partition(" (here")[0], said, "confirmed")
        elif verdict == "unsupported" and severity == "error":
            yield Check(rule, "claim", statement, said, "contradicted")
    yield from _pythons(wheel, alone, python, judge)


def _pythons(wheel: Wheel, alone: State, python: str, judge: Judge) -> Iterator[Check]:
    """Yield the rules that refuse a Python as the wheel itself does.

    What a wheel allows proves nothing: there may be no wheel for that Python.
    """
    before = {rule for rule, verdict, *_ in judge(alone) if verdict == "unsupported"}
    refused: dict[str, tuple[str, list[str]]] = {}
    for other in _PYTHONS:
        if other == python or allows_python(wheel, other):
            continue
        for rule, verdict, _, statement, _ in judge({**alone, "python": (other,)}):
            if verdict == "unsupported" and rule not in before:
                refused.setdefault(rule, (statement.partition(" (here")[0], []))[1].append(other)
    for rule, (statement, pythons) in refused.items():
        said = f"Requires-Python {wheel.requires_python} of {wheel.project} {wheel.version}"
        yield Check(rule, "claim", statement, f"{said} refuses {', '.join(pythons)}", "confirmed")


def _pinned(subject: Subject, wheel: Wheel) -> dict[str, tuple[str, ...]]:
    """Return the components that a wheel pins to one version; ranges name no state."""
    state: dict[str, tuple[str, ...]] = {}
    for reading in subject.readings:
        pin = wheel.pin(*reading.names) if reading.component else ""
        if pin.startswith("=="):
            state[reading.component] = (floor(pin),)
    if "cuda_runtime" in state:
        state["built_cuda"] = state["cuda_runtime"]
    return state


def patch_of(verified: Sequence[Verified], *, date: str, python: str, arch: str) -> str:
    """Return a matrix file with the releases that differ, or "" where there is nothing to say.

    A release is written whole, as an overlay's entry takes the place of the shipped one; what was not read keeps its
    words, and its source is named.
    """
    refuted = [(c, v) for v in verified for c in v.checks if c.what == "claim" and c.verdict == "contradicted"]
    changed: dict[tuple[str, str], Verified] = {}
    for item in verified:
        if item.values:
            changed.setdefault((item.project, item.name), item)
    if not changed and not refuted:
        return ""
    sources = {f"wheel-{v.project}-{v.name}": _source(v, date, python, arch) for v in changed.values()}
    releases = [_release(v) for v in changed.values()]
    head = ["# Written by planner matrix verify: what the metadata of wheels says, where the matrices differ."]
    head += [f"# To be looked at by a person: {c.about} is contradicted, as {c.published}" for c, _ in refuted]
    document: dict[str, Any] = {"schema": "planner.matrix/1", "topic": "Releases as their wheels pin them"}
    if releases:
        document |= {"sources": sources, "releases": releases}
    body = yaml.safe_dump(document, sort_keys=False, width=110, allow_unicode=True)
    return "\n".join(head) + "\n" + body


def _source(item: Verified, date: str, python: str, arch: str) -> dict[str, str]:
    files = ", ".join(w.filename for w in item.wheels)
    hashes = ", ".join(f"sha256 {w.sha256}" for w in item.wheels if w.sha256)
    read = f"{', '.join(sorted(item.values))} for Linux {arch} and Python {python}"
    kept = sorted({*(item.release.attributes if item.release else ())} - {*item.values})
    rest = ""
    if item.release and kept:
        old = item.release.provenance
        rest = f"; {', '.join(kept)} as before ({old.url or old.title}, {old.confidence})"
    return {"title": f"Metadata of {files}", "locator": f"{read}; {hashes or 'no hash'}{rest}", "retrieved": date,
            "kind": "measured", "confidence": "measured"}


def _release(item: Verified) -> dict[str, Any]:
    subject = SUBJECTS[item.project]
    old: dict[str, Any] = dump_model(item.release) if item.release else {}
    kept = {key: value for key, value in old.items() if value not in ([], "", {}) and key != "provenance"}
    attributes = {**old.get("attributes", {}), **item.values}
    return {"component": subject.component, "version": item.name, **{k: v for k, v in kept.items() if k not in (
        "component", "version", "attributes")}, "attributes": attributes,
        "provenance": f"wheel-{item.project}-{item.name}"}
