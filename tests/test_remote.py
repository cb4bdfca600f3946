"""Object stores and web servers: what is on disk is there too, to the bit, whatever fails on the way."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bigncc
from bigncc import capacity, decision, engine, journal, output, pipeline, remote, store
from bigncc.errors import IncompleteError, InputError, RefusedError, StoppedError
from bigncc.storage import open_image
from tests import objectstore, pairs
from tests.test_journal import PLAN, PLAN_ONE, PLAN_TWO, row
from tests.zarrs import everything, ome, samples

COMMAND = [sys.executable, "-c", "from bigncc.cli import main; main()"]
SHAPE = (80, 96)
"""Of the pair: 9 objects per map."""


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """Do not wait between requests, and do not measure a shift, which takes longer than all tiles."""
    monkeypatch.setitem(remote._BACKOFF, "init_backoff", timedelta(milliseconds=5))
    monkeypatch.setitem(remote._BACKOFF, "max_backoff", timedelta(milliseconds=50))
    monkeypatch.setattr(decision, "registered", lambda inputs, _threads: replace(inputs, unknown="not measured"))
    remote._store.cache_clear()
    yield
    remote._store.cache_clear()


@pytest.fixture(scope="module")
def endpoints():
    with objectstore.started() as ports:
        yield ports


@pytest.fixture
def behind(endpoints, monkeypatch):
    """Return a function that chooses a fault of the store for what follows."""
    for name, value in objectstore.USER.items():
        monkeypatch.setenv(name, value)

    def choose(fault):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoints.get(fault, "http://127.0.0.1:1"))

    choose("plain")
    return choose


@pytest.fixture
def bucket(endpoints, behind):
    """A bucket of one's own."""
    return objectstore.Bucket(endpoints["plain"], f"b{uuid.uuid4().hex}").make()


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """Pairs on disk by kind, and what an ordinary run on disk makes of them."""
    folder = tmp_path_factory.mktemp("ground")
    reference, moving, f, g = pairs.pair(folder, SHAPE)
    pairs.store(folder / "a.v2", f, zarr_format=2)
    pairs.store(folder / "b.v2", g, zarr_format=2)
    pairs.store(folder / "a.shards", f, (25, 25), shards=(50, 75))
    pairs.store(folder / "b.shards", g, (25, 25), shards=(50, 75))
    pipeline.run(pairs.job(reference, moving, folder / "out"))
    return folder


@pytest.fixture
def small(monkeypatch):
    """Let a tile be one object."""
    monkeypatch.setattr(capacity, "LARGEST", 32 * 32)


def uploaded(ground, bucket, kind="zarr"):
    """Put a pair into a bucket; return its addresses."""
    return tuple(bucket.upload(ground / f"{name}.{kind}", f"in/{name}.{kind}") for name in "ab")


def downloaded(bucket, tmp_path, prefix="out"):
    return bucket.download(prefix, tmp_path / uuid.uuid4().hex)


def objects(folder):
    return {name: data for name, data in pairs.files(folder).items() if "/c/" in name}


def proven(ground, bucket, tmp_path, prefix="out"):
    """Assert that an output in a bucket is the one on disk, and that nothing else and no secret is in the bucket."""
    there = downloaded(bucket, tmp_path, prefix)
    assert objects(there) == objects(ground / "out")
    assert pairs.files(there).keys() == pairs.files(ground / "out").keys()
    beside = [key.removeprefix(f"{prefix}.bigncc/") for key in bucket.names(f"{prefix}.bigncc")]
    assert {"plan.json", "COMPLETE.json"} < set(beside)
    assert all(re.fullmatch(r"journal/\d{6}-[0-9a-f]{32}-\d{9}\.jsonl|[a-zC-T]+\.json", key) for key in beside)
    wrong = [key for key in bucket.names() if objectstore.SECRET.encode() in bucket.get(key)]
    assert wrong == []


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("plain", "zarr", ()),
        ("flaky", "zarr", ()),
        pytest.param("torn", "v2", (), marks=pytest.mark.soak),
        ("plain", "shards", ("engine.durable=all",)),
    ],
)
def test_a_run_in_a_store_is_the_run_on_disk(ground, bucket, behind, tmp_path, fault, kind, words):
    reference, moving = uploaded(ground, bucket, kind)
    behind(fault)
    result = pipeline.run(pairs.job(reference, moving, f"{bucket}/out", *words))
    assert result.url == f"{bucket}/out"
    behind("plain")
    proven(ground, bucket, tmp_path)
    assert pipeline.verify(f"{bucket}/out", recompute=2).faults == ()
    assert pipeline.status(f"{bucket}/out")["state"] == "complete"
    # who asks again computes nothing
    before = {key: bucket.get(key) for key in bucket.names()}
    pipeline.run(pairs.job(reference, moving, f"{bucket}/out"))
    assert {key: bucket.get(key) for key in bucket.names()} == before


def test_shards_are_written_whole(ground, bucket, tmp_path):
    words = {"output": {"chunks": [16, 16], "shards": [64, 64]}}
    paths = str(ground / "a.zarr"), str(ground / "b.zarr")
    pipeline.run(pairs.job(*paths, f"{bucket}/deep/er/out", words))
    pipeline.run(pairs.job(*paths, tmp_path / "out", words))
    there = downloaded(bucket, tmp_path, "deep/er/out")
    assert objects(there) == objects(tmp_path / "out")
    assert len([name for name in objects(there) if name.startswith(("0/", "labels/status/0/"))]) == 2 * 4
    pairs.same(pairs.maps(there), pairs.maps(ground / "out"))


def test_transforms_and_fields_lie_there_too(ground, bucket, tmp_path):
    import zarr

    paths = str(ground / "a.zarr"), str(ground / "b.zarr")
    (tmp_path / "t.json").write_text('{"kind": "translation", "offset": [1.5, -2.25]}')
    zarr.save_array(str(tmp_path / "f.zarr"), np.random.default_rng(0).uniform(-3, 3, (2, *SHAPE)))
    for kind, key in (("t.json", "transform"), ("f.zarr", "displacement.url")):
        bucket.upload(tmp_path / kind, kind) if kind == "f.zarr" else bucket.put(kind, (tmp_path / kind).read_bytes())
        for name, place in (("here", tmp_path / kind), ("there", f"{bucket}/{kind}")):
            how = ["registration.model=null", "registration.trust_field=true", f"registration.{key}={place}"]
            pipeline.run(pairs.job(*paths, tmp_path / f"{kind} {name}", *how))
        pairs.same(pairs.maps(tmp_path / f"{kind} here"), pairs.maps(tmp_path / f"{kind} there"))
    with pytest.raises(InputError, match="none.json' cannot be read .there is none.: a JSON file is accepted"):
        pipeline.run(
            pairs.job(*paths, tmp_path / "o", "registration.model=null", f"registration.transform={bucket}/none.json")
        )
    with pytest.raises(InputError, match=f"{bucket}/f.npy would have to be read whole: a Zarr array at an address"):
        pipeline.run(
            pairs.job(
                *paths, tmp_path / "o", "registration.model=null", f"registration.displacement.url={bucket}/f.npy"
            )
        )


def test_further_maps_lie_there_too(ground, bucket, tmp_path):
    paths = str(ground / "a.zarr"), str(ground / "b.zarr")
    (tmp_path / "t.json").write_text('{"kind": "translation", "offset": [1, 0]}')
    given = {"model": None, "transform": str(tmp_path / "t.json"), "trust_field": True}
    how = {"registration": given, "maps": ["ncc", "gain", "shift"]}
    words = "shift.step=16", "shift.search_radius=1"
    for place in (tmp_path / "out", f"{bucket}/out"):
        pipeline.run(pairs.job(*paths, place, how, *words))
    assert objects(downloaded(bucket, tmp_path)) == objects(tmp_path / "out")
    assert not pipeline.verify(f"{bucket}/out", recompute=2).faults
    plan_id = journal.read_plan(f"{bucket}/out")["plan_id"]
    pipeline.prepare(pairs.job(*paths, f"{bucket}/out"), overwrite=plan_id)
    assert not any("maps/" in key for key in bucket.names("out"))


def test_results_open_and_are_drawn(ground, bucket, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reference, moving = uploaded(ground, bucket)
    pipeline.run(pairs.job(reference, moving, f"{bucket}/my.ome.zarr"))
    found = bigncc.open_result(f"{bucket}/my.ome.zarr")
    pairs.same({name: found[name].values for name in ("ncc", "status")}, pairs.maps(ground / "out"))
    assert pipeline.report(f"{bucket}/my.ome.zarr") == tmp_path / "my.png"
    assert (tmp_path / "my.png").stat().st_size > 10_000


def test_a_run_that_was_killed_goes_on(ground, bucket, behind, tmp_path, monkeypatch, small):
    reference, moving = uploaded(ground, bucket)
    still = pairs.unmoved(tmp_path)
    job = pairs.job(reference, moving, f"{bucket}/out", *still)
    pipeline.prepare(job)  # of tiles as small as `small` says
    total = decision.stored_grid(pipeline.plan_of(f"{bucket}/out")).base
    assert total == 9
    behind("slow")
    words = ["run", reference, moving, f"{bucket}/out", *still, "output.chunks=[32,32]", "engine.threads=1"]
    with subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while len(bucket.names("out.bigncc/journal")) < 3:
            assert process.poll() is None, process.communicate()
        process.kill()
    assert process.returncode == -signal.SIGKILL
    behind("plain")
    found = pipeline.status(f"{bucket}/out")
    assert found["state"] == "in-progress"
    done = found["tiles"]["done"]
    assert 3 <= done < total
    compute, computed = engine.compute, []

    def record(job, pair, out, tile, *rest):
        computed.append(tile.index)
        return compute(job, pair, out, tile, *rest)

    monkeypatch.setattr(engine, "compute", record)
    pipeline.run(job)
    assert len(set(computed)) == len(computed) == total - done
    proven(ground, bucket, tmp_path)


def test_of_two_starts_at_once_one_decides(ground, bucket, tmp_path):
    reference, moving = uploaded(ground, bucket)
    still = pairs.unmoved(tmp_path)
    words = ["prepare", reference, moving, f"{bucket}/out", *still, "output.chunks=[32,32]"]
    both = [subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    said = [process.communicate()[0].split()[-1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    plan = json.loads(bucket.get("out.bigncc/plan.json"))
    assert {plan["plan_id"].encode()} == set(said)
    # and while they work
    job = pairs.job(reference, moving, f"{bucket}/out", *still)
    first, second = pipeline.prepare(job), pipeline.prepare(job)
    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(pipeline.complete, (first, second)))
    proven(ground, bucket, tmp_path)
    assert json.loads(bucket.get("out.bigncc/COMPLETE.json"))["plan_id"] == plan["plan_id"]


def test_a_plan_that_was_made_meanwhile_holds(ground, bucket, monkeypatch):
    reference, moving = uploaded(ground, bucket)
    job, check = pairs.job(reference, moving, f"{bucket}/out"), pipeline.check_vacant

    def late(url):
        monkeypatch.setattr(pipeline, "check_vacant", check)
        made.append(pipeline.prepare(job).job.plan_id)
        check(url)

    made = []
    monkeypatch.setattr(pipeline, "check_vacant", late)
    assert pipeline.prepare(job).job.plan_id == made[0]
    assert len(made) == 1


def test_parts_make_one_output(ground, bucket, behind, tmp_path):
    reference, moving = uploaded(ground, bucket)
    job = pairs.job(reference, moving, f"{bucket}/out")
    with pytest.raises(RefusedError, match="is not prepared"):
        pipeline.run(job, part=(0, 2))
    pipeline.prepare(job)
    for i in range(2):
        with pytest.raises(IncompleteError, match=f"{bucket}/out has"):
            pipeline.finish(f"{bucket}/out")
        assert pipeline.run(job, part=(i, 2)).complete is False
    assert pipeline.finish(f"{bucket}/out").complete
    proven(ground, bucket, tmp_path)


def test_what_is_wrong_is_found_and_mended(ground, bucket, tmp_path):
    reference, moving = uploaded(ground, bucket)
    job, url = pairs.job(reference, moving, f"{bucket}/out"), f"{bucket}/out"
    pipeline.run(job)
    flipped, gone = "out/0/c/1/1", "out/labels/status/0/c/2/2"
    data = bucket.get(flipped)
    bucket.put(flipped, data[:9] + bytes([data[9] ^ 4]) + data[10:])
    bucket.delete(gone)
    metadata = bucket.get("out/0/zarr.json")
    bucket.put("out/0/zarr.json", metadata.replace(b"blosc", b"zstd"))
    bucket.put("out/0/c/9/9", b"")
    found = pipeline.verify(url).faults
    # an array that is another one cannot be looked into
    wanted = ["0/zarr.json is not what was written", "0/c/9/9 is a file too many", "out/0 cannot be opened"]
    assert all(words in fault for words, fault in zip(wanted, found, strict=True)), found
    bucket.delete("out/0/c/9/9")
    bucket.put("out/0/zarr.json", metadata)
    found = pipeline.verify(url).faults
    assert sorted(fault.split()[0] for fault in found) == [f"{bucket}/{flipped}", f"{bucket}/{gone}"]
    bucket.put("out/0/zarr.json", b"{")
    pipeline.complete(pipeline.prepare(job, repair=True))
    assert pipeline.verify(url).faults == ()
    proven(ground, bucket, tmp_path)


def test_another_output_is_removed_only_by_its_name(ground, bucket, tmp_path):
    reference, moving = uploaded(ground, bucket)
    job, other = (pairs.job(reference, moving, f"{bucket}/out", *words) for words in ((), ("window.size=9",)))
    pipeline.run(other)
    plan_id = pipeline.status(f"{bucket}/out")["plan_id"]
    before = bucket.names()
    with pytest.raises(RefusedError, match="window.size"):
        pipeline.run(job)
    with pytest.raises(RefusedError, match=f"belongs to plan {plan_id}"):
        pipeline.prepare(job, overwrite="f" * 32)
    for alien in ("out/notes.txt", "out.bigncc/notes.txt"):
        bucket.put(alien, b"precious")
        with pytest.raises(RefusedError, match=f"{alien} was not made by bigncc"):
            pipeline.prepare(job, overwrite=plan_id)
        bucket.delete(alien)
    assert bucket.names() == before
    bucket.put("outside", b"")
    pipeline.complete(pipeline.prepare(job, overwrite=plan_id))
    proven(ground, bucket, tmp_path)
    assert "outside" in bucket.names()


def test_where_something_is_nothing_is_made(ground, bucket):
    reference, moving = uploaded(ground, bucket)
    bucket.put("mine/notes.txt", b"")
    before = bucket.names()
    for url, sentence in (
        (f"{bucket}/mine", "mine exists: a path that does not exist"),
        (f"{bucket}/mine/notes.txt", "notes.txt exists: a path that does not exist"),
        (f"{reference}/out", f"lies inside of the image {reference}"),
    ):
        with pytest.raises((RefusedError, InputError), match=sentence):
            pipeline.run(pairs.job(reference, moving, url))
    assert bucket.names() == before


# --- what is refused --------------------------------------------------------------------------------------------------


def refused(job, kind, *sentences):
    """Assert that a run ends soon, with one sentence and nothing secret in it."""
    start = time.monotonic()
    with pytest.raises(kind) as caught:
        pipeline.run(job)
    text = str(caught.value)
    assert time.monotonic() - start < 20
    assert type(caught.value) is kind
    assert all(sentence in text for sentence in sentences), text
    assert "\n" not in text
    assert len(text) < 300
    assert objectstore.SECRET not in text


def test_what_does_not_answer_is_named(ground, bucket, behind):
    reference, moving = uploaded(ground, bucket)
    local = str(ground / "a.zarr"), str(ground / "b.zarr")
    cases = (
        ("none", "Connection refused at http://127.0.0.1:1"),
        ("busy", "503 Service Unavailable, SlowDown at http"),
    )
    for fault, sentence in cases:
        behind(fault)
        refused(pairs.job(reference, moving, f"{bucket}/out"), InputError, reference, "cannot be read", sentence)
        refused(pairs.job(*local, f"{bucket}/out"), StoppedError, f"{bucket}/out.bigncc/plan.json", sentence)


def test_a_dead_endpoint_is_not_waited_for_long(bucket, behind, monkeypatch):
    monkeypatch.undo()
    for name, value in objectstore.USER.items():
        monkeypatch.setenv(name, value)
    behind("none")
    start = time.monotonic()
    with pytest.raises(InputError, match="Connection refused at .*, [0-9] times"):
        open_image(f"{bucket}/a.zarr")
    assert time.monotonic() - start < 15


def test_a_signal_is_heard_while_a_store_does_not_answer(bucket, behind, endpoints):
    behind("busy")

    def asked():
        with urllib.request.urlopen(f"{endpoints['busy']}/asked") as answer:
            return answer.read()

    command = [*COMMAND, "status", f"{bucket}/out"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while f"/{bucket.name}/out".encode() not in asked():
            assert process.poll() is None
        process.terminate()
        start = time.monotonic()
        _, said = process.communicate()
    assert time.monotonic() - start < 2
    assert (process.returncode, said) == (75, b"bigncc: stopped by SIGTERM; the same command continues\n")


def test_what_may_not_be_is_refused(ground, bucket, behind, monkeypatch):
    reference, moving = uploaded(ground, bucket)
    out = f"{bucket}/out"
    before = bucket.names()
    nowhere = f"s3://none{uuid.uuid4().hex}"
    for words in ((f"{nowhere}/a", moving, out), (reference, moving, f"{nowhere}/out")):
        refused(pairs.job(*words), InputError, f"the bucket {nowhere} does not exist")
    refused(pairs.job(reference, f"{bucket}/none", out), InputError, f"{bucket}/none does not exist")
    secret = {"reference": {"url": reference, "storage": {"anonymous": True}}}
    refused(pairs.job(reference, moving, out, secret), InputError, f"{reference}/", "access is denied")
    behind("shut")
    refused(
        pairs.job(reference, moving, out), InputError, f"{out}.bigncc/probe-", "cannot be written", "access is denied"
    )
    behind("plain")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    refused(pairs.job(reference, moving, out), InputError, f"{reference}/", "there are no credentials")
    assert bucket.names() == before


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("https://host/out.zarr", "https://host/out.zarr is on a web server"),
        ("s3://bucket", "s3://bucket is a whole bucket: s3://bucket/NAME is accepted"),
        ("s3://key:S3CR3T@bucket/out", "holds a user"),
        ("s3://bucket/out?sig=S3CR3T", "holds a user, a query"),
        ("ftp://host/out", "an address of another kind"),
        ("s3:///out", "names no object"),
        ("s3://bucket/a/../out", "names no object"),
    ],
)
def test_outputs_that_are_none(url, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        pairs.job("a", "b", url)
    assert "S3CR3T" not in str(caught.value)


def test_a_store_that_ignores_conditions_is_refused(ground, bucket, behind):
    before = bucket.names()
    behind("careless")
    job = pairs.job(str(ground / "a.zarr"), str(ground / "b.zarr"), f"{bucket}/out")
    refused(job, InputError, f"{bucket}/out.bigncc: the store writes over", "If-None-Match")
    assert bucket.names() == before


def test_a_fault_in_the_middle_of_a_run_stops_it(ground, bucket, behind, tmp_path):
    reference, moving = uploaded(ground, bucket)
    ready = pipeline.prepare(pairs.job(reference, moving, f"{bucket}/out"))
    behind("busy")
    with pytest.raises(StoppedError, match="the same command continues"):
        pipeline.complete(ready)
    behind("plain")
    pipeline.complete(pipeline.prepare(pairs.job(reference, moving, f"{bucket}/out")))
    proven(ground, bucket, tmp_path)


def test_without_obstore_an_address_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    for ask in (open_image, store.get, partial(store.put, data=b""), store.names, store.exists, store.remove):
        with pytest.raises(InputError, match=r"pip install 'bigncc\[cloud\]' it is accepted"):
            ask("s3://bucket/a.zarr")


# --- how an address is reached ----------------------------------------------------------------------------------------


def test_what_is_public_needs_no_credentials(ground, bucket, behind, monkeypatch, tmp_path):
    reference, moving = uploaded(ground, bucket)
    for name in (*objectstore.USER, "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    storage = {"anonymous": True, "endpoint": bucket.endpoint, "region": "us-east-1"}
    with pytest.raises(InputError, match="access is denied"):
        open_image(reference, storage_options=storage)
    bucket.publish("in")
    image = open_image(reference, storage_options=storage)
    assert image.url == reference
    np.testing.assert_array_equal(everything(image.array), everything(open_image(ground / "a.zarr").array))
    mask = {"url": reference, "invalid": [65536]}  # which no sample is
    sections = {"reference": {"storage": storage, "mask": mask}, "moving": {"storage": storage}}
    pipeline.run(pairs.job(reference, moving, tmp_path / "out", sections))
    assert objects(tmp_path / "out") == objects(ground / "out")
    # how it is reached is no part of the request, and is known to those who look again
    local = str(ground / "a.zarr"), str(ground / "b.zarr")
    assert pipeline.verify(str(tmp_path / "out"), recompute=1).faults == ()
    pipeline.run(pairs.job(*local, tmp_path / "out", {"reference": {"mask": mask | {"url": local[0]}}}))
    with pytest.raises(InputError, match="storage_options has key, secret: anonymous, endpoint, region are accepted"):
        open_image(reference, storage_options={"key": "a", "secret": "b"})
    with pytest.raises(InputError, match="the endpoint of s3:// is no plain address") as caught:
        open_image(reference, storage_options={"endpoint": "http://me:S3CR3T@host"})
    assert "S3CR3T" not in str(caught.value)


@pytest.mark.soak
def test_levels_channels_and_masks_are_reached_too(bucket, tmp_path):
    data = samples((2, 60, 70))
    ome(tmp_path / "a", [data, data[:, ::2, ::2]], "cyx", labels=("DAPI", "GFP"), chunks=(1, 32, 32))
    pairs.store(tmp_path / "mask", (data[0] > 40).astype("uint8"))
    image, mask = bucket.upload(tmp_path / "a", "a"), bucket.upload(tmp_path / "mask", "mask")
    section = {"channel": "GFP", "mask": {"url": mask}}
    for where, out in (((image, mask), f"{bucket}/out"), ((tmp_path / "a", tmp_path / "mask"), tmp_path / "out")):
        section = {"url": str(where[0]), "channel": "GFP", "level": 0, "mask": {"url": str(where[1])}}
        pipeline.run(pairs.job(str(where[0]), str(where[0]), out, {"reference": section, "moving": section}))
    assert objects(downloaded(bucket, tmp_path)) == objects(tmp_path / "out")
    assert [coarser.shape for coarser in open_image(image, channel=1).coarser] == [(30, 35)]
    config = pipeline.plan_of(f"{bucket}/out")["config"]
    assert config["reference"]["url"] == image
    assert config["reference"]["mask"]["url"] == mask


def test_chunks_that_are_not_stored_are_counted(bucket, tmp_path):
    pairs.store(tmp_path / "a", np.pad(samples((40, 40)), ((0, 60), (0, 60))), (20, 20))
    for path in (tmp_path / "a" / "c").rglob("*"):
        if path.is_file() and not {"0", "1"} >= {path.name, path.parent.name}:
            path.unlink()
    image = open_image(bucket.upload(tmp_path / "a", "a"))
    assert image.array.absent == 25 - 4
    np.testing.assert_array_equal(everything(image.array), everything(open_image(tmp_path / "a").array))


# --- places -----------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c/a", "c/b", "c/d/a"])
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "create", "remove", "clear"]), NAMES, st.binary(max_size=3)), max_size=8
)


def step(place, what, name, data):
    if what == "put":
        return store.put(f"{place}/{name}", data)
    if what == "create":
        return store.put_if_absent(f"{place}/{name}", data + uuid.uuid4().bytes)
    return store.remove(f"{place}/{name}") if what == "remove" else store.clear(place, last=name)


def seen(place):
    found = store.names(place)
    return {
        "names": found,
        "exists": {name: store.exists(f"{place}/{name}") for name in ("", "c", "c/d", "a", "c/d/a", "none")},
        "sizes": [len(data) for data in store.get_all(f"{place}/{name}" for name in found)],
        "none": store.get(f"{place}/none"),
    }


@given(STEPS)
@settings(max_examples=15)
def test_a_place_in_a_store_is_as_one_on_disk(endpoints, tmp_path_factory, steps):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**objectstore.USER, "AWS_ENDPOINT_URL": endpoints["plain"]}.items():
            patch.setenv(name, value)
        bucket = objectstore.Bucket(endpoints["plain"], f"b{uuid.uuid4().hex}").make()
        places = str(tmp_path_factory.mktemp("disk") / "p"), f"{bucket}/p"
        for each in steps:
            on_disk, there = (step(place, *each) for place in places)
            assert on_disk == there
        # a folder that is empty is one on disk only
        on_disk, there = map(seen, places)
        if not on_disk["names"]:
            on_disk["exists"] = dict.fromkeys(on_disk["exists"], False)
        for name in ("c", "c/d"):
            on_disk["exists"][name] = any(key.startswith(f"{name}/") for key in on_disk["names"])
        assert on_disk == there


@pytest.mark.parametrize("fault", ["plain", "flaky"])
def test_one_of_many_writers_wins(bucket, behind, fault):
    behind(fault)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda i: store.put_if_absent(f"{bucket}/plan.json", b"%d" % i), range(32)))
    assert sum(made) == 1
    assert store.get(f"{bucket}/plan.json") == b"%d" % made.index(True)


def test_who_wrote_knows_it_although_the_store_denied_it(bucket, behind):
    behind("flaky")
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda i: store.put_if_absent(f"{bucket}/{i}", b"%d" % i), range(80)))
    with ThreadPoolExecutor(4) as pool:
        assert not any(pool.map(lambda i: store.put_if_absent(f"{bucket}/{i}", b"%d!" % i), range(80)))


def test_the_last_is_removed_last(bucket, monkeypatch):
    for name in ("a", "plan.json", "z/z"):
        store.put(f"{bucket}/p/{name}", b"")
    calls = []
    monkeypatch.setattr(remote, "remove", lambda place, keys: calls.append((place, keys)))
    store.clear(f"{bucket}/p", "plan.json")
    assert calls == [(f"{bucket}/p", ["a", "z/z"]), (f"{bucket}/p", ["plan.json"])]


def test_what_a_place_lies_in():
    assert store.parents("s3://b/a/c/d") == ["s3://b/a/c", "s3://b/a", "s3://b"]
    assert store.parents("s3://b") == []
    assert store.parents("/a/b") == ["/a", "/"]


@given(st.text(st.sampled_from("ab/.:@?#%s3"), max_size=12))
def test_an_address_has_one_form_and_no_secret(text):
    try:
        place = remote.address(f"S3://{text}")
    except InputError:
        return
    assert remote.address(place) == store.absolute(place) == place
    assert not set("?#") & set(place)
    assert "@" not in place.split("/")[2]
    assert not place.endswith("/")


def test_of_what_obstore_says_the_query_is_left_out():
    text = "Error performing GET https://h/b?sig=S3CR3T in 1s, after 3 retries - odd\n\nDebug source:\nS3CR3T"
    assert remote._reason(text) == "Error performing GET https://h/b in 1s, after 3 retries - odd at https://h, 4 times"


# --- journals ---------------------------------------------------------------------------------------------------------


def test_a_journal_in_a_store_says_what_one_on_disk_says(bucket, tmp_path):
    both = str(tmp_path / "out"), f"{bucket}/out"

    def said(url):
        return [
            journal.rows(url, PLAN), journal.rows(url, PLAN, {1, 2}), journal.progress(url, PLAN),
            list(journal.fingerprints(url, PLAN)), journal.quarantined(url), journal.read_complete(url),
            journal.read_plan(url), journal.following(url, PLAN)(),
        ]  # fmt: skip

    def follow(url):
        look = journal.following(url, PLAN)
        yield said(url), look()
        with journal.writer(url, PLAN) as first:
            first.append(row(1))
            with journal.writer(url, PLAN) as second:
                second.append(replace(row(0, (0.25,)), saw={"moving": {"c/0": "ff"}}))
                first.append(row(0))
                first.append(row(1, (0.5,)))
        yield journal.progress(url, PLAN), look()
        with journal.writer(url, PLAN) as third:
            third.append(row(0, (0.75,)))
        with journal.writer(url, "f" * 32) as fourth:
            fourth.append(row(5))
        journal.quarantine(url, 3, "so")
        journal.quarantine(url, 12, "and so")
        journal.release(url, 3)
        journal.release(url, 4)
        journal.write_complete(url, {"plan_id": "x"})
        yield said(url), look()
        yield journal.settle_plan(url, PLAN_ONE), journal.settle_plan(url, PLAN_TWO)
        journal.check_removable(url)
        journal.withdraw_complete(url)
        yield said(url)[4:]
        journal.remove(url)
        yield said(url), store.names(journal.directory(url))

    for on_disk, there in zip(*map(follow, both), strict=True):
        assert on_disk == there


def test_a_plan_in_a_store_has_a_sign_of_who_wrote_it(bucket, behind):
    behind("flaky")
    for n in range(10):
        journal.settle_plan(f"{bucket}/{n}", PLAN_ONE)
        assert journal.read_plan(f"{bucket}/{n}") == PLAN_ONE
    signs = {json.loads(bucket.get(f"{n}.bigncc/plan.json"))["write"] for n in range(10)}
    assert len(signs) == 10


# --- web servers ------------------------------------------------------------------------------------------------------

NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/log;
events {{ }}
http {{
  access_log off; client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
  uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


def free_port():
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        return server.server_port


@pytest.fixture(scope="module")
def nginx(ground, tmp_path_factory):
    """The pairs behind a web server as there are many."""
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    (folder / "conf").write_text(NGINX.format(folder=folder, port=port, root=ground))
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "nginx is not installed: apt-get install nginx-light"
    with subprocess.Popen([program, "-e", folder / "log", "-c", folder / "conf"]) as process:
        url = f"http://127.0.0.1:{port}"
        for _ in range(100):
            if store.get(f"{url}/a.zarr/zarr.json"):
                break
            time.sleep(0.05)
        yield url
        process.terminate()


@pytest.fixture
def rangeless(ground):
    """The pairs behind Python's own server, which gives whole files only."""

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(ground))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("kind", ["zarr", "v2", "shards"])
def test_images_on_a_web_server(ground, nginx, tmp_path, kind):
    job = pairs.job(f"{nginx}/a.{kind}", f"{nginx}/b.{kind}", tmp_path / "out")
    notes = pipeline.plan(job).notes
    assert "reference cannot be listed: how many of its chunks are stored is not known" in notes
    pipeline.run(job)
    assert objects(tmp_path / "out") == objects(ground / "out")


def test_a_server_without_ranges_has_whole_chunks_only(ground, rangeless, tmp_path):
    pipeline.run(pairs.job(f"{rangeless}/a.zarr", f"{rangeless}/b.zarr", tmp_path / "out"))
    assert objects(tmp_path / "out") == objects(ground / "out")
    job = pairs.job(f"{rangeless}/a.shards", f"{rangeless}/b.shards", tmp_path / "other")
    refused(job, InputError, f"{rangeless}/a.shards/c/", "cannot be read in parts", "no Range requests")


def test_what_is_not_on_a_web_server(nginx, ground):
    for url, sentence in (
        (f"{nginx}/none.zarr", "none.zarr does not exist"),
        ("http://127.0.0.1:1/a.zarr", "cannot be read .Connection refused"),
    ):
        with pytest.raises(InputError, match=sentence):
            open_image(url)
    # a result can be looked at, but not its journal
    pairs.same(
        {name: bigncc.open_result(f"{nginx}/out")[name].values for name in ("ncc", "status")},
        pairs.maps(ground / "out"),
    )
    with pytest.raises(InputError, match="out.bigncc/journal cannot be listed, as web servers are not"):
        pipeline.status(f"{nginx}/out")
    with pytest.raises(InputError, match="is on a web server"):
        output.check_vacant(f"{nginx}/new")


def test_objects_that_are_larger_than_their_array_says_are_not_read(endpoints, bucket, tmp_path, monkeypatch):
    from bigncc import documents
    from bigncc.storage import open_image
    from tests.bombs import LITTLE, v3

    v3(tmp_path / "a", [LITTLE], bytes(2**20))
    bucket.upload(tmp_path / "a", "a")
    image = open_image(f"{bucket}/a").array
    with pytest.raises(InputError, match="a/c/0/0 has 1048576 bytes: at most [0-9]+ are accepted"):
        image[0:4, 0:4]
    monkeypatch.setattr(documents, "LARGEST", 100)
    with pytest.raises(InputError, match="a/zarr.json has [0-9]+ bytes: at most 100 are accepted"):
        open_image(f"{bucket}/a")
    bucket.put("t.json", bytes(200))
    with pytest.raises(InputError, match="t.json has 200 bytes: at most 100 are accepted"):
        store.get(f"{bucket}/t.json", documents.LARGEST)
