"""A job's moving image is brought onto its reference: estimated on any channel, or given and looked at first."""

import json

import numpy as np
import pytest
from skimage.data import stereo_motorcycle

from bigncc import config, pipeline
from bigncc.errors import InputError, RegistrationError
from bigncc.registration import registration_from_dict
from bigncc.transform import to_dict
from tests import pairs, scenery

SIDE = 300


def job(tmp_path, images, *words, names=None):
    paths = [pairs.store(tmp_path / name, image, names=names) for name, image in zip("ab", images, strict=True)]
    sections = {name: {"url": path} for name, path in zip(("reference", "moving"), paths, strict=True)}
    return config.load([sections, {"output": {"url": str(tmp_path / "out")}}, "engine.threads=2", *words])


@pytest.mark.parametrize("model", ["similarity", "affine"])
def test_a_run_estimates_once_and_keeps_what_it_found(tmp_path, model):
    true = scenery.transform(4, model, SIDE)
    images = [view.astype("uint16") for view in scenery.pair(4, true, SIDE)]
    wanted = job(tmp_path, images, f"registration.model={model}")
    before = job(tmp_path / "as-is", images, "registration.model=none")
    result = pipeline.run(wanted)
    assert result.headline.startswith("moving image pulled through an affine transform: turned by ")
    assert result.summary.mean > 0.88 > 0.3 > pipeline.run(before).summary.mean
    plan = json.loads((tmp_path / "out.bigncc" / "plan.json").read_text())
    found = registration_from_dict(plan["registration"]["estimate"])
    assert plan["registration"]["transform"] == to_dict(found.transform)
    assert scenery.corner_error(found.transform, true, SIDE) < 0.2
    assert pipeline.run(wanted).headline == result.headline
    assert pipeline.verify(str(tmp_path / "out"), recompute=2).faults == ()


def test_a_displacement_is_estimated_and_kept(tmp_path):
    left, right, _ = stereo_motorcycle()
    images = [view[:256, 200:520].mean(axis=-1).astype("uint8") for view in (left, right)]
    result = pipeline.run(job(tmp_path, images, "registration.model=displacement", "window.size=9"))
    assert result.headline.startswith("moving image pulled through a displacement field")
    assert result.summary.mean > 0.4
    assert pipeline.verify(str(tmp_path / "out"), recompute=1).faults == ()


def test_one_channel_is_registered_on_and_others_are_correlated(tmp_path):
    true = scenery.transform(7, "translation", SIDE)
    textured = scenery.pair(7, true, SIDE)
    rng = np.random.default_rng(0)
    images = [np.stack([rng.normal(500, 9, view.shape), view]).astype("uint16") for view in textured]
    names = ("c", "y", "x")
    with pytest.raises(RegistrationError, match="agree on no translation"):
        pipeline.run(job(tmp_path, images, names=names))
    on = "registration.channel=1"
    found = pipeline.register(job(tmp_path / "one", images, "reference.channel=0", "moving.channel=0", on, names=names))
    assert scenery.corner_error(found.transform, true, SIDE) < 0.06
    wanted = job(tmp_path / "two", images, on, names=names)
    result = pipeline.run(wanted)
    assert scenery.corner_error(pipeline.register(wanted).transform, true, SIDE) < 0.06
    assert 0.3 < result.summary.mean < 0.7  # of noise, and of what is registered
    with pytest.raises(InputError, match="channel"):
        pipeline.run(job(tmp_path / "three", images, "registration.channel=7", names=names))


def test_a_given_transform_that_is_the_wrong_way_round_is_refused_before_anything_is_made(tmp_path):
    true = scenery.transform(5, "affine", SIDE)
    images = scenery.pair(5, true, SIDE)
    (tmp_path / "t.json").write_text(json.dumps(to_dict(true.inverse())))
    words = (f"registration.transform={tmp_path / 't.json'}",)
    with pytest.raises(InputError, match="clearly better inverted: mean correlation 1.00 instead"):
        pipeline.run(job(tmp_path, images, *words))
    assert not (tmp_path / "out").exists()
    trusted = job(tmp_path / "trusted", images, *words, "registration.trust_field=true")
    assert pipeline.run(trusted).summary.mean < 0.5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("registration={transform: t.json, channel: 1}",), "which channel is registered on"),
        (("registration={transform: t.json, initial: metadata}",), "says where to search"),
        (("registration.model=projective",), "registration.model is 'projective'"),
    ],
)
def test_words_that_say_two_things_are_refused(words, message):
    sections = {name: {"url": name} for name in ("reference", "moving", "output")}
    with pytest.raises(InputError, match=message):
        config.load([sections, *words])
