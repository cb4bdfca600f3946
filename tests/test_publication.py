"""The files of a report lie beside the result, nobody's file is overwritten, and an index hides nothing."""

import json
import re
import shutil
from urllib.parse import unquote

import pytest

from bigncc import publication
from bigncc.errors import IncompleteError, InputError, RefusedError
from bigncc.journal import sealed
from bigncc.output import open_output, update_attributes
from bigncc.publication import Wish, publish, publish_all
from tests import pairs, results


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two results, one of which is not complete."""
    folder = tmp_path_factory.mktemp("publication")
    paths, *_ = results.pair(folder)
    (folder / "sub dir").mkdir()
    urls = [results.run(paths, folder / "out.ome.zarr", "report.regions=1"), str(folder / "sub dir" / "b #2.zarr")]
    for suffix in ("", ".bigncc"):
        shutil.copytree(urls[0] + suffix, urls[1] + suffix)
    update_attributes(urls[1], sealed({**open_output(urls[1]).attributes, "state": "in-progress"}))
    return folder, urls


def test_each_file_is_beside_the_result_and_is_replaced_by_a_second_report(made):
    folder, (url, _) = made
    for wish, count in ((Wish(csv=True, geojson=True, regions=3), 3), (Wish(csv=True, geojson=True), 1)):
        done = publish(url, wish)
        assert [path.name for path in done.paths] == ["out.png", "out.html", "out.regions.csv", "out.geojson"]
        assert {path.parent for path in done.paths} == {folder}
        assert len(json.loads((folder / "out.geojson").read_bytes())["features"]) <= count
        assert len((folder / "out.regions.csv").read_text().splitlines()) == 1 + len(done.facts["regions"]) <= 1 + count
    assert len(done.facts["regions"]) == 1  # as its config says


@pytest.mark.parametrize("finest", [0, pytest.param(1, marks=pytest.mark.soak)])
def test_each_region_has_a_link_to_what_is_hosted(made, tmp_path, finest):
    folder, (url, _) = made
    if finest:
        url = results.run([folder / "a.zarr", folder / "b.zarr"], tmp_path / "out.ome.zarr", "output.finest_level=1")
    base = "https://host.example/results"
    facts = publication.facts(url, Wish(link=base, regions=2))
    states = [json.loads(unquote(region["link"].partition("#!")[2])) for region in facts["regions"]]
    for region, state in zip(facts["regions"], states, strict=True):
        names = list(state["dimensions"])
        for axis in "yx":
            middle = (region["physical"][axis]["from"] + region["physical"][axis]["to"]) / 2 * 1e-6
            seen = state["position"][names.index(axis)] * state["dimensions"][axis][0]
            assert abs(seen - middle) < 1e-12
        assert f"{base}/out.ome.zarr" in json.dumps(state)
    assert {region["link"] for region in publication.facts(url)["regions"]} == {""}
    with pytest.raises(InputError, match="--link is 'javascript:alert"):
        publish(url, Wish(link="javascript:alert(1)"))


def test_a_threshold_changes_what_is_low(made):
    _, (url, _) = made
    facts = [publication.facts(url, Wish(threshold=threshold)) for threshold in (-1.0, 0.5, 0.95)]
    shares = [each["share_below"] for each in facts]
    assert shares == sorted(shares)
    assert facts[0]["regions"] == []
    assert facts[1] == publication.facts(url)


@pytest.mark.parametrize("name", ["out.html", "out.regions.csv", "out.geojson", "index.html"])
def test_a_file_that_is_not_ours_is_refused_before_any_is_written(made, name):
    folder, urls = made
    kept = {path: path.read_bytes() for path in folder.glob("*.*") if path.is_file()}
    (folder / name).write_text("precious")
    before = pairs.files(folder)
    try:
        with pytest.raises(RefusedError, match=f"{name} exists and is no .* of bigncc"):
            list(publish_all(urls, Wish(csv=True, geojson=True)))
        assert pairs.files(folder) == before
    finally:
        (folder / name).unlink()
        for path, data in kept.items():
            path.write_bytes(data)


def test_an_index_lists_what_is_not_complete_and_links_what_is(made):
    folder, (url, unfinished) = made
    missing = str(folder / "none.zarr")
    files = []
    with pytest.raises(IncompleteError, match=r"2 of 3 results are not complete \(.*b #2.zarr, none.zarr\)"):
        files.extend(publish_all([url, unfinished, missing], Wish()))
    # the generator raised after the last file
    index = folder / "index.html"
    text = index.read_text()
    assert re.findall(r'<a href="([^"#]+)"', text) == ["out.html"]
    assert "sub dir/b #2.zarr" in text
    assert "missing" in text
    update_attributes(unfinished, sealed({**open_output(unfinished).attributes, "state": "complete"}))
    try:
        paths = list(publish_all([url, unfinished], Wish(), folder / "sub dir" / "all.html"))
    finally:
        update_attributes(unfinished, sealed({**open_output(unfinished).attributes, "state": "in-progress"}))
    assert paths[-1] == folder / "sub dir" / "all.html"
    assert re.findall(r'<a href="([^"#]+)"', paths[-1].read_text()) == ["../out.html", "b%20%232.html"]


def test_an_index_is_in_the_folder_that_results_share_or_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = publication.place_of
    assert place(["/a/b/x.zarr", "/a/c/y.zarr"]).as_posix() == "/a/index.html"
    assert place(["x.zarr"]) == tmp_path / "index.html"
    assert place(["/a/x.zarr", "s3://bucket/y.zarr"]) == tmp_path / "index.html"
