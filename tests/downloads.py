"""What the full presets' comments download, with a few samples in it, and their commands run on that.

A server is a folder that holds the published files by the last part of their addresses, and a curl, an hf and an unzip
that have them at hand.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from tests.samples import squad, write_cifar_binary, write_coco, write_imdb, write_squad, write_vqa2

PROGRAMS = {
    # curl -fL URL | ..., curl -fLO URL, curl -fL -o FILE URL
    "curl": """
out=/dev/stdout
while [ $# -gt 0 ]; do
  case "$1" in
    -fL) ;;
    -fLO) remote=1 ;;
    -o) out=$2; shift ;;
    https://* | http://*) url=$1 ;;
    *) exit 2 ;;
  esac
  shift
done
[ -z "$remote" ] || out=${url##*/}
cat "$SERVER/${url##*/}" > "$out"
""",
    "hf": """
[ "$1 $3 $#" = "download --local-dir 4" ] || exit 2
mkdir -p "$4" && ln "$SERVER/${2##*/}"/* "$4"
""",
    "unzip": f"""
[ "$1" = -q ] && shift
exec '{sys.executable}' -m zipfile -e "$1" .
""",
}


def comment(preset: str) -> list[str]:
    """The lines at the top of a preset, without their #."""
    text = (files("mergenet.config") / "presets" / f"{preset}.yaml").read_text(encoding="utf-8")
    return [line[1:] for line in text.splitlines() if line.startswith("#")]


def commands(preset: str) -> list[str]:
    """The lines of the comment that are commands."""
    return [line.strip() for line in comment(preset) if line.startswith("   ")]


def fetch(preset: str, server: Path, root: Path) -> None:
    """Runs the comment's commands in `root`, as a user would, but for the training."""
    lines = [line for line in commands(preset) if not line.startswith("mergenet ")]
    environment = {**os.environ, "PATH": f"{server / 'bin'}{os.pathsep}{os.environ['PATH']}", "SERVER": str(server)}
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", "\n".join(lines)],
        cwd=root, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def serve(preset: str, server: Path) -> None:
    """Fills the server with the programs and with the data that the preset needs, but for checkpoints."""
    (server / "bin").mkdir(parents=True)
    for name, text in PROGRAMS.items():
        (server / "bin" / name).write_text(f"#!/bin/sh\n{text}")
        (server / "bin" / name).chmod(0o755)
    DATA[preset](server)


def serve_cifar(server: Path) -> None:
    pack(server, "cifar-100-binary", "gztar", write_cifar_binary(server, "cifar100", 20))


def serve_reviews(server: Path) -> None:
    write_imdb(server)
    pack(server, "aclImdb_v1", "gztar", server / "aclImdb")


def serve_texts(server: Path) -> None:
    serve_reviews(server)
    write_squad(server, squad(20), squad(3, "dev"))


def serve_vqa(server: Path) -> None:
    write_vqa2(server, num_images=84)  # a tenth of the training images are enough for 8 steps of 2 questions
    for kind, file in (("Questions", "OpenEnded_mscoco_{}_questions"), ("Annotations", "mscoco_{}_annotations")):
        for part in ("train", "val"):
            pack(server, f"v2_{kind}_{part.title()}_mscoco", "zip", server / f"v2_{file.format(part + '2014')}.json")
    serve_images(server)


def serve_captions(server: Path) -> None:
    write_coco(server, num_images=160)  # a tenth of the training images are enough for 8 steps of 2 captions
    pack(server, "caption_datasets", "zip", server / "dataset_coco.json")
    serve_images(server)


def serve_images(server: Path) -> None:
    for name in ("train2014", "val2014"):
        pack(server, name, "zip", server / name)


def pack(server: Path, archive: str, kind: str, content: Path) -> None:
    """An archive with a file or folder of the server, which goes."""
    shutil.make_archive(str(server / archive), kind, server, content.name)
    shutil.rmtree(content) if content.is_dir() else content.unlink()


DATA: dict[str, Callable[[Path], None]] = {
    "as-released-full": serve_cifar,
    "cross-structure-full": serve_cifar,
    "cross-task-full": serve_texts,
    "frozen-source-full": serve_cifar,
    "frozen-text-full": serve_reviews,
    "retrieval-full": serve_captions,
    "self-full": serve_cifar,
    "vqa-full": serve_vqa,
}


def repositories(preset: str) -> list[str]:
    """Last names of the checkpoints that the comment downloads from the hub."""
    return [name for line in commands(preset) for name in re.findall(r"^hf download (?:\S+/)?(\S+)", line)]
