"""Checks that links of Markdown files to files and headings of this project lead somewhere.

    python scripts/check_links.py README.md docs/*.md

Addresses of the web are not followed. Prints each broken link; the status is 1 if there is one.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from urllib.parse import unquote

FENCED_CODE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\[[^\]]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
HEADING = re.compile(r"^#+\s+(.*?)\s*#*$", re.MULTILINE)


def main(paths: list[str]) -> int:
    if not paths:
        print("check_links: no Markdown file to check", file=sys.stderr)
        return 1
    broken = [message for path in paths for message in broken_links(Path(path))]
    for message in broken:
        print(message, file=sys.stderr)
    print(f"check_links: {len(paths)} files, {len(broken)} broken links")
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
