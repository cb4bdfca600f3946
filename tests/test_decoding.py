"""What `plan` says of decoding is what a run decodes."""

import json
import math

import numpy as np
import pytest

from bigncc import budget, decoding, inputs, pipeline, reading
from tests import pairs

WAYS = ("registration.model=none", "registration.transform={turned}", "registration.displacement.url={field}")


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A config of a way to register, and the images that decode for it, chunk by chunk."""
    monkeypatch.setattr(budget, "CELL", 1)
    reference, moving, *_ = pairs.pair(tmp_path, (128, 160), chunks=(8, 10))
    c, s = math.cos(math.radians(20)), math.sin(math.radians(20))
    turned = {"kind": "affine", "matrix": [[c, -s], [s, c]], "offset": [55.5, 20.25]}
    (tmp_path / "t.json").write_text(json.dumps(turned))
    np.save(tmp_path / "f.npy", np.random.default_rng(0).uniform(-9, 9, (2, 9, 11)))
    places = {"turned": tmp_path / "t.json", "field": tmp_path / "f.npy"}

    def made(how, *words):
        more = ["registration.displacement.step=16"] if "displacement" in how else []
        more += ["registration.trust_field=true"] if "model" not in how else []
        how = ["registration.model=null", how.format(**places), *more]
        return pairs.job(reference, moving, tmp_path / "out", *how, "window.size=9", *words)

    return made


@pytest.mark.parametrize("how", WAYS)
def test_a_run_decodes_what_is_said(job, monkeypatch, how):
    made = []

    class Noted(reading.Decoded):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(inputs, "Decoded", Noted)
    said = pipeline.plan(job(how)).decode_overhead
    pipeline.run(job(how))
    assert said["reference"] == 1
    assert [image.decoded * 8 * 10 / (128 * 160) for image in made] == list(said.values())
    # what lies outside of the view of a turned image is not read
    assert said["moving image"] < 0.8 if "turned" in how else said["moving image"] == 1


@pytest.mark.parametrize("how", WAYS[1:])
def test_without_memory_each_tile_decodes_for_itself(job, monkeypatch, how):
    ample = pipeline.plan(job(how)).decode_overhead["moving image"]
    monkeypatch.setattr(decoding, "_fits", lambda *_: False)
    alone = pipeline.plan(job(how)).decode_overhead["moving image"]
    assert 1.3 * ample < alone < 4 * ample
    # some tiles speak for all
    monkeypatch.setattr(decoding, "LOOKED_AT", 60)
    assert pipeline.plan(job(how)).decode_overhead["moving image"] == pytest.approx(alone, rel=0.2)


def test_of_what_is_estimated_nothing_is_known_before(job):
    assert set(pipeline.plan(job("registration.model=translation")).decode_overhead) == {"reference"}
