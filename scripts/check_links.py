"""Checks that links of Markdown files to files and headings of this project lead somewhere.

    python scripts/check_links.py README.md docs/*.md

Addresses of the web are not followed. In the documents of NAMES_FILES, each file and folder that is
named in code must exist too. Prints what does not; the status is 1 if there is any.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

FENCED_CODE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\[[^\]]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
FILE = re.compile(r"(?<![\w./*-])(?:[\w.-]+/)*[\w-][\w.-]*\.(?:rs|lua|py|pyi|js|mjs|ts|sh|md|json|toml|txt)(?![\w*])")
FOLDER = re.compile(r"(?<![\w./*:-])(?:[\w.-]+/)+(?![\w/*])|(?<![\w./*:-])[a-z-]{2,}(?:/[\w-]+)+(?![\w./*-])")
HEADING = re.compile(r"^#+\s+(.*?)\s*#*$", re.MULTILINE)

ROOT = Path(__file__).resolve().parents[1]
NAMES_FILES = {"ARCHITECTURE.md", "CONTRIBUTING.md"}
NOT_OURS = {"target", "node_modules", "dist"}


def main(paths: list[str]) -> int:
    if not paths:
        print("check_links: no Markdown file to check", file=sys.stderr)
        return 1
    broken = [message for path in paths for message in [*broken_links(Path(path)), *missing_files(Path(path))]]
    for message in broken:
        print(message, file=sys.stderr)
    print(f"check_links: {len(paths)} files, {len(broken)} broken links or names")
    return 1 if broken else 0


def broken_links(document: Path) -> list[str]:
    text = CODE_SPAN.sub("", FENCED_CODE.sub("", document.read_text(encoding="utf-8")))
    broken = []
    for match in LINK.finditer(text):
        link = match.group(1) or match.group(2)
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        path, _, fragment = link.partition("#")
        target = document.parent / unquote(path) if path else document
        if not target.exists():
            broken.append(f"{document}: {link}: there is no such file")
        elif fragment and target.suffix == ".md" and fragment not in anchors(target):
            broken.append(f"{document}: {link}: there is no such heading")
    return broken


def missing_files(document: Path) -> list[str]:
    """The files and folders that the document names in code and that are not in the project.

    A name may leave out the folders before it: `limiter/check.rs` is any file that ends so.
    """
    if document.name not in NAMES_FILES:
        return []
    text = document.read_text(encoding="utf-8")
    code = [match.group() for pattern in (FENCED_CODE, CODE_SPAN) for match in pattern.finditer(text)]
    ours = "\n".join(f"/{path}" for path in project_paths(ROOT))
    found = {name for part in code for pattern in (FILE, FOLDER) for name in pattern.findall(part)}
    return [
        f"{document}: {name}: there is no such file or folder"
        for name in sorted(found)
        if f"/{name.rstrip('/')}\n" not in f"{ours}\n"
    ]


def project_paths(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name not in NOT_OURS and (not path.name.startswith(".") or path.name == ".ci"):
            yield path.relative_to(ROOT)
            if path.is_dir():
                yield from project_paths(path)


def anchors(document: Path) -> set[str]:
    """The anchors that a Markdown file's headings get."""
    headings = HEADING.findall(FENCED_CODE.sub("", document.read_text(encoding="utf-8")))
    seen: dict[str, int] = {}
    found = set()
    for heading in headings:
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        repeat = seen.get(anchor, 0)
        seen[anchor] = repeat + 1
        found.add(f"{anchor}-{repeat}" if repeat else anchor)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
