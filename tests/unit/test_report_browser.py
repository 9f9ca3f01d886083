"""The HTML report in a real browser: readable at three widths, by keyboard, on paper; accessible; asks nobody."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page

from orchestrator.evidence import texts
from orchestrator.evidence.html import html_page
from orchestrator.evidence.results import Report, Result
from orchestrator.verification.browser import launched
from tests.unit.evidence_cases import HOSTILE, finding, report
from tests.unit.town_report import HOSTS, town_report

TOWN = town_report()
# A4 less the margins of the style's @page: 182 mm in CSS pixels.
PAPER = 688
# Neither axe nor a size sees what is folded; one row stays so, for its "+2" is read there only.
UNFOLD = "[...document.querySelectorAll('details')].slice(1).forEach((one) => { one.open = true; })"


@dataclass(frozen=True)
class Desk:
    """A browser and a folder that it can read."""

    context: BrowserContext
    folder: Path

    def open(self, subject: Report, *, width: int = 1280, language: str = "de") -> Page:
        """Open a report from a file, as a person does who was sent one."""
        file = self.folder / "report.html"
        file.write_text(html_page(subject, language), encoding="utf-8")
        page = self.context.new_page()
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(reduced_motion="reduce")
        page.goto(file.as_uri())
        return page


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    with tempfile.TemporaryDirectory() as folder, launched("/usr/bin/chromium") as context:
        Path(folder).chmod(0o755)  # as root, the browser runs as nobody
        yield Desk(context, Path(folder))


@pytest.fixture
def town(desk: Desk) -> Iterator[Page]:
    page = desk.open(TOWN)
    yield page
    page.close()


def shown(page: Page, language: str = "de") -> list[dict[str, Any]]:
    """Return what the rows that are to be seen belong to."""
    rows = f"[...document.querySelectorAll('article[lang={language}] .findings tbody tr')]"
    found: list[dict[str, Any]] = page.evaluate(
        f"{rows}.filter((row) => row.checkVisibility()).map((row) => ({{...row.dataset}}))"
    )
    return found


@pytest.mark.parametrize(
    ("language", "width", "scheme"), [("de", 390, "light"), ("de", 820, "dark"), ("en", 1280, "dark")]
)
def test_axe_finds_nothing_serious(desk: Desk, language: str, width: int, scheme: Any) -> None:
    page = desk.open(TOWN, width=width, language=language)
    page.emulate_media(color_scheme=scheme)
    page.evaluate(UNFOLD)
    found = Axe().run(page).response
    page.close()
    assert len(found["passes"]) > 20  # it looked
    assert [(row["id"], row["impact"]) for row in found["violations"] if row["impact"] in ("critical", "serious")] == []


@pytest.mark.parametrize(("width", "media"), [(390, "screen"), (820, "screen"), (1280, "screen"), (PAPER, "print")])
def test_nothing_is_cut_off_at_any_width(desk: Desk, width: int, media: Any) -> None:
    seen = "one.checkVisibility() && !one.closest('.skip, .languages, thead')"
    beyond = (
        "(one.getBoundingClientRect().right > innerWidth + 1 || one.scrollWidth > (one.clientWidth || Infinity) + 1)"
    )
    for language in texts.LANGUAGES:
        page = desk.open(TOWN, width=width, language=language)
        page.emulate_media(media=media)
        page.evaluate(UNFOLD)
        assert page.locator(f"article[lang={language}]").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == width
        wide = (
            f"[...document.querySelectorAll('body *')].filter((one) => {seen} && {beyond}).map((one) => one.outerHTML)"
        )
        assert page.evaluate(wide) == []
        page.close()


def test_it_asks_nobody_and_runs_nothing_foreign(desk: Desk) -> None:
    asked: list[str] = []
    dialogs: list[str] = []
    desk.context.on("request", lambda request: asked.append(request.url))
    desk.context.on("dialog", lambda dialog: dialogs.append(dialog.message))
    bad = finding(1, Result.FAIL, host=HOSTILE, seen=HOSTILE, wanted=HOSTILE, remedy=HOSTILE, reason=HOSTILE)
    page = desk.open(report(findings=(bad,), hosts=(HOSTILE,)))
    page.wait_for_timeout(500)
    page.close()
    assert dialogs == []
    assert [url for url in asked if not url.startswith("data:")] == [(desk.folder / "report.html").as_uri()]


def test_filters_by_result_area_host_and_text_and_all_together(town: Page) -> None:
    bar = town.locator("article[lang=de] .filter")
    everything = len(TOWN.findings)
    assert len(shown(town)) == everything
    bar.locator(".by-result").select_option("fail")
    assert [row["result"] for row in shown(town)] == ["fail"] * TOWN.count(Result.FAIL)
    bar.locator(".by-family").select_option("NET")
    assert [(row["family"], row["host"]) for row in shown(town)] == [("NET", "meet1"), ("NET", "meet2")]
    bar.locator(".by-host").select_option(HOSTS[1])
    assert [row["host"] for row in shown(town)] == [HOSTS[1]]
    bar.locator(".by-text").fill("nirgends")
    assert shown(town) == []
    assert town.locator("article[lang=de] .no-match").is_visible()
    bar.locator(".reset").click()
    assert len(shown(town)) == everything
    assert town.evaluate("document.activeElement.className") == "by-text"
    bar.locator(".by-text").fill("vks von außen")
    assert {row["family"] for row in shown(town)} == {"VKS"}
    assert f"{len(shown(town))} von {everything}" in bar.locator(".shown").inner_text()


def test_the_filter_stays_when_the_language_changes(town: Page) -> None:
    town.locator("article[lang=de] .by-family").select_option("VKS")
    town.check("#language-en", force=True)
    assert town.locator("article[lang=en] .by-family").input_value() == "VKS"
    assert {row["family"] for row in shown(town, "en")} == {"VKS"}
    assert town.evaluate("document.documentElement.lang") == "en"
    assert "Verification report" in town.title()


def test_a_count_in_the_summary_shows_its_findings(town: Page) -> None:
    town.locator("article[lang=de] .counts a", has_text="ohne Ergebnis").click()
    assert [row["result"] for row in shown(town)] == ["error"]
    assert town.locator("#de-findings-title").is_visible()


def test_a_keyboard_is_enough(town: Page) -> None:
    town.keyboard.press("Tab")
    assert town.evaluate("document.activeElement.classList.contains('skip')")
    town.keyboard.press("Enter")
    assert town.evaluate("document.activeElement.id") == "de-verdict"
    town.focus("#language-de")
    town.keyboard.press("ArrowRight")
    assert town.locator("article[lang=en]").is_visible()
    town.focus("article[lang=en] .by-result")
    town.keyboard.press("f")  # "fail"
    assert {row["result"] for row in shown(town, "en")} == {"fail"}
    link = "article[lang=en] .findings tbody tr:not([hidden]) a"
    town.focus(link)
    town.keyboard.press("Enter")
    assert town.locator("#en-control-CRY-03").evaluate("one => one.open")
    town.keyboard.press("Tab")
    focused = town.evaluate("document.activeElement.closest('details') && document.activeElement.closest('details').id")
    assert focused == "en-control-CRY-03"
    assert town.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_on_paper_everything_is_there_and_no_control_is(town: Page) -> None:
    town.locator("article[lang=de] .by-result").select_option("fail")
    town.emulate_media(media="print")
    assert len(shown(town)) == len(TOWN.findings)
    for gone in (".filter", ".languages", "nav"):
        assert town.locator(gone).first.is_hidden()
    folded = town.locator("#de-control-NET-01 dd").first
    assert folded.evaluate(
        "one => one.checkVisibility({contentVisibilityAuto: true}) && one.getBoundingClientRect().height > 0"
    )
    town.emulate_media(media="screen")


def test_without_scripts_both_languages_are_there(desk: Desk) -> None:
    page = desk.context.new_page()
    desk.context.new_cdp_session(page).send("Emulation.setScriptExecutionDisabled", {"value": True})
    (desk.folder / "quiet.html").write_text(html_page(TOWN), encoding="utf-8")
    page.goto((desk.folder / "quiet.html").as_uri())
    assert page.locator("#de-verdict").is_visible()
    assert page.locator("article[lang=de] .filter").is_hidden()
    page.locator("label[for=language-en]").click()
    assert page.locator("#en-verdict").is_visible()
    assert page.locator("#de-verdict").is_hidden()
    page.close()
