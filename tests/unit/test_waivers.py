"""What a site leaves alone holds until its day; mistakes in it are told all at once, and what is unreadable is not nothing."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from orchestrator.errors import InvalidSite
from orchestrator.evidence.results import Finding, Result
from orchestrator.verification.waivers import Waiver, apply, left_alone, read_waivers


def _finding(result: Result = Result.FAIL, control: str = "OS-08") -> Finding:
    return Finding(control, "h1", result, "seen", "wanted", "remedy")


def test_waiver_covers_until_its_day_and_says_when_it_expired() -> None:
    waiver = Waiver("OS-08", "*", "A. Meier", "ticket 17", date(2027, 3, 31))
    (valid,) = apply((_finding(),), (waiver,), date(2027, 3, 31))
    assert valid.result is Result.WAIVED
    assert valid.waiver == "A. Meier, until 2027-03-31: ticket 17"
    for found in (_finding(), _finding(Result.PASS)):
        same, expired = apply((found,), (waiver,), date(2027, 4, 1))
        assert same == found
        assert (expired.result, expired.control, expired.host) == (Result.FAIL, "OS-08", "h1")
        assert "EXPIRED (A. Meier, until 2027-03-31: ticket 17)" in expired.seen
        assert expired.remedy
    for other in (_finding(Result.ERROR), _finding(Result.PASS), _finding(control="OS-05")):
        assert apply((other,), (waiver,), date(2027, 1, 1)) == (other,)


SKIPPED = {"OS-08": {"who": "A. Meier", "why": "measured without it", "until": "2027-03-31"}}


def test_what_hardening_leaves_alone_is_waived_for_the_sites_own_reason() -> None:
    for found, result in (
        (_finding(), Result.WAIVED),
        (_finding(Result.PASS), Result.PASS),
        (_finding(Result.ERROR), Result.ERROR),
    ):
        (said,) = apply((found,), left_alone(SKIPPED), date(2027, 3, 31))
        assert said.result is result
        told = "left alone by hardening_skip: A. Meier, until 2027-03-31: measured without it"
        assert said.waiver == (told if result is Result.WAIVED else "")
    assert apply((_finding(control="OS-05"),), left_alone(SKIPPED), date(2027, 1, 1)) == (_finding(control="OS-05"),)
    assert left_alone(None) == left_alone({}) == ()


def test_what_hardening_leaves_alone_beyond_its_day_is_a_finding() -> None:
    for found in (_finding(), _finding(Result.PASS)):
        same, expired = apply((found,), left_alone(SKIPPED), date(2027, 4, 1))
        assert same == found
        assert (expired.result, expired.control, expired.host) == (Result.FAIL, "OS-08", "h1")
        assert "EXPIRED (left alone by hardening_skip: A. Meier, until 2027-03-31" in expired.seen
        assert "remove it from hardening_skip, or let A. Meier decide again" in expired.remedy


def _waivers(tmp_path: Path, text: str) -> tuple[Waiver, ...]:
    (tmp_path / "compliance").mkdir(exist_ok=True)
    (tmp_path / "compliance/waivers.yml").write_text(text)
    return read_waivers(tmp_path, ("h1",))


def test_mistakes_in_waivers_come_all_at_once_with_their_lines(tmp_path: Path) -> None:
    good = "- {control: OS-08, host: h1, who: a, why: b, until: 2027-01-01}"
    assert len(_waivers(tmp_path, f"waivers:\n  {good}\n")) == 1
    assert _waivers(tmp_path, "waivers: []\n") == ()
    text = f"""waivers:
  {good}
  - {{control: OS-99, host: h7, who: ' ', why: b, until: soon}}
  - {{control: OS-08, host: h1, who: a, why: b}}
  - {{control: OS-08, host: h1, who: a, why: b, until: 2027-01-01, untill: x}}
"""
    with pytest.raises(InvalidSite) as caught:
        _waivers(tmp_path, text)
    lines = [(p.where.rpartition(":")[2], p.message) for p in caught.value.problems]
    assert lines == [
        ("3", "there is no control OS-99"),
        ("3", "the site has no host h7"),
        ("3", "who must say something"),
        ("3", "until must be a day like 2027-03-31"),
        ("4", "until is missing"),
        ("5", "unknown key untill"),
    ]
    assert all(p.hint for p in caught.value.problems)
    for broken, line in (("waivers: {", 2), ("- a\n", 1), ("waivers: 3\n", 1)):
        with pytest.raises(InvalidSite) as caught:
            _waivers(tmp_path, broken)
        (problem,) = caught.value.problems
        assert problem.where == f"{tmp_path / 'compliance/waivers.yml'}:{line}"
        assert problem.hint


def test_waivers_that_cannot_be_read_are_not_taken_for_none(tmp_path: Path) -> None:
    file = tmp_path / "compliance/waivers.yml"

    def told() -> tuple[str, str]:
        with pytest.raises(InvalidSite) as caught:
            read_waivers(tmp_path, ("h1",))
        (problem,) = caught.value.problems
        assert problem.hint
        return problem.where.removeprefix(str(file.parent)), problem.message

    assert read_waivers(tmp_path, ("h1",)) == ()
    file.parent.mkdir()
    file.symlink_to("elsewhere")
    assert told() == ("/elsewhere", "cannot be read: No such file or directory")
    file.unlink()
    file.mkdir()
    assert told() == ("/waivers.yml", "is no regular file")
    file.rmdir()
    file.write_bytes(b"waivers:\n- {who: M\xfcller}\n")
    assert told() == ("/waivers.yml:2", "is not UTF-8 text")
    file.write_text("waivers:\n- &a [*a]\n")
    assert told() == ("/waivers.yml:2", "an alias (*) stands inside of what it names (&)")
