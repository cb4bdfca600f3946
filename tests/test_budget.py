"""What does not fit is refused with what would, and what is promised fits."""

import re

import pytest

from bigncc import budget, config, pipeline
from bigncc.errors import DoesNotFitError
from bigncc.inputs import open_inputs
from tests import pairs


def job(folder, *words):
    pairs.pair(folder, (700, 900), chunks=(128, 128))
    sections = {"reference": {"url": str(folder / "a.zarr")}, "moving": {"url": str(folder / "b.zarr")}}
    return lambda *more: config.load([sections, {"output": {"url": str(folder / "out")}}, *words, *more])


def test_what_a_refusal_offers_is_accepted(tmp_path):
    words = "window.size=301", "registration.model=none", "output.chunks=[700, 900]", "engine.threads=8"
    asked = job(tmp_path, *words)
    with pytest.raises(DoesNotFitError, match=r"raise engine\.memory or lower output\.chunks") as refusal:
        pipeline.plan(asked("engine.memory=375MB"))
    memory, chunks, threads = re.search(
        r"\((engine\.memory=\d+MB) fits, or (output\.chunks=\[.*\]) with (engine\.threads=\d+)\)", str(refusal.value)
    ).groups()
    assert pipeline.plan(asked(memory)).tiles == 1
    assert pipeline.plan(asked("engine.memory=375MB", chunks, threads)).tiles > 1
    # and it offers no more than is needed
    with pytest.raises(DoesNotFitError):
        pipeline.plan(asked(f"engine.memory={int(memory[14:-2]) - 1}MB"))


def test_where_nothing_fits_only_more_memory_does(tmp_path):
    with pytest.raises(DoesNotFitError, match=r"\(engine\.memory=\d+MB fits, and nothing smaller\)"):
        pipeline.plan(job(tmp_path, "registration.model=none")("engine.memory=100MB"))


@pytest.mark.parametrize("model", ["translation", "none"])
def test_a_shift_is_measured_within_the_memory(tmp_path, model):
    asked = job(tmp_path, f"registration.model={model}", "output.chunks=[64, 64]", "engine.threads=8")
    inputs = open_inputs(asked())
    threads, needed = budget.measuring(inputs, 8)
    assert threads == 8
    few = open_inputs(asked(f"engine.memory={needed // 10**6 - 40}MB"))
    if model == "translation":  # the search of the whole images is what takes most
        with pytest.raises(DoesNotFitError, match=r"measuring the shift takes \d+ MB: that much, or a transform"):
            budget.measuring(few, 8)
    else:
        fewer, less = budget.measuring(few, 8)
        assert 1 <= fewer < 8
        assert less <= budget.memory_of(few.config) < needed


def test_nothing_is_searched_with_a_transform(tmp_path):
    (tmp_path / "t.json").write_text('{"kind": "translation", "offset": [1, 2]}')
    words = "registration.model=null", f"registration.transform={tmp_path / 't.json'}"
    # but some sites, to see whether it is the right way round
    asked = job(tmp_path, *words)
    assert budget.measuring(open_inputs(asked()), 8)[0] == 8
    assert budget.measuring(open_inputs(asked("registration.trust_field=true")), 8) == (0, 0)


def test_an_array_has_tiles_for_each_of_its_jobs(tmp_path):
    asked = job(tmp_path, "registration.model=none", "output.chunks=[32, 32]", "engine.memory=2GB")
    few, many = (pipeline.plan(asked(f"cluster.array.jobs={jobs}")).tiles for jobs in (2, 40))
    assert budget.TILES <= few < budget.EACH * 40 <= many < 2 * budget.EACH * 40
    # as far as there are objects
    assert pipeline.plan(asked("cluster.array.jobs=9000")).tiles == -(-700 // 32) * -(-900 // 32)
