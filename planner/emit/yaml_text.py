"""YAML of bundles: one dumper, and texts that Ansible takes for what they are. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import yaml
from yaml.emitter import ScalarAnalysis

YAML_WIDTH = 120
# Most texts of a bundle are names and versions: what PyYAML finds out about such a word sign by sign is known.
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Unsafe(str):
    """A text that Ansible must not take for a template."""

    __slots__ = ()


class Exact(list[str]):
    """Texts that Ansible must take as they are, sign by sign.

    The list is tagged, not its texts: of a tagged text Ansible asks again what type it is, and null is none any more.
    """

    __slots__ = ()


class _Quoted(str):
    """A text in double quotes, with escapes."""

    __slots__ = ()


class Shared(list[Any]):
    """A list that several plays of a file need: written out once, referred to by the others."""


class _Dumper(yaml.SafeDumper):
    """The one YAML dumper of bundles: block style, lists indented, anchors for ``Shared`` lists alone."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return not isinstance(data, Shared)

    def analyze_scalar(self, scalar: str) -> ScalarAnalysis:
        """Return what PyYAML returns, for a word without looking at every sign."""
        if _WORD.fullmatch(scalar) is None:
            return super().analyze_scalar(scalar)
        return ScalarAnalysis(scalar=scalar, empty=False, multiline=False, allow_flow_plain=True,
                              allow_block_plain=True, allow_single_quoted=True, allow_double_quoted=True,
                              allow_block=True)

    def write_plain(self, text: str, split: bool = True) -> None:
        """Write what PyYAML writes; a word has no place where it could be broken."""
        if self.root_context or _WORD.fullmatch(text) is None:
            super().write_plain(text, split)
        else:
            self.write_indicator(text, True)


_Dumper.add_representer(Shared, lambda dumper, items: dumper.represent_list(items))
_Dumper.add_representer(Unsafe, lambda dumper, text: dumper.represent_scalar("!unsafe", str(text)))
_Dumper.add_representer(Exact, lambda dumper, texts: dumper.represent_sequence("!unsafe", map(_Quoted, texts)))
_Dumper.add_representer(_Quoted, lambda dumper, text: dumper.represent_scalar(
    "tag:yaml.org,2002:str", str(text), style='"'))


def dump_yaml(value: object) -> str:
    """Return the one YAML text of a value; keys keep their order, which is meaning in a play."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=YAML_WIDTH, allow_unicode=True,
                     default_flow_style=False)


class Blocks:
    """What all waves of a cohort carry alike, dumped once: in plays a word stands for it, and its text is set in last.

    The words hold the plan's digest, so no value of the plan can be taken for one.
    """

    def __init__(self, plan_digest: str) -> None:
        self._stem = "block-" + plan_digest.removeprefix("sha256:")
        self._texts: dict[str, str] = {}
        self._words: dict[tuple[str, str], str] = {}
        self._dumped: dict[tuple[str, str], str] = {}

    def of(self, cohort: str, key: str, make: Callable[[], Any]) -> Any:
        """Return what stands in a play for a value; an empty one stands for itself."""
        if (cohort, key) not in self._words:
            value = make()
            if not value:
                return value
            word = f"{self._stem}-{len(self._words)}-end"
            same = (key, json.dumps(value))      # cohorts are often alike in all that a play carries
            if same not in self._dumped:
                self._dumped[same] = dump_yaml(value)
            self._words[cohort, key], self._texts[word] = word, self._dumped[same]
        return self._words[cohort, key]

    def set_in(self, text: str) -> str:
        """Return YAML text with every word replaced by its block, two places further in than its key."""
        lines = []
        for line in text.splitlines(keepends=True):
            word = line.rpartition(" ")[2].rstrip("\n") if self._stem in line else ""
            if word in self._texts:
                key = line[: -len(word) - 2]
                indent = " " * (len(key) - len(key.lstrip(" ")) + 2)
                lines += [f"{key}\n", *(indent + part for part in self._texts[word].splitlines(keepends=True))]
            else:
                lines.append(line)
        return "".join(lines)


def plain(text: str) -> str:
    """Return text fit for the name of a play or task: one line, nothing that starts a template, capital first."""
    line = re.sub(r"[\s\x00-\x1f\x7f]+", " ", text).translate(str.maketrans("{}%#", "()__")).strip()
    return line[:1].upper() + line[1:]


def inert(value: Any) -> Any:
    """Return plain values with every text tagged unsafe that has a brace, or begins as a template with other signs."""
    if isinstance(value, str):
        return Unsafe(value) if "{" in value or value.startswith("#jinja2:") else value
    if isinstance(value, dict):
        return {key: inert(item) for key, item in value.items()}
    return [inert(item) for item in value] if isinstance(value, list | tuple) else value
