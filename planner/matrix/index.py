"""All matrices in memory: looked up by component, with a digest that plans rely on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from planner.matrix.globs import matches
from planner.matrix.literals import Clause
from planner.matrix.schema import (
    Across,
    Claim,
    Component,
    Family,
    GpuModel,
    Lockstep,
    Move,
    PackageSet,
    PlannedTime,
    Provenance,
    Question,
    Release,
    Signature,
    Term,
)
from planner.model.version import version_key

LONG_TERM = "LTSB"              # kind of a branch (``Release.branch_type``)
STAND_IN_SUFFIX = " (stand-in)"
_BRANDS = frozenset({"NVIDIA", "GEFORCE", "TESLA", "QUADRO"})
_COUNT = re.compile(r"X\d+|\d+X")


@dataclass(frozen=True, kw_only=True)
class MatrixSet:
    """Every claim that is in force (tombstoned ones are kept apart).

    Attributes:
        files: Claim, lockstep, family or package-set name -> the file it stands in.
        replaced: Name -> the file whose entry an overlay has replaced.
        needed_words: Pattern of a signature -> words without which it cannot match.
        digest: Over the canonical content of all files, in order.
    """

    components: Mapping[str, Component]
    moves: tuple[Move, ...]
    families: Mapping[str, Family]
    lockstep: tuple[Lockstep, ...]
    claims: tuple[Claim, ...]
    releases: Mapping[str, tuple[Release, ...]]
    packages: tuple[PackageSet, ...]
    gpu_models: tuple[GpuModel, ...]
    files: Mapping[str, str]
    digest: str
    tombstones: tuple[Claim, ...] = field(default=())
    replaced: Mapping[str, str] = field(default_factory=dict)
    across: tuple[Across, ...] = field(default=())
    signatures: Sequence[Signature] = field(default=())
    needed_words: Mapping[str, tuple[Clause, ...]] = field(default_factory=dict)
    questions: Mapping[str, Question] = field(default_factory=dict)
    vocabulary: tuple[Term, ...] = field(default=())
    times: Mapping[str, PlannedTime] = field(default_factory=dict)

    def is_text(self, component: str) -> bool:
        """Tell whether a component's values are plain text rather than versions."""
        return component in self._text_components

    @cached_property
    def _text_components(self) -> frozenset[str]:
        return frozenset(name for name, known in self.components.items() if known.values == "text")

    def is_many(self, component: str) -> bool:
        """Tell whether several values of a component live side by side."""
        return component in self._many_components

    @cached_property
    def _many_components(self) -> frozenset[str]:
        return frozenset(name for name, known in self.components.items() if known.many)

    def slot_of(self, component: str, version: str) -> str:
        """Return what of a version tells it from those beside it: a value of the same slot takes its place."""
        parts = self.components[component].slot_parts
        return ".".join(version.split(".")[:parts]) if parts else version

    def gpu_model(self, nvml_name: str) -> GpuModel | None:
        """Return the first model whose glob matches a device name; a stand-in is matched by what it stands for."""
        name = nvml_name.removesuffix(STAND_IN_SUFFIX)
        if name not in self._model_of:
            self._model_of[name] = next((m for m in self.gpu_models if matches(name, m.match)), None)
        return self._model_of[name]

    @cached_property
    def _model_of(self) -> dict[str, GpuModel | None]:
        return {}

    def gpu_model_of_people(self, name: str) -> GpuModel | None:
        """Return the model that a person means by a name such as ``8x H100 80GB HBM3 (SXM)``, or None."""
        found = self.gpu_model(name)
        if found is not None:
            return found
        words = [w for w in re.sub(r"[^A-Z0-9]+", " ", name.upper()).split() if w not in _BRANDS]
        while words and _COUNT.fullmatch(words[0]):
            words.pop(0)
        while words and _COUNT.fullmatch(words[-1]):
            words.pop()
        plain = " ".join(words)
        return next((m for m in self.gpu_models if any(matches(plain, glob) for glob in m.people)), None)

    def release(self, component: str, version: str) -> Release | None:
        """Return what is known of one release, or None."""
        return self._releases_by_key.get((component, version_key(version)))

    def is_short_lived(self, component: str, version: str) -> bool:
        """Tell whether a version is known to be of a branch without long-term support."""
        branch = version.partition(".")[0]
        if (component, branch) not in self._short_lived:
            kinds = {r.branch_type for r in self.releases.get(component, ()) if r.version.partition(".")[0] == branch}
            self._short_lived[component, branch] = bool(kinds - {None}) and LONG_TERM not in kinds
        return self._short_lived[component, branch]

    @cached_property
    def _short_lived(self) -> dict[tuple[str, str], bool]:
        return {}

    def claims_of(self, family: str) -> tuple[Claim, ...]:
        """Return the claims of a family, in the order of the matrices."""
        return self._claims_by_family.get(family, ())

    @cached_property
    def _claims_by_family(self) -> dict[str, tuple[Claim, ...]]:
        found: dict[str, list[Claim]] = {}
        for claim in self.claims:
            found.setdefault(claim.family, []).append(claim)
        return {family: tuple(claims) for family, claims in found.items()}

    def with_moves(self, moves: tuple[Move, ...]) -> MatrixSet:
        """Return the same knowledge with other moves; what was looked up so far is shared."""
        other = replace(self, moves=moves)
        vars(other).update(_claims_by_family=self._claims_by_family, _releases_by_key=self._releases_by_key,
                           _short_lived=self._short_lived)
        return other

    def source_of(self, name: str, provenance: Provenance) -> str:
        """Return one line that names the file and claim, and the document behind it."""
        where = f"{self.files.get(name, 'matrices')}:{name}"
        if name in self.replaced:
            where += f" (instead of {self.replaced[name]})"
        return " ".join(part for part in (where, provenance.url or provenance.title, provenance.locator) if part)

    @cached_property
    def _releases_by_key(self) -> dict[tuple[str, object], Release]:
        index: dict[tuple[str, object], Release] = {}
        for component, releases in self.releases.items():
            for release in releases:
                for text in (release.version, *release.aliases):
                    index.setdefault((component, version_key(text)), release)
        return index
