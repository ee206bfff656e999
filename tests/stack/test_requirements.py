"""NVIDIA_REQUIRE_*: a blank is OR, a comma is AND, several variables are ANDed, unknown facts stay unknown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.stack.requirements import Factor, Host, Verdict, holds, judge, parse_requirement, requirements_of

IMAGE_13 = ("cuda>=13.0 brand=tesla,driver>=535,driver<536 brand=nvidia,driver>=535,driver<536 "
            "brand=tesla,driver>=570,driver<571 brand=nvidia,driver>=570,driver<571")
DATA_CENTER = frozenset({"tesla", "nvidia"})
GEFORCE = frozenset({"geforce", "geforcertx"})

names = st.sampled_from(["cuda", "driver", "arch", "brand"])
operators = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
numbers = st.lists(st.integers(0, 700), min_size=1, max_size=3).map(lambda parts: ".".join(map(str, parts)))
brands = st.sampled_from(["tesla", "geforce", "nvidia", "unknown"])
factors = st.one_of(
    st.builds(Factor, st.sampled_from(["cuda", "driver", "arch"]), operators, numbers),
    st.builds(Factor, st.just("brand"), st.sampled_from(["=", "!="]), brands),
)
expressions = st.lists(st.lists(factors, min_size=1, max_size=3), min_size=1, max_size=4)
hosts = st.builds(Host, st.none() | numbers, st.none() | numbers, st.none() | st.frozensets(brands, min_size=1),
                  st.none() | st.lists(numbers, min_size=1, max_size=2).map(tuple))


def text_of(expression: list[list[Factor]]) -> str:
    return " ".join(",".join(map(str, conjunction)) for conjunction in expression)


@pytest.mark.parametrize(("cuda", "driver", "brand", "met"), [
    ("13.0", "580.95.05", DATA_CENTER, True),
    ("12.2", "535.274.02", DATA_CENTER, True),          # listed: the image brings compatibility libraries
    ("12.2", "535.274.02", GEFORCE, False),
    ("12.4", "550.163.01", DATA_CENTER, False),         # not in this list
    ("13.1", "590.48.01", GEFORCE, True),
    ("12.8", "570", DATA_CENTER, True),
    ("12.2", "535.274.02", None, None),
    (None, None, DATA_CENTER, None),
])
def test_the_list_of_a_cuda_image(cuda: str | None, driver: str | None, brand: frozenset[str] | None,
                                  met: bool | None) -> None:
    assert holds(parse_requirement(IMAGE_13), Host(cuda=cuda, driver=driver, brands=brand)) is met


def test_variables_are_anded() -> None:
    env = {"NVIDIA_REQUIRE_CUDA": "cuda>=12.4", "NVIDIA_REQUIRE_ARCH": "arch>=8.0"}
    assert judge(env, Host(cuda="12.8", arches=("9.0",))).met is True
    assert judge(env, Host(cuda="12.8", arches=("9.0", "7.0"))) == Verdict(met=False, unmet=("arch>=8.0",))
    assert judge(env, Host(cuda="12.2")) == Verdict(met=False, unmet=("cuda>=12.4",))


@pytest.mark.parametrize("value", ["1", "true", "T", "True"])
def test_the_check_can_be_switched_off(value: str) -> None:
    env = {"NVIDIA_REQUIRE_CUDA": "cuda>=99", "NVIDIA_DISABLE_REQUIRE": value}
    assert judge(env, Host(cuda="12.2")) == Verdict(met=True, disabled=True)


@pytest.mark.parametrize("value", ["0", "false", "no", "", "yes"])
def test_other_words_leave_it_on(value: str) -> None:
    assert judge({"NVIDIA_REQUIRE_CUDA": "cuda>=99", "NVIDIA_DISABLE_REQUIRE": value}, Host(cuda="12.2")).met is False


def test_an_old_image_asks_for_its_own_cuda() -> None:
    assert judge({"CUDA_VERSION": "9.2.148"}, Host(cuda="9.1")).met is False
    assert judge({"CUDA_VERSION": "9.2.148"}, Host(cuda="9.2")).met is True
    assert [str(r) for r in requirements_of({"CUDA_VERSION": "13.0.2", "NVIDIA_REQUIRE_CUDA": "cuda>=12.0"})] == [
        "cuda>=12.0"]


def test_what_the_hook_does_not_know_is_left_out() -> None:
    assert parse_requirement("colour=red cuda>=12.0").alternatives == ((Factor("cuda", ">=", "12.0"),),)
    assert requirements_of({"NVIDIA_REQUIRE_JETPACK": "csv-mounts=all"}) == ()
    assert parse_requirement("") == parse_requirement("  ,  ")


@pytest.mark.parametrize("text", ["cuda", "cuda>=twelve", "driver=>535", "cuda>="])
def test_what_cannot_be_read_stops_the_container(text: str) -> None:
    assert parse_requirement(text).problems
    assert judge({"NVIDIA_REQUIRE_CUDA": text}, Host(cuda="13.0", driver="580.95.05")).met is False


def test_a_bare_branch_may_be_any_release_of_it() -> None:
    assert holds(parse_requirement("driver>=535.104"), Host(driver="535")) is None
    assert holds(parse_requirement("driver>=535.104"), Host(driver="550")) is True
    assert holds(parse_requirement("driver>=535,driver<536"), Host(driver="535")) is True


@given(expressions)
def test_printing_and_parsing_are_inverse(expression: list[list[Factor]]) -> None:
    parsed = parse_requirement(text_of(expression))
    assert parsed.alternatives == tuple(map(tuple, expression))
    assert parse_requirement(str(parsed)) == parsed


@given(st.text(max_size=80), hosts)
def test_any_text_is_judged_without_failing(text: str, host: Host) -> None:
    assert judge({"NVIDIA_REQUIRE_X": text}, host).met in (True, False, None)


@given(expressions, expressions, hosts)
def test_a_further_alternative_never_hurts(first: list[list[Factor]], more: list[list[Factor]], host: Host) -> None:
    if holds(parse_requirement(text_of(first)), host) is True:
        assert holds(parse_requirement(text_of(first) + " " + text_of(more)), host) is True


@given(expressions, factors, hosts)
def test_a_further_condition_never_helps(expression: list[list[Factor]], factor: Factor, host: Host) -> None:
    narrower = [[*conjunction, factor] for conjunction in expression]
    if holds(parse_requirement(text_of(expression)), host) is False:
        assert holds(parse_requirement(text_of(narrower)), host) is False


@given(expressions, hosts, numbers, numbers)
def test_learning_a_fact_never_turns_an_answer(expression: list[list[Factor]], host: Host, cuda: str,
                                               driver: str) -> None:
    before = holds(parse_requirement(text_of(expression)), host)
    known = Host(host.cuda or cuda, host.driver or driver, host.brands or frozenset({"tesla"}), host.arches or ("9.0",))
    if before is not None:
        assert holds(parse_requirement(text_of(expression)), known) is before
