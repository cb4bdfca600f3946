"""What a shell is told: how a word is completed, which versions are installed, and what a newcomer needs.

Nothing here loads what computes: a shell asks while somebody types.
"""

import os
import platform
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from click.shell_completion import CompletionItem, ShellComplete, add_completion_class, split_arg_string

WELCOME = """\
bigncc says where two registered images agree, also where they fit no memory.

  bigncc demo                        a real pair, its confidence map and a picture, in a minute
  bigncc run REF MOV OUT             your own pair; run it again to continue, bigncc plan says what it takes
  bigncc report OUT                  the picture

All verbs: bigncc --help; one of them: bigncc run --help; all keys of a job: bigncc config
"""

GUESTS = ("dask", "distributed", "numba", "numcodecs", "numpy", "scipy", "xarray", "zarr")
"""What a result may depend on, and what most faults are in."""

EXTRAS = ("cryptography", "dask-jobqueue", "neuroglancer", "obstore")
"""What is installed with extras."""

SCRIPTS = {
    "bash": r"""_bigncc_completion() {
    local IFS=$'\n' line="${COMP_LINE:0:COMP_POINT}" head="" word value
    word="${line##* }"
    # bash replaces what follows its last break
    [[ $COMP_WORDBREAKS == *=* ]] && head="${word%"${word##*[=:]}"}"
    COMPREPLY=()
    while IFS=$'\t' read -r value _; do
        [[ $value ]] || continue
        [[ $value == *[=./] ]] && compopt -o nospace
        COMPREPLY+=("$(printf %q "${value#"$head"}")")
    done < <(COMP_LINE="$line" _BIGNCC_COMPLETE=bash_complete "$1" 2>/dev/null)
}
complete -o bashdefault -o default -F _bigncc_completion bigncc
""",
    "zsh": r"""#compdef bigncc
_bigncc_completion() {
    local -a whole open
    local value meaning line="${(j: :)words[1,CURRENT]}"
    while IFS=$'\t' read -r value meaning; do
        [[ $value ]] || continue
        value="${value//:/\\:}${meaning:+:$meaning}"
        if [[ ${value%%:*} == *[=./] ]]; then open+=("$value"); else whole+=("$value"); fi
    done < <(COMP_LINE="$line" _BIGNCC_COMPLETE=zsh_complete "${(Q)words[1]}" 2>/dev/null)
    if (( ${#open} + ${#whole} == 0 )); then
        _files
        return
    fi
    _describe -V word open -S ''
    _describe -V word whole
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _bigncc_completion "$@"
else
    compdef _bigncc_completion bigncc
fi
""",
    "fish": r"""function _bigncc_completion
    set -l found (env COMP_LINE=(commandline -cp) _BIGNCC_COMPLETE=fish_complete bigncc 2>/dev/null)
    if test -n "$found"
        printf '%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete --no-files --command bigncc --arguments '(_bigncc_completion)'
""",
}
"""What a shell evaluates once. Where nothing else is completed, files are."""


class _Line(ShellComplete):
    """Completes the last word of the line in COMP_LINE; each answer is a word, and after a tab what it means."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is typed, and that one."""
        line = os.environ.get("COMP_LINE", "")
        words = split_arg_string(line)[1:]
        return (words, "") if line[-1:].isspace() or not words else (words[:-1], words[-1])

    def complete(self) -> str:
        """Return the answers; files, which the shell knows better, are left to it."""
        found = self.get_completions(*self.get_completion_args())
        return "\n".join(self.format_completion(item) for item in found if item.type == "plain")

    def format_completion(self, item: CompletionItem) -> str:
        """Return an answer as a line."""
        return f"{item.value}\t{item.help or ''}"


for _shell in SCRIPTS:
    add_completion_class(_Line, _shell)


def words(_context: Any, _parameter: Any, incomplete: str) -> list[CompletionItem]:
    """Return the keys of a config, as far as the next dot, and values that a word may become; files beside them."""
    key, is_given, value = incomplete.partition("=")
    known = _keys()
    if is_given:
        values, _ = known.get(key, ((), ""))
        found = [CompletionItem(f"{key}={each}") for each in values if each.startswith(value)]
        return found or (_files(value, f"{key}=") if key in known else [])
    parts = dict.fromkeys(_next_part(each, len(incomplete)) for each in known if each.startswith(incomplete or " "))
    found = [CompletionItem(each, help=known[each[:-1]][1] if each.endswith("=") else None) for each in parts]
    return found + _files(incomplete) if found else []


def _next_part(key: str, start: int) -> str:
    """Return a key as far as its first dot at or after `start`, or all of it as the beginning of an assignment."""
    end = key.find(".", start)
    return f"{key}=" if end < 0 else key[: end + 1]


def _keys() -> dict[str, tuple[tuple[str, ...], str]]:
    """Return values and meaning of each key, from a file since the schema takes a third of a second to load."""
    text = (resources.files("bigncc") / "keys.tsv").read_text(encoding="utf-8")
    lines = (line.split("\t") for line in text.splitlines())
    return {key: (tuple(filter(None, values.split("|"))), meaning) for key, values, meaning in lines}


def _files(incomplete: str, before: str = "") -> list[CompletionItem]:
    """Return the paths that a word may become."""
    folder, _, start = incomplete.rpartition("/")
    place = Path(folder or ("/" if incomplete.startswith("/") else "."))
    try:
        entries = sorted(place.iterdir())
    except OSError:
        return []
    named = [entry for entry in entries if entry.name.startswith(start) and (start or entry.name[0] != ".")]
    stem = before + incomplete.removesuffix(start)
    return [CompletionItem(f"{stem}{entry.name}{'/' if entry.is_dir() else ''}") for entry in named]


def versions() -> str:
    """Return a line for bigncc, Python, and each of the libraries that matter, as far as they are installed."""
    found = {"bigncc": metadata.version("bigncc"), "Python": platform.python_version()}
    for name in GUESTS + EXTRAS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "".join(f"{name} {version}\n" for name, version in found.items())
