"""The config is checked once, at the door, and complains in sentences."""

from pathlib import Path

import pytest
import yaml

from bigncc import Window
from bigncc.config import default_yaml, is_assignment, load
from bigncc.errors import InputError

URLS = {"reference": {"url": "a"}, "moving": {"url": "b"}, "output": {"url": "c"}}
AS_IS = "registration.model=none"
CONFIGS = Path(__file__).parent.parent / "configs"


def test_the_default_file_is_what_is_printed_and_loads():
    assert (CONFIGS / "default.yaml").read_text() == default_yaml()
    document = yaml.safe_load(default_yaml())
    config = load([str(CONFIGS / "default.yaml")])
    assert config.model_dump(mode="json") == load([document]).model_dump(mode="json")
    for name, section in document.items():
        if name == "maps":
            assert section == list(config.maps)
            continue
        assert set(section) == set(type(getattr(config, name)).model_fields)


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda p: p.name)
def test_every_config_file_loads(path):
    whole = path.parent == CONFIGS
    load([str(path)] if whole else [str(CONFIGS / "default.yaml"), str(path)])


def test_later_words_win(tmp_path):
    first, second = tmp_path / "what.yaml", tmp_path / "where.yaml"
    first.write_text("reference: {url: a}\nmoving: {url: b}\noutput: {url: c}\nwindow: {size: 5, border: mirror}\n")
    second.write_text("engine: {memory: 2GB}\nwindow: {size: [7, 9]}\n")
    config = load([str(first), str(second), AS_IS, "engine.memory=512MiB", "output.region=0:10,5:20"])
    assert config.window.window() == Window((7, 9), border="mirror")
    assert config.engine.memory == 2**29
    assert config.output.region == ((0, 10), (5, 20))


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("3:10", (3, 10)),
        ("0:4", (0, 4)),
        ("12:59", (12, 59)),
        ("3", 3),
        ("'3'", 3),
        ("[3, 10]", (3, 10)),
        ("null", None),
    ],
)
@pytest.mark.parametrize("key", ["reference.z", "moving.time"])
def test_ranges_are_no_times_of_day(tmp_path, text, choice, key):
    # to YAML 1.1, 3:10 is 190
    section, name = key.split(".")
    path = tmp_path / "job.yaml"
    path.write_text(f"{section}: {{url: a, {name}: {text}}}\n")
    for word in (f"{key}={text}", str(path)):
        config = load([URLS, word])
        assert getattr(getattr(config, section), name) == choice
        assert load([config.model_dump(mode="json")]) == config


def test_a_wall_time_is_no_number(tmp_path):
    # to YAML 1.1, 4:00:00 is 14400, and to Slurm that is ten days
    path = tmp_path / "where.yaml"
    path.write_text("cluster: {kind: pbs, workers: 1, options: {walltime: 4:00:00}}\n")
    for word in (str(path), "cluster={kind: pbs, workers: 1, options: {walltime: 4:00:00}}"):
        assert load([URLS, "engine.memory=1GB", word]).cluster.options == {"walltime": "4:00:00"}


@pytest.mark.parametrize(("text", "number"), [("4GB", 4 * 10**9), ("1.5 kB", 1500), ("7", 7), ("2GiB", 2**31)])
def test_amounts_of_memory(text, number):
    assert load([URLS, AS_IS, f"engine.memory={text}"]).engine.memory == number


def test_words_with_an_equals_sign_are_assignments_only_of_known_keys():
    assert is_assignment("window.size=7")
    assert not is_assignment("image=1.zarr")
    assert not is_assignment("a.yaml")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            (AS_IS, "window.sizes=7"),
            "config key window.sizes is unknown \\(is size meant\\?\\): size, weights, .* are accepted",
        ),
        ((AS_IS, "registration.displacement={file: x}"), "config key registration.displacement.url is missing"),
        ((AS_IS, "window.border=wrap"), "config key window.border is 'wrap': input should be 'shrink'"),
        ((AS_IS, "engine.memory=much"), "'much' is no amount of memory: a number with B, KB"),
        ((AS_IS, "engine.threads=0"), "config key engine.threads is 0"),
        ((AS_IS, "output.region=1:2;3:4"), "is no region: y0:y1,x0:x1 is accepted"),
        ((AS_IS, "output.chunks=[0, 4]"), "config key output.chunks"),
        ((AS_IS, "reference.level=-1"), "config key reference.level is -1"),
        ((AS_IS, "window=[1"), "is no YAML"),
        ((AS_IS, "registration.initial=metadata"), r"registration says where to search \(initial\) and what no search"),
        (("registration.model=projective",), "config key registration.model is 'projective'"),
        (("registration.upsample_factor=0",), "config key registration.upsample_factor is 0"),
        (("reference.url=7",), "config key reference.url is 7: a path is accepted, and from Python a zarr Array"),
        (("output.url=null",), "config key output.url is None: a path is accepted"),
        ((AS_IS, "registration.transform=t.json"), "registration says model and transform: .* one of them"),
        ((AS_IS, "registration.order=2"), "config key registration.order is 2"),
        (
            ("cluster.kind=dask",),
            "config key cluster.kind is 'dask': input should be 'threads', 'processes', ",
        ),
        (("cluster.workers=2",), "kind is threads, for which workers means nothing: another kind is accepted"),
        (
            ("cluster.kind=processes", "cluster.options={cores: 2}", "cluster.insecure=true"),
            "kind is processes, for which options, insecure means nothing: adapt, dashboard, workers are accepted",
        ),
        (
            ("cluster.kind=address",),
            "cluster: kind is address and address is null: tcp://host:port, tls",
        ),
        (("cluster.kind=address", "cluster.address=a", "cluster.workers=1"), "for which workers means nothing"),
        (
            ("cluster.kind=slurm",),
            "kind is slurm and workers is null: a number of jobs, or adapt, is",
        ),
        (
            ("cluster.kind=slurm", "cluster.workers=2"),
            "kind is slurm and engine.memory is null: .* such as 4GB",
        ),
        (
            ("cluster.kind=processes", "cluster.workers=2", "cluster.adapt=[1, 2]"),
            r"cluster: workers is 2 and adapt \[1, 2\]: one of them is accepted",
        ),
        (
            ("cluster.kind=processes", "cluster.adapt=[3, 2]"),
            r"adapt is \[3, 2\]: \[least, most\] is accepted",
        ),
        (
            ("cluster.kind=processes", "cluster.dashboard=:8787"),
            "key cluster.dashboard is ':8787': host:port, such as",
        ),
        (
            ("cluster.kind=slurm", "cluster.workers=2", "cluster.insecure=true", "cluster.security={}"),
            "config key cluster.security.ca_file is missing",
        ),
        (
            (
                "engine.memory=1GB",
                "cluster.kind=sge",
                "cluster.workers=2",
                "cluster.insecure=true",
                "cluster.security={ca_file: a, cert: b, key: c}",
            ),
            "cluster: security and insecure are given: one of them is accepted",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(words, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        load([URLS, *words])
    assert "\n" not in str(caught.value)


def test_the_sections_of_a_stack_are_both_images():
    stack = [{"reference": {"url": "a", "z": "3:9"}, "output": {"url": "out"}}, "stack.lags=1,2"]
    found = load(stack)
    assert (found.stack.lags, found.registration.model) == ((1, 2), "none")
    assert found.moving == found.reference
    assert load([*stack, {"moving": {"url": "a", "z": [3, 9]}}]) == found
    assert load([*stack, "registration.model=translation"]).registration.model == "translation"
    assert load([found.model_dump(mode="json")]) == found
    with pytest.raises(InputError, match="config key stack.lag is unknown \\(is lags meant\\?\\): lags are accepted"):
        load([stack[0], "stack.lag=1"])


def test_a_missing_section_says_what_it_is():
    with pytest.raises(InputError, match="config key moving is missing: the image that is registered"):
        load([{"reference": {"url": "a"}, "output": {"url": "c"}}, AS_IS])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "cannot be read: No such file or directory"),
        ("- 1", "holds list: a YAML mapping"),
        ("1: 2", "a YAML mapping"),
        ("\x00", "is no YAML"),
        ("!!python/object/apply:os.system [x]", "is no YAML"),
        ("", "holds NoneType"),
    ],
)
def test_files_that_are_no_config(tmp_path, text, sentence):
    path = tmp_path / "job.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=sentence):
        load([str(path)])


def test_even_windows_are_refused_by_the_window():
    with pytest.raises(InputError, match=r"window.size is \[4, 4\]"):
        load([URLS, AS_IS, "window.size=4"]).window.window()


@pytest.mark.parametrize(
    ("words", "model"),
    [
        ((), "translation"),
        ((AS_IS,), "none"),
        (("registration.transform=t.json",), None),
        (("registration.displacement.url=t.npy",), None),
    ],
)
def test_a_translation_is_estimated_unless_something_else_is_said(words, model):
    assert load([URLS, *words]).registration.model == model


def test_paths_and_objects_name_images():
    array = object()
    config = load([{**URLS, "reference": {"url": Path("x") / "a"}, "moving": {"url": array}}])
    assert config.reference.url == "x/a"
    assert config.moving.url is array
    assert config.model_dump(mode="json")["moving"]["url"] == str(array)
