"""Each key of section cluster means something for a kind, or is refused: none is accepted and ignored."""

from itertools import product

import pytest
from pydantic import ValidationError

from bigncc.machine import ClusterConfig

TLS = {"ca_file": "a", "cert": "b", "key": "c"}
VALUES = {
    "address": "tcp://127.0.0.1:1",
    "workers": 2,
    "adapt": [1, 2],
    "options": {"cores": 1},
    "security": TLS,
    "insecure": True,
    "dashboard": None,
}
LEAST = {"address": {"address": "tcp://127.0.0.1:1"}, **{key: {"workers": 1} for key in ("slurm", "pbs", "lsf", "sge")}}
MEANT = {
    "threads": set(),
    "processes": {"workers", "adapt", "dashboard"},
    "address": {"address", "security", "insecure"},
}
KINDS = ("threads", "processes", "address", "slurm", "pbs", "lsf", "sge")


def test_every_key_has_a_case():
    assert set(VALUES) == set(ClusterConfig.model_fields) - {"kind", "array"}


@pytest.mark.parametrize(("kind", "key"), list(product(KINDS, VALUES)))
def test_a_key_is_meant_or_refused(kind, key):
    keys = {"kind": kind, **LEAST.get(kind, {}), key: VALUES[key]}
    if key == "adapt":
        keys.pop("workers", None)
    if key in MEANT.get(kind, set(VALUES) - {"address"}):
        assert getattr(ClusterConfig(**keys), key) is not None or key == "dashboard"
    else:
        with pytest.raises(ValidationError, match=rf"kind is {kind}, for which {key} means nothing: .* accepted"):
            ClusterConfig(**keys)


@pytest.mark.parametrize(("keys", "most"), [({}, 1), ({"workers": 5}, 5), ({"adapt": [0, 7]}, 7)])
def test_how_many_workers_there_will_be(keys, most):
    assert ClusterConfig(kind="processes", **keys).most == most
