"""Regions as files: what programs read of them, and nobody's file overwritten."""

import csv
import io
import json

import pytest

from bigncc.errors import RefusedError
from bigncc.export import COLUMNS, HEAD, MARK, geojson, table, write


def region(number=1, **changes):
    """What facts say of a region."""
    said = {
        "region": number, "time": None, "channel": None, "lag": None, "box": {"y": [3, 9], "x": [20, 31]},
        "physical": {
            "y": {"from": 0.75, "to": 2.0, "unit": "micrometer"}, "x": {"from": 5.0, "to": 7.5, "unit": None},
        },
        "pixels": 66, "mean": 0.125, "lowest": -0.5, "threshold": 0.5, "deficit": 24.75, "link": "",
    }  # fmt: skip
    return said | changes


def test_a_table_has_what_the_facts_have():
    stack = region(2, channel=3, box={"z": [7, 8], "y": [0, 1], "x": [0, 5]}, link='https://host/?a="b,c"')
    first, second = csv.DictReader(io.StringIO(table([region(), stack]).decode()))
    assert tuple(first) == COLUMNS
    wanted = {
        "region": "1", "y_start": "3", "y_stop": "9", "x_start": "20", "x_stop": "31", "pixels": "66", "mean": "0.125",
        "lowest": "-0.5", "threshold": "0.5", "deficit": "24.75", "y_from": "0.75", "y_to": "2",
        "y_unit": "micrometer", "x_from": "5", "x_to": "7.5",
    }  # fmt: skip
    assert {name: cell for name, cell in first.items() if cell} == wanted
    assert (second["channel"], second["z_start"], second["z_stop"], second["link"]) == ("3", "7", "8", stack["link"])
    assert table([]) == HEAD + b"\n"


def test_geojson_covers_the_pixels_of_a_box_from_the_top_left_corner():
    document = json.loads(geojson([region(), region(2, time=4, box={"z": [7, 8], "y": [0, 1], "x": [0, 5]})], "plan"))
    assert document["type"] == "FeatureCollection"
    first, second = document["features"]
    # the corner of pixel (0, 0) is (0, 0): x first, closed, and as wide as the box
    assert first["geometry"]["coordinates"] == [[[20, 3], [31, 3], [31, 9], [20, 9], [20, 3]]]
    assert first["geometry"]["plane"] == {"c": -1, "z": 0, "t": 0}
    assert second["geometry"]["plane"] == {"c": -1, "z": 7, "t": 4}
    assert first["properties"]["objectType"] == "annotation"
    assert first["properties"]["measurements"] == {"Mean NCC": 0.125, "Lowest NCC": -0.5, "Pixels below": 66}
    assert "metadata" not in first["properties"]
    linked = json.loads(geojson([region(link="https://host/")], "plan"))["features"][0]
    assert linked["properties"]["metadata"] == {"link": "https://host/"}


def test_identifiers_are_those_of_the_region():
    def ids(*args):
        return [feature["id"] for feature in json.loads(geojson(*args))["features"]]

    regions = [region(), region(2), region(2, time=1)]
    assert ids(regions, "plan") == ids(regions, "plan")
    assert len({*ids(regions, "plan"), *ids(regions, "other")}) == 6


@pytest.mark.parametrize("kind", ["text", "empty", "folder"])
def test_a_file_that_is_not_ours_is_refused_and_stays(tmp_path, kind):
    path = tmp_path / "out.geojson"
    path.mkdir() if kind == "folder" else path.write_text('{"type": "FeatureCollection"}' if kind == "text" else "")
    before = path.is_dir() or path.read_bytes()
    with pytest.raises(RefusedError, match=r"out.geojson exists and is no GeoJSON of bigncc"):
        write(path, geojson([], "plan"), MARK, "GeoJSON")
    assert before == (path.is_dir() or path.read_bytes())


def test_our_own_file_is_replaced(tmp_path):
    path = tmp_path / "out.geojson"
    write(path, geojson([region()], "plan"), MARK, "GeoJSON")
    write(path, geojson([], "plan"), MARK, "GeoJSON")
    assert json.loads(path.read_bytes())["features"] == []
