"""``target.yml``: what people want, per pool, and how the rollout may go."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from planner.documents import Document
from planner.model.version import parse_range


class ToolkitWant(Document):
    """What is wanted of a side-by-side component."""

    present: tuple[str, ...] = ()     # ranges; each must be met by an installed version
    default: str | None = None        # range; the one the default link points at
    absent: tuple[str, ...] = ()      # ranges; nothing installed may match


class Accept(Document):
    """A named risk taken on purpose."""

    risk: str
    because: str = Field(min_length=1)


class RolloutPolicy(Document):
    """How the fleet moves. Percentages round down, at least 1 unless written 0."""

    max_unavailable: str | int = "10%"            # per pool: number or percentage of the pool
    max_unavailable_per_domain: str | int | None = None   # per failure domain
    canary: Literal["auto"] | int | tuple[str, ...] = "auto"   # per class one; or a number per class; or names
    growth: float = Field(2.0, ge=1, allow_inf_nan=False)              # each batch at most this many times the last
    batch_max: int | None = Field(None, ge=1)
    soak_minutes: int = Field(60, ge=0)           # after staging and after canary
    batch_soak_minutes: int = Field(0, ge=0)      # after each later batch
    failure_budget: str | int = 0                 # failed nodes tolerated before the rollout halts
    on_failure: Literal["halt", "rollback"] = "halt"
    drain_timeout_minutes: int = Field(240, ge=0)
    reboot_timeout_minutes: int = Field(20, ge=1)
    not_before: str | None = None                 # ISO 8601 with time zone

    @field_validator("max_unavailable", "max_unavailable_per_domain", "failure_budget")
    @classmethod
    def _count_or_percent(cls, value: str | int | None) -> str | int | None:
        if isinstance(value, int):
            if value < 0:
                raise ValueError("must not be negative")
            return value
        if value is not None and not (value.endswith("%") and value[:-1].isdigit() and int(value[:-1]) <= 100):
            raise ValueError(f"{value!r} is neither a number nor a percentage such as '10%'")
        return value


Want = dict[str, str | ToolkitWant]


class PoolWant(Document):
    """What one pool wants differently; keys replace the default want key by key."""

    want: Want = Field(default_factory=dict)
    rollout: RolloutPolicy | None = None
    skip: bool = False                # leave this pool as it is


class Target(Document):
    """The whole document."""

    schema_: Literal["planner.target/1"] = Field(alias="schema")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    policy: Literal["production", "development"] = "production"
    select: tuple[str, ...] = ()      # pools, groups or node names; empty: every node
    want: Want = Field(default_factory=dict)
    pools: dict[str, PoolWant] = Field(default_factory=dict)
    accept: tuple[Accept, ...] = ()
    rollout: RolloutPolicy = RolloutPolicy()

    @field_validator("want")
    @classmethod
    def _readable_ranges(cls, value: Want) -> Want:
        return check_want(value)


def check_want(want: Want) -> Want:
    """Raise ValueError when a wanted version is not a readable range; the message names the component."""
    for component, wanted in want.items():
        texts = (wanted,) if isinstance(wanted, str) else (
            *wanted.present, *wanted.absent, *filter(None, [wanted.default]))
        for text in texts:
            try:
                parse_range(text)
            except ValueError as exc:
                raise ValueError(f"{component}: {exc}") from exc
    return want
