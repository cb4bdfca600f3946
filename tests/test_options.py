"""Every key of a config is in the table and in what shells complete; nothing else is."""

from pathlib import Path
from typing import get_args

import yaml

import bigncc
from bigncc import config, options
from bigncc.window import Border

KEYS = Path(bigncc.__file__).parent / "keys.tsv"


def flat(section, prefix=""):
    """The keys of a mapping, with dots."""
    for name, value in section.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_every_key_of_the_default_file_is_in_the_table_and_every_row_is_a_key():
    default = yaml.safe_load(config.default_yaml())
    known = {option.key: option for option in options.options()}
    assert set(flat(default)) <= known.keys()
    # what is beyond are keys of sections that may be left out
    left_out = {"reference.mask", "moving.mask", "registration.displacement", "cluster.security"}
    assert {key.rpartition(".")[0] for key in known.keys() - set(flat(default))} == left_out
    for key, option in known.items():
        assert option.meaning, key
        assert config.is_assignment(f"{key}=")
    assert known["window.border"].values == get_args(Border)
    assert known["output.pyramid"].values == ("true", "false")
    assert known["window.border"].default == default["window"]["border"]
    assert known["registration.model"].default == default["registration"]["model"]
    assert known["output.url"].default is None


def test_the_table_has_a_row_for_each_key_and_three_columns():
    rows = options.table().splitlines()
    assert rows[0] == "| key | default | meaning |"
    keys = [option.key for option in options.options() if not option.key.startswith("moving.")]
    assert [row.split("`")[1] for row in rows[2:]] == keys
    assert {row.replace("\\|", "").count("|") for row in rows} == {4}


def test_what_shells_complete_is_what_the_schema_says():
    wanted = options.listed(options.options())
    anew = "python -c 'from bigncc.options import *; print(listed(options()), end=str())' > bigncc/keys.tsv"
    assert KEYS.read_text() == wanted, anew
    assert all(line.count("\t") == 2 for line in wanted.splitlines())


def test_readme_has_the_table():
    readme = (Path(bigncc.__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    assert f"\n\n{options.table()}\n" in readme, "bigncc config --table prints it"
