"""The HTML report: complete in both languages, harmless whatever a host says, and one file that asks nobody."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser

import pytest

from orchestrator.evidence import texts
from orchestrator.evidence.html import html_page, moment, prose
from orchestrator.evidence.results import Report, Result
from orchestrator.evidence.verdict import verdict
from orchestrator.inventory.loosened import Loosened
from tests.unit.evidence_cases import HOSTILE, control, finding, report

_VOID = {"meta", "link", "input", "br", "img", "wbr"}


@dataclass
class Element:
    """One element with the text of everything inside it."""

    tag: str
    attributes: dict[str, str]
    ancestors: tuple[Element, ...]
    parts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join("".join(self.parts).split())

    @property
    def classes(self) -> list[str]:
        return self.attributes.get("class", "").split()

    def inside(self, other: Element) -> bool:
        return any(ancestor is other for ancestor in self.ancestors)


class Page(HTMLParser):
    """The page as a list of elements; an element that is closed wrongly is an error."""

    def __init__(self, subject: Report, language: str = "de") -> None:
        super().__init__()
        self.source = html_page(subject, language)
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(self.source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs}, tuple(self._open))
        self.elements.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}, tuple(self._open)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, tag
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.parts.append(data)

    def find(self, tag: str, within: Element | None = None, **attributes: str) -> list[Element]:
        return [
            element
            for element in self.elements
            if element.tag == tag
            and (within is None or element.inside(within))
            and all(element.attributes.get(name.rstrip("_")) == value for name, value in attributes.items())
        ]

    def article(self, language: str) -> Element:
        (found,) = self.find("article", lang=language)
        return found

    def section(self, identity: str) -> Element:
        (found,) = [element for element in self.elements if element.attributes.get("id") == identity]
        return found


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(report())


def first_words(subject: Page) -> str:
    (body,) = subject.find("body")
    return body.text


@pytest.mark.parametrize("language", texts.LANGUAGES)
@pytest.mark.parametrize(
    ("held", "first", "packages"),
    [(True, "standins", "packages_standins"), (None, "standins_unknown", "packages_unknown")],
)
def test_a_report_on_standins_says_so_before_anything_else(
    language: str, held: bool | None, first: str, packages: str
) -> None:
    standins = Page(report(standins=held), language)
    said = texts.texts(language)[first]
    assert first_words(standins).startswith(said)
    banner = next(element for element in standins.elements if element.text == said)
    assert "other" not in banner.classes
    assert any(element.tag == "header" for element in banner.ancestors)  # a landmark, so that a screen reader finds it
    assert texts.texts(language)[packages] in standins.section(f"{language}-measured").text


def test_a_report_on_real_packages_has_no_such_line(page: Page) -> None:
    assert "Ersatzpakete" not in first_words(page).replace(texts.texts("de")["packages_real"], "")


@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_the_verdict_comes_first_and_the_repairs_before_the_findings(page: Page, language: str) -> None:
    article = page.article(language)
    said = article.text
    places = [said.index(verdict(report(), language))]
    for name in ("first", "findings", "controls", "measured"):
        places.append(page.source.index(f'<section id="{language}-{name}"'))
    assert places[1:] == sorted(places[1:])
    assert said.index(verdict(report(), language)) < said.index(texts.texts(language)["first"])


@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_every_kind_of_result_is_shown_with_its_word_and_count(page: Page, language: str) -> None:
    section = page.section(f"{language}-findings")
    for result in Result:
        rows = [row for row in page.find("tr", section) if row.attributes.get("data-result") == result.value]
        assert len(rows) == report().count(result) > 0
        for row in rows:
            assert texts.RESULTS[result][language] in row.text
        counted = [
            item for item in page.find("li", page.section(f"{language}-verdict")) if result.value in item.classes
        ]
        assert [item.text.split()[0] for item in counted] == [str(report().count(result))]


def test_kinds_that_did_not_occur_are_shown_as_zero() -> None:
    only = Page(report(findings=(finding(1, Result.PASS),)))
    items = only.find("li", only.section("de-verdict"))
    assert sorted(item.text.split()[0] for item in items) == ["0"] * 6 + ["1"]


@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_every_field_of_every_finding_can_be_read(page: Page, language: str) -> None:
    rows = page.find("tr", page.section(f"{language}-findings"))[1:]
    assert len(rows) == len(report().findings)
    for one in report().findings:
        (row,) = [row for row in rows if one.control in row.text]
        for text in (one.host, one.seen, one.wanted, one.reason, one.waiver):
            assert text in row.text
        assert texts.VANTAGES["inside"][language] in row.text


def test_what_to_do_first_has_failures_then_errors_by_the_catalogue_each_with_its_command(page: Page) -> None:
    entries = [item for item in page.find("li", page.section("de-first")) if item.classes]
    assert [re.findall(r"TST-\d+", item.text)[0] for item in entries] == ["TST-01", "TST-04", "TST-10"]
    commands = [code.text for code in page.find("code", page.section("de-first"), class_="command")]
    assert commands == [f"ratssaal repair {number} --host meet" for number in (1, 4)]
    assert "Deutsches Risiko 4" in entries[1].text
    assert "seen-4" in entries[1].text


def test_hosts_that_show_the_same_are_named_together() -> None:
    found = tuple(finding(1, Result.FAIL, host, remedy="ratssaal repair") for host in ("a", "b"))
    several = Page(report(hosts=("a", "b"), findings=found))
    (entry,) = [item for item in several.find("li", several.section("de-first")) if item.classes]
    assert entry.text.count("seen-1") == 1
    assert "a, b" in entry.text
    assert entry.text.count("ratssaal repair") == 1


def test_what_kept_many_checks_from_a_result_is_one_thing_to_do() -> None:
    hung = {"reason": "it said nothing for 30 s (hint: uptime)"}
    away = [finding(number, Result.ERROR, host, **hung) for host in ("a", "b") for number in (1, 2)]
    alone = finding(4, Result.ERROR, "a", reason="nmap ran out of time")
    several = Page(report(hosts=("a", "b"), findings=(finding(3, Result.FAIL, "a"), *away, alone)))
    entries = [item.text for item in several.find("li", several.section("en-first")) if item.classes]
    assert [re.findall(r"TST-\d+", text) for text in entries] == [["TST-03"], ["TST-01", "TST-02"], ["TST-04"]]
    assert entries[1].count("it said nothing for 30 s") == 1
    assert "a, b" in entries[1]
    assert texts.texts("en")["also"] in entries[1]
    assert texts.texts("en")["also"] not in entries[0] + entries[2]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ((finding(1, Result.PASS),), "first_none"),
        ((finding(1, Result.NOT_TESTED),), "first_nothing"),
        ((), "first_nothing"),
    ],
)
def test_with_nothing_to_repair_the_page_says_what_that_means(found: tuple[()], expected: str) -> None:
    subject = Page(report(findings=found))
    assert texts.texts("de")[expected] in subject.section("de-first").text


def test_waivers_undecided_settings_and_measurements_are_shown(page: Page) -> None:
    assert "A. Person: waiver-6, until 2027-01-31" in page.section("de-waivers").text
    assert "web_pages: no imprint" in page.section("de-undecided").text
    measured = page.section("de-measured").text
    for text in ("05.01.2026, 08:00:00 UTC", "05.01.2026, 08:00:42 UTC", "Ratssaal 0.1.0", "outside12,2", "meet3"):
        assert text in measured
    for one in report().controls:
        block = page.section(f"en-control-{one.id}").text
        for text in (one.title_en, one.risk, *one.references):
            assert text in block


def test_loosened_settings_are_shown_in_the_pages_language(page: Page) -> None:
    for language, meaning in (("de", "Deutsche Bedeutung"), ("en", "English meaning")):
        shown = page.section(f"{language}-loosened").text
        for text in ("town_door: open", "shut", meaning):
            assert text in shown
    none = Page(report(loosened=()))
    assert texts.texts("de")["loosened_none"] in none.section("de-loosened").text


def test_hostile_text_in_every_place_makes_no_element_and_no_attribute() -> None:
    tags = [element.tag for element in Page(report(standins=True, findings=(finding(1, Result.FAIL),))).elements]
    bad = finding(
        1, Result.FAIL, host=HOSTILE, seen=HOSTILE, wanted=HOSTILE, remedy=HOSTILE, reason=HOSTILE, waiver=HOSTILE
    )
    attacked = Page(
        report(
            standins=True, site=HOSTILE, hosts=(HOSTILE,), findings=(bad,), undecided=(HOSTILE,), started=HOSTILE,
            finished=HOSTILE, version=HOSTILE, round_trips={HOSTILE: 1}, seconds={HOSTILE: 1.0},
            loosened=(Loosened(*[HOSTILE] * 5),),
        )
    )  # fmt: skip
    assert attacked.source.count("<script") == 1
    assert {element.tag for element in attacked.elements} <= set(tags) | {"small", "wbr"}
    assert [element for element in attacked.elements if element.tag == "img"] == []
    names = {name for element in attacked.elements for name in element.attributes}
    assert not [name for name in names if name.startswith("on") or name == "style"]
    shown = attacked.section("de-findings").text
    assert (
        '<script>alert(1)</script> <img src="http://evil.example/x"> \'"&{{ 7*7 }}␛[31m\\u202egpj.exe \ufffd␀' in shown
    )
    attacked.source.encode("utf-8")


def test_nothing_is_loaded_from_anywhere() -> None:
    subject = Page(report(findings=(*report().findings, finding(1, Result.FAIL, seen="https://foreign.example/x"))))
    for element in subject.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset", "formaction", "xlink:href"):
            value = element.attributes.get(name, "#")
            assert value.startswith("#") or value == "data:,", (element.tag, name, value)
    (style,) = subject.find("style")
    assert not re.search(r"url\(|@import|https?:", style.text)
    (script,) = subject.find("script")
    assert not re.search(r"fetch|XMLHttp|WebSocket|sendBeacon|import\(|innerHTML|eval|https?:", script.text)


def test_the_policy_allows_the_two_inline_blocks_and_nothing_else(page: Page) -> None:
    (policy,) = [meta.attributes["content"] for meta in page.find("meta") if "http-equiv" in meta.attributes]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for name in ("style", "script"):
        (block,) = page.find(name)
        digest = base64.b64encode(hashlib.sha256("".join(block.parts).encode()).digest()).decode()
        assert rules[f"{name}-src"] == f"'sha256-{digest}'"
    assert set(rules) == {"default-src", "style-src", "script-src", "img-src", "base-uri", "form-action"}


def test_links_lead_somewhere_and_no_id_is_given_twice(page: Page) -> None:
    ids = [element.attributes["id"] for element in page.elements if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for element in page.elements:
        for name in ("href", "aria-labelledby", "for"):
            target = element.attributes.get(name, "").removeprefix("#")
            assert target in ("", "data:,") or target in ids, (element.tag, name, target)


@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_language_of_the_page_and_of_its_parts(language: str) -> None:
    subject = Page(report(), language)
    assert [element.attributes["lang"] for element in subject.find("html")] == [language]
    shown = [article.attributes["lang"] for article in subject.find("article") if "other" not in article.classes]
    assert shown == [language]
    checked = [
        radio.attributes["value"] for radio in subject.find("input", type="radio") if "checked" in radio.attributes
    ]
    assert checked == [language]
    english_risk = [element for element in subject.find("dd", subject.article("de")) if "Run ratssaal" in element.text]
    assert english_risk
    assert {element.attributes["lang"] for element in english_risk} == {"en"}


def test_a_language_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="'fr'"):
        html_page(report(), "fr")


def test_every_text_is_there_in_both_languages() -> None:
    german, english = texts.texts("de"), texts.texts("en")
    assert german.keys() == english.keys()
    assert all(german.values())
    assert all(english.values())
    for table in (texts.RESULTS, texts.MEANINGS):
        assert set(table) == set(Result)
        assert all(set(names) == set(texts.LANGUAGES) for names in table.values())
    assert set(texts.SIGNS) == set(Result)
    assert len(set(texts.SIGNS.values())) == len(Result)


def test_tables_have_headers_and_the_page_has_landmarks(page: Page) -> None:
    for tag, count in (("main", 1), ("header", 1), ("nav", 2), ("h1", 2)):
        assert len(page.find(tag)) == count, tag
    for table in page.find("table"):
        headers = page.find("th", table)
        assert headers
        assert {header.attributes.get("scope") for header in headers} == {"col", "row"}
        for cell in page.find("td", table):
            assert cell.ancestors[-1].tag == "tr"


def test_the_filter_is_hidden_until_the_script_runs(page: Page) -> None:
    bars = [element for element in page.elements if "filter" in element.classes]
    assert len(bars) == 2
    assert all("hidden" in bar.attributes for bar in bars)


def test_the_same_report_gives_the_same_page() -> None:
    assert html_page(report()) == html_page(report(findings=report().findings[::-1]))


def test_code_in_prose_is_marked_and_a_command_can_be_copied() -> None:
    assert prose("ratssaal harden rathaus") == '<code class="command">ratssaal harden rathaus</code>'
    assert prose("`ratssaal harden`") == '<code class="command">ratssaal harden</code>'
    assert prose("Run `a <b>` & wait.") == 'Run <code class="word">a &lt;b&gt;</code> &amp; wait.'
    assert prose("```sh\nls -l\n```") == '<code class="command">ls -l</code>'
    assert prose("Ask <the> operator.") == "Ask &lt;the&gt; operator."


def test_times_as_people_write_them() -> None:
    assert moment("2026-01-05T08:00:42Z", "de") == "05.01.2026, 08:00:42 UTC"
    assert moment("2026-01-05T08:00:42Z", "en") == "2026-01-05, 08:00:42 UTC"
    assert moment("soon", "de") == "soon"


def luminance(colour: str) -> float:
    """Return the relative luminance of `#rrggbb` (WCAG 2.2)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, 1 to 21 (WCAG 2.2)."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_that_wcag_wants(page: Page, scheme: int) -> None:
    (style,) = page.find("style")
    block = re.findall(r":root \{(.*?)\}", style.text)[scheme]
    colours = dict(re.findall(r"--(\w[\w-]*): (#[0-9a-f]{6})", block))
    pairs = [(name, ground) for name in ("ink", "soft", "accent") for ground in ("paper", "sheet", "code")]
    pairs += [(result.value, f"{result.value}-soft") for result in Result]
    for text, ground in pairs:
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)


@pytest.mark.parametrize(
    ("place", "german", "english"),
    [
        ("inside", "von innen: auf dem Server", "from inside: on the server"),
        ("the control node", "von außen: Steuerrechner", "from outside: the control node"),
        (
            "probe.example.org (by SSH)",
            "von außen: probe.example.org (über SSH)",
            "from outside: probe.example.org (by SSH)",
        ),
        (
            "the control node's network namespace Out",
            "von außen: Netzwerk-Namensraum Out auf dem Steuerrechner",
            "from outside: the control node's network namespace Out",
        ),
        ("elsewhere", "von außen: elsewhere", "from outside: elsewhere"),
    ],
)
def test_each_finding_says_where_it_was_looked_at_from(place: str, german: str, english: str) -> None:
    subject = Page(report(findings=(finding(1, Result.FAIL, vantage=place),)))
    for language, said in (("de", german), ("en", english)):
        for section in ("first", "findings", "measured"):
            assert said in subject.section(f"{language}-{section}").text


def test_what_was_wanted_stands_beside_what_was_seen_in_its_place() -> None:
    several = finding(1, Result.FAIL, seen="a is 1; b is 2", wanted="a is 3; b is 4")
    subject = Page(report(findings=(several,)))
    for section in ("de-first", "de-findings"):
        parts = [item.text for item in subject.find("li", subject.section(section)) if not item.classes]
        assert parts == ["a is 1Verlangt: a is 3", "b is 2Verlangt: b is 4"]
    unpaired = Page(report(findings=(finding(1, Result.FAIL, seen="a; b", wanted="only one"),)))
    parts = [item.text for item in unpaired.find("li", unpaired.section("de-findings"))]
    assert parts == ["a; bVerlangt: only one"]


def test_a_controls_own_remedy_is_told_in_the_pages_language() -> None:
    own = replace(control(1), remedy_de="Führen Sie `ratssaal repair 1` aus")
    subject = Page(report(findings=(finding(1, Result.FAIL, remedy=own.remedy),), controls=(own,)))
    assert "Führen Sie ratssaal repair 1 aus" in subject.section("de-first").text
    assert "Run ratssaal repair 1" in subject.section("en-first").text


def test_findings_can_be_chosen_by_the_family_of_their_control() -> None:
    names = ("NET-01", "VKS-11", "VKS-03", "XYZ-01")
    subject = Page(report(findings=tuple(finding(1, Result.PASS, control=name) for name in names)))
    options = [option.text for option in subject.find("option", subject.section("en-findings"))]
    assert [text for text in options if "·" in text or "XYZ" in text] == [
        "NET · Network (1)",
        "VKS · Conference (2)",
        "XYZ (1)",
    ]
    rows = [row.attributes.get("data-family") for row in subject.find("tr", subject.section("en-findings"))[1:]]
    assert sorted(map(str, rows)) == ["NET", "VKS", "VKS", "XYZ"]


def test_a_reference_that_nobody_has_compared_is_marked_in_words() -> None:
    subject = Page(report(controls=(replace(control(1), references=("Confirmed", "Doubtful ?")),)))
    assert "ConfirmedDoubtful (not compared with the published text)" in subject.section("en-control-TST-01").text
