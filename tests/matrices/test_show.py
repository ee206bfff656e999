"""``planner matrix``: what people see, and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planner.cli.main import invoke


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = invoke(["matrix", *argv])
    out = capsys.readouterr()
    return code, out.out, out.err


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (
            "driver",
            [
                "title: NVIDIA driver",
                "595.91.07 2026-08-03 PB until 2027-03",
                "kernel-and-driver",
                "fabric-manager-equals-driver",
            ],
        ),
        ("driver@535.309.01", ["r535-end-of-life", "eol: 2026-06", "max_cuda 12.2"]),
        ("cuda_toolkits@13.0.2", ["paired_driver 580.95.05", "cuda-13-driver-floor"]),
        (
            "cuda-13-driver-floor",
            ["if: cuda_toolkits >=13.0 <14", "matrices/cuda-driver.yml", "confidence: documented"],
        ),
        ("fabric-manager-equals-driver", ["relation: equal"]),
        ("v100", ["compute_capability: 7.0", "gpu-7.0-last-toolkit", "gpu-7.0-last-driver"]),
        ("Tesla V100-SXM2-32GB", ["name: v100"]),
        ("gpu-driver", ["closed: True", "gpu-9.0-first-driver"]),
    ],
)
def test_show_tells_what_is_known(selector: str, expected: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "show", selector)
    assert (code, err) == (0, "")
    assert [text for text in expected if text not in out] == []
    code, out, _ = run(capsys, "show", selector, "-o", "json")
    document = json.loads(out)
    assert (code, document["schema"], document["selector"]) == (0, "planner.matrix-show/1", selector)


def test_claims_of_a_release_are_those_about_it(capsys: pytest.CaptureFixture[str]) -> None:
    names = [c["name"] for c in json.loads(run(capsys, "show", "driver@570.211.01", "-o", "json")[1])["claims"]]
    assert "cuda-13-driver-floor" in names  # not met by 570
    assert "cuda-12-driver-floor" not in names  # met, and not about 570 in particular
    assert "r570-end-of-life" in names
    assert "r535-end-of-life" not in names


def test_unknown_release_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no release of this version is known" in run(capsys, "show", "driver@999.1")[1]


def test_unknown_name_is_answered_with_near_ones(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "show", "cuda-13-driver-flor")
    assert (code, out) == (1, "")
    assert "unknown-name" in err
    assert "did you mean: cuda-13-driver-floor" in err


def test_lint_of_the_shipped_set_passes(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "lint")
    assert (code, err) == (0, "")
    assert "no findings" in out


def test_lint_of_a_bad_overlay_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.yml").write_text("""\
schema: planner.matrix/1
topic: own
claims:
  - name: own-claim
    family: known-bad
    statement: "Driver 580.126.09 is bad"
    if: {driver: "580.126.09"}
    forbids: true
    provenance: {title: "Our own report", retrieved: "2026-11-01", kind: field-report}
    accepts: {driver: ["580.126.09"]}
    rejects: {driver: ["580.126.09"]}
""")
    code, out, err = run(capsys, "lint", "--matrix", str(tmp_path))
    assert code == 1
    assert f"{tmp_path.name}/own.yml:10: own-claim: the state under accepts is unsupported" in err
    assert "1 findings" in out
    code, out, _ = run(capsys, "lint", "--matrix", str(tmp_path), "-o", "json")
    assert (code, [f["code"] for f in json.loads(out)["findings"]]) == (1, ["bad-example"])
