"""Pages in a real browser: no word of a file becomes markup, nothing is asked for, and everybody can read them."""

import re
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bigncc import dossier, page
from bigncc.finished import finished
from bigncc.journal import sealed
from bigncc.output import open_output, update_attributes
from bigncc.page import Line
from bigncc.picture import panel_of
from tests import results
from tests.browser import browsing

MODULES = Path(__file__).parent / "node_modules"
NAMES = ("<img src=x onerror=alert(1)>.zarr", "'\"><svg onload=alert(2)>{{7*7}}.zarr")
HOSTILE = "</script></style><script>alert(3)</script>\"'><img src=https://example.org/x onerror=alert(4)> & <!--"
SIZES = ((1280, 900), (390, 844))


def hostile(document):
    """Return a document with something hostile at the end of each text."""
    if isinstance(document, dict):
        return {key: hostile(value) for key, value in document.items()}
    if isinstance(document, list):
        return [hostile(value) for value in document]
    return f"{document}{HOSTILE}" if isinstance(document, str) else document


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What is told of a result with hostile names, of which others have changed the attributes."""
    folder = tmp_path_factory.mktemp("page")
    paths, *_ = results.pair(folder, NAMES)
    url = results.run(paths, folder / "out <b>.ome.zarr")
    said = open_output(url).attributes
    changed = {name: hostile(said[name]) for name in ("headline", "versions", "plan_id")}
    changed["registration"] = {**said["registration"], "unknown": HOSTILE}
    update_attributes(url, sealed({**said, **changed}))
    found = finished(url)
    return dossier.dossier(found, panel_of(found), 0.5, dossier.worst(found, 0.5, 2))


@pytest.fixture(scope="module")
def pages(told, tmp_path_factory):
    """Return the files of a page, of one with hostile facts, and of an index."""
    folder = tmp_path_factory.mktemp("pages")
    links = 'https://host/?a=1&b="', "javascript:alert(5)"
    regions = [region | {"link": link} for region, link in zip(told.facts["regions"], links, strict=True)]
    told = replace(told, facts=told.facts | {"regions": regions})
    rotten = {name: hostile(told.facts[name]) for name in ("url", "images", "maps", "notes")}
    rotten |= {"further": {HOSTILE: HOSTILE}, "notes": [HOSTILE], "sections": [_section(z) for z in range(9)]}
    facts = {**told.facts, **rotten, "proof": hostile(told.facts["proof"])}
    bad = replace(told, facts=facts, shown=HOSTILE, config=HOSTILE)
    lines = [Line(f"pair {n}", "page.html", "complete", told.facts | {"share_below": n / 10}) for n in (3, 1, 2)]
    lines += [Line(HOSTILE, "", "4 of 9 tiles", None, HOSTILE), Line("x", "a%22b.html", "complete", told.facts)]
    made = {"page": page.render(told), "hostile": page.render(bad), "index": page.index(lines, None)}
    for name, data in made.items():
        (folder / f"{name}.html").write_bytes(data)
    return folder


def _section(z):
    numbers = {"share_valid": 1.0, "mean": 0.5 + z / 100, "q05": 0.1, "q50": 0.5, "share_below": 0.5}
    places = {"section": z, "position": z, "lag": 1, "time": None, "channel": None}
    return places | numbers | {"offset": [], "quality": None, "suspects": [z] if z == 4 else [], "notes": [HOSTILE]}


def test_html_is_valid(pages):
    program = MODULES / ".bin" / "html-validate"
    words = [str(program), *sorted(map(str, pages.glob("*.html")))]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_pages_are_read_by_everybody_and_nothing_hostile_runs(pages):
    axe, dialogs = (MODULES / "axe-core" / "axe.min.js").read_text(), []
    with browsing() as (tab, seen):
        tab.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        for name in ("page", "hostile", "index"):
            tab.goto((pages / f"{name}.html").as_uri())
            tab.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
            tab.evaluate(axe)
            for scheme in ("light", "dark"):
                tab.emulate_media(color_scheme=scheme)
                for width, height in SIZES if name != "hostile" or scheme == "light" else ():
                    tab.set_viewport_size({"width": width, "height": height})
                    assert tab.evaluate("document.documentElement.scrollWidth") <= width
                    # what looks the same in both is looked at once
                    rules = {} if scheme == "light" else {"runOnly": ["cat.color"]}
                    found = tab.evaluate("rules => axe.run(document, rules)", rules)
                    assert found["passes"]
                    assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == [], (
                        name,
                        scheme,
                    )
        _check_sorted(tab)
        tab.goto((pages / "page.html").as_uri())
        assert tab.title()[:-1] == f"{NAMES[0]} and {NAMES[1]}"[: len(tab.title()) - 1]
        assert tab.locator("h1").inner_text() == " and ".join(NAMES)
        assert tab.locator(".card a").evaluate_all("all => all.map(each => each.href)") == ["https://host/?a=1&b=%22"]
        tab.emulate_media(media="print")
        assert tab.locator("nav").is_hidden()
        assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert dialogs == []
    assert seen.errors == []
    assert {url.partition(":")[0] for url in seen.requests} <= {"file", "data"}
    assert {url.rpartition("/")[2] for url in seen.requests if url.startswith("file")} == {
        "page.html", "hostile.html", "index.html",
    }  # fmt: skip


def _check_sorted(tab):
    """Sort the index by two of its columns, by keyboard; what has no number stays last."""

    def names():
        return tab.locator("tbody th").all_inner_texts()

    assert names() == ["pair 3", "pair 1", "pair 2", HOSTILE, "x"]
    button = tab.locator("thead button").nth(3)
    for wanted in (["pair 1", "pair 2", "pair 3"], ["pair 3", "pair 2", "pair 1"]):
        button.focus()
        tab.keyboard.press("Enter")
        assert [name for name in names() if name.startswith("pair")] == wanted
        assert names()[-1] == HOSTILE
    assert tab.locator("thead th").nth(3).get_attribute("aria-sort") == "descending"


def test_everything_is_there_without_a_script(told):
    text = page.render(told).decode()
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert "alert" not in script
    for region in told.facts["regions"]:
        assert f'id="region-{region["region"]}"' in text
    assert text.count("data:image/png;base64,") == len(told.overview) + 3 * len(told.crops)
    assert page.MARK in text.encode()[:1000]
    found = []
    reader = HTMLParser()
    reader.handle_starttag = reader.handle_startendtag = lambda tag, attributes: found.append((tag, dict(attributes)))
    reader.feed(text)
    assert {tag for tag, _ in found}.isdisjoint({"img", "iframe", "link", "object", "embed", "base", "form"})
    addresses = [each[name] for _, each in found for name in ("src", "href", "action", "srcset") if name in each]
    assert {address.partition(":")[0].partition("#")[0] for address in addresses} == {"data", ""}
    assert not any(name.startswith("on") for _, each in found for name in each)


def test_a_long_table_shows_what_is_lowest(told):
    rows = [_section(z) for z in range(dossier.ROWS + 40)]
    rows[7] |= {"mean": None, "notes": ["nothing has a value"]}
    text = page.render(replace(told, facts=told.facts | {"sections": rows})).decode()
    assert f"The {dossier.ROWS} of {len(rows)} with the lowest means" in text
    assert "nothing has a value" not in text


@pytest.mark.parametrize(
    ("function", "value", "said"),
    [
        (page.share, 0.0, "0.0\u00a0%"),
        (page.share, 0.0001, "<\u202f0.1\u00a0%"),
        (page.share, 0.99999, ">\u202f99.9\u00a0%"),
        (page.share, 1.0, "100.0\u00a0%"),
        (page.share, None, "\u2013"),
        (page.whole, 1234567, "1\u202f234\u202f567"),
        (page.plain, -0.25, "\u22120.25"),
        (page.sentence, "", ""),
        (page.unit, "micrometer", "µm"),
        (page.unit, "parsec", "parsec"),
        (page.duration, 0.1234, "0.123 s"),
        (page.duration, 61.0, "1 min 1 s"),
        (page.duration, 7322.0, "2 h 2 min"),
        (page.duration, 180000.0, "2 d 2 h"),
        (page.size, 999, "999 bytes"),
        (page.size, 1234567, "1.23 MB"),
    ],
)
def test_numbers_are_said_as_people_read_them(function, value, said):
    assert function(value) == said


def test_a_negative_zero_is_none():
    assert page.number(-0.0001, 2) == "0.00"
    assert page.numbers((-1.5, 2), 1) == "\u22121.5, 2.0"


def test_what_is_not_recorded_is_said_to_be_so(told):
    for cost, words in (
        ({}, "the journal is not beside the result"),
        ({"bytes": 2000}, "2 kB stored; times are not recorded"),
        ({"bytes": 2000, "tiles_timed": 1, "seconds": 1.0, "median_seconds": 1.0, "longest_seconds": 1.0}, "for 1 of"),
    ):
        assert words in page.render(replace(told, facts=told.facts | {"cost": cost})).decode()
