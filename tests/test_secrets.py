"""A planted secret is in no file that a run makes and in nothing that is said, whether verbs succeed or fail."""

import logging

import pytest
from click.testing import CliRunner

from bigncc.cli import cli
from bigncc.errors import BignccError
from bigncc.events import way_of
from tests import pairs

SECRET = "S3CR3T"
VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "GOOGLE_SERVICE_ACCOUNT_KEY", "AZURE_STORAGE_KEY")

CONFIG = """\
engine: {{memory: 2GB}}
output: {{chunks: [64, 64]}}
registration: {{model: none}}
cluster: {{kind: {kind}, options: {{queue: short, env_extra: [export TOKEN={secret}]}}, workers: 2}}
"""

FAIL = {
    "a user in an address": ("reference.url=s3://user:S3CR3T@bucket/a.zarr",),
    "a signed address": ("reference.url=https://host/a.zarr?X-Amz-Signature=S3CR3T",),
    "a fragment": ("reference.url=https://host/a.zarr#S3CR3T",),
    "a chain": ("reference.url=simplecache::s3://user:S3CR3T@bucket/a.zarr",),
    "another kind": ("reference.url=ftp://user:S3CR3T@host/a.zarr",),
    "a file of a host": ("reference.url=file://user:S3CR3T@host/a.zarr",),
    "an output": ("output.url=s3://user:S3CR3T@bucket/out",),
    "a signed output": ("output.url=s3://bucket/out?token=S3CR3T",),
    "a mask": ("reference.mask.url=https://user:S3CR3T@host/a.zarr",),
    "a transform": ("registration={model: null, transform: 'https://host/t.json?sig=S3CR3T'}",),
    "a field": ("registration={model: null, displacement: {url: 'https://u:S3CR3T@host/f.zarr'}}",),
    "a key of the store": ("reference.storage.secret_access_key=S3CR3T",),
    "a store that is none": ("reference.storage=S3CR3T",),
    "a flag that is none": ("reference.storage.anonymous=S3CR3T",),
    "an endpoint": ("reference.url=s3://bucket/a", "reference.storage.endpoint=https://user:S3CR3T@host"),
    "a signed endpoint": ("reference.url=s3://bucket/a", "reference.storage.endpoint=https://host/?key=S3CR3T"),
    "yaml that is none": ("reference.storage={key: [S3CR3T",),
    "a tag": ("reference.storage=!S3CR3T",),
    "a name": ("reference.storage=*S3CR3T",),
    "a key twice": ("reference.storage={region: S3CR3T, region: S3CR3T}",),
    "options that are none": ("cluster.options=[S3CR3T]",),
    "files of TLS": ("cluster.security=S3CR3T",),
}


@pytest.fixture
def say(monkeypatch, tmp_path, caplog):
    """Return what calls a verb and gives all that it said, on either channel or in a log."""
    monkeypatch.chdir(tmp_path)
    for name in VARIABLES:
        monkeypatch.setenv(name, SECRET)
    caplog.set_level(logging.DEBUG)

    def call(*words):
        caplog.clear()
        result = CliRunner().invoke(cli, words, obj=way_of(words))
        error = result.exception
        assert error is None or isinstance(error, BignccError), error
        return result.output + result.stderr + str(error or "") + caplog.text, error

    return call


def leaks(folder, beside=()):
    """Return the files below a folder that hold the secret."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in beside)
    return [str(path) for path in files if SECRET.encode() in path.read_bytes() or SECRET in path.name]


def test_verbs_that_succeed_keep_secrets_to_themselves(tmp_path, say):
    pairs.pair(tmp_path)
    (tmp_path / "where.yaml").write_text(CONFIG.format(kind="slurm", secret=SECRET))
    words = ("a.zarr", "b.zarr", "out", "where.yaml")
    said = [say(verb, *words) for verb in ("plan", "prepare", "script")]
    # without the cluster it is the same request
    here = ("a.zarr", "b.zarr", "out", "output.chunks=[64, 64]", "registration.model=none")
    said += [say("run", *here)]
    said += [say(verb, "out") for verb in ("status", "verify", "report")]
    assert [error for _, error in said] == [None] * len(said)
    assert not [text for text, _ in said if SECRET in text]
    assert (tmp_path / "out" / "zarr.json").exists()
    assert (tmp_path / "out.bigncc" / "plan.json").exists()
    assert not leaks(tmp_path, {"where.yaml"})
    assert leaks(tmp_path)  # or nothing was looked for


@pytest.mark.parametrize("name", list(FAIL))
@pytest.mark.parametrize("verb", ["plan", "run", "script"])
def test_verbs_that_fail_keep_secrets_to_themselves(tmp_path, say, name, verb):
    text, error = say(verb, "a.zarr", "b.zarr", "out", *FAIL[name])
    if verb != "script" or error is not None:
        assert SECRET not in text
        assert error is not None
    assert not leaks(tmp_path)


def test_a_config_that_fails_is_not_quoted(tmp_path, say):
    for line in ("\t", "b: [", "c: *d", "storage: &e !f", "engine: {memory: x"):
        (tmp_path / "c.yaml").write_text(f"reference: {{url: a, storage: {{key: {SECRET}}}}} {line}\n")
        text, error = say("plan", "c.yaml")
        assert error is not None
        assert SECRET not in text
