"""Checks that comments are sentences of their own, and that each file says what it is for.

    python scripts/check_comments.py [--counts] [file...]     all source files unless named

A comment, a paragraph of one, or a docstring may not begin with one of BANNED: such a comment is
the end of a sentence that began somewhere else, or a sentence without its subject. The first line
of a file is a comment or docstring that says what the file is for. Prints each finding, or with
--counts how many each folder has; the status is 1 if there is one.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOT_OURS = {"target", "node_modules", "dist", "corpus"}

BANNED = re.compile(
    r"(Of|That of|Those|Who|Whose|Has|As said|As above|As by|As in"  # the end of another sentence
    r"|Not|Cannot|None:|To be|Stands for|Left out:"  # no subject
    r"|Compiled|Dropped|Held|Made|Rounded|Written|Read (?:once|before|after)"
    r"|So (?:few|fast|large|long|many|much|slow|small)|In so|Short of"
    r"|Long,|(?:Large|Long) enough|Enough for|(?:Far longer|Longer) than)(?!\w)"
)

# What opens a line comment, by the file's suffix.
SLASHES = re.compile(r"(?:^|\s)//[/!]?(?=\s|$)")
HASH = re.compile(r"(?:^|\s)#(?=\s|$)")
DASHES = re.compile(r"(?:^|\s)--(?=\s|$)")
LINE_COMMENT = {
    **dict.fromkeys([".rs", ".js", ".mjs", ".cjs", ".ts", ".c"], SLASHES),
    **dict.fromkeys([".py", ".pyi", ".sh", ".toml"], HASH),
    ".lua": DASHES,
}
BLOCK_COMMENT = re.compile(r"^\s*/\*\*?(?P<text>.*?)\*/", re.DOTALL | re.MULTILINE)

# What opens a file. The manifests (.toml) need no such line.
HEADER = {
    ".rs": re.compile(r"//! \S|#!\[doc = include_str!"),
    **dict.fromkeys([".js", ".mjs", ".cjs", ".ts", ".c"], re.compile(r"/\*\*?\s")),
    **dict.fromkeys([".py", ".pyi"], re.compile(r'"""\S')),
    ".sh": re.compile(r"# \S"),
    ".lua": re.compile(r"-- \S"),
}
# The lines that may stand before a file's first line of text.
PREAMBLE = re.compile(r"(#!/.*\n|# shellcheck .*\n)*")


def main(arguments: list[str]) -> int:
    check_that_it_can_fail()
    named = [Path(argument).resolve() for argument in arguments if not argument.startswith("--")]
    paths = named or sorted(source_files(ROOT))
    findings = [(path, *finding) for path in paths for finding in findings_in(path.suffix, path.read_text("utf-8"))]
    if "--counts" in arguments:
        rooms = Counter("/".join(path.relative_to(ROOT).parts[:2]) for path, _, _ in findings)
        for room, count in sorted(rooms.items()):
            print(f"{count:5}  {room}")
    else:
        for path, line, message in findings:
            print(f"{path.relative_to(ROOT)}:{line}: {message}", file=sys.stderr)
    print(f"check_comments: {len(paths)} files, {len(findings)} findings")
    return 1 if findings else 0


def source_files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name in NOT_OURS or (path.name.startswith(".") and path.name != ".cargo"):
            continue
        if path.is_dir():
            yield from source_files(path)
        elif path.suffix in LINE_COMMENT:
            yield path


def findings_in(suffix: str, text: str) -> list[tuple[int, str]]:
    """The line and the message of each finding, in the order of lines."""
    found = []
    for line, paragraph in sorted(paragraphs(suffix, text)):
        banned = BANNED.match(paragraph)
        if banned:
            found.append((line, f'a comment begins with "{banned.group()}": {paragraph}'))
    header = HEADER.get(suffix)
    if header and text and not header.match(text, PREAMBLE.match(text).end()):
        found.insert(0, (1, "the file does not begin with a line that says what it is for"))
    return found


def paragraphs(suffix: str, text: str) -> Iterator[tuple[int, str]]:
    """The first line of each paragraph of each comment, with its number."""
    if suffix in (".py", ".pyi"):
        yield from docstrings(text)
        text = only_comments(text)
    if LINE_COMMENT[suffix] is SLASHES:
        for block in BLOCK_COMMENT.finditer(text):
            lines = [re.sub(r"^\s*\* ?", "", line) for line in block["text"].split("\n")]
            yield from starts(lines, text.count("\n", 0, block.start("text")) + 1)
    continues = False
    for number, line in enumerate(text.split("\n"), 1):
        comment = LINE_COMMENT[suffix].search(line)
        words = line[comment.end() :].strip() if comment else ""
        alone = bool(comment) and not line[: comment.start()].strip()
        if words and not (continues and alone):
            yield number, words
        continues = bool(words) and not words.startswith("```")


def docstrings(text: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            if docstring is not None:
                yield from starts(docstring.split("\n"), node.body[0].lineno)


def only_comments(text: str) -> str:
    """The text of a Python file with nothing left but its comments, each in its place."""
    lines = [""] * (text.count("\n") + 1)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            line, column = token.start
            lines[line - 1] = ("" if token.line[:column].isspace() or not column else "code ") + token.string
    return "\n".join(lines)


def starts(lines: list[str], first: int) -> Iterator[tuple[int, str]]:
    previous = ""
    for number, line in enumerate(lines, first):
        if line.strip() and not previous.strip():
            yield number, line.strip()
        previous = line


# Files with planted faults, and the lines of these.
FAULTY = {
    ".rs": (
        "//! What it is for.\n\n/// Of a call.\n/// Those lines go on.\n///\n/// Who asks.\nlet a = 1; // Has it.\n",
        [3, 6, 7],
    ),
    ".ts": (
        "// This is no block.\n\n/**\n * Whose it is.\n * Of course.\n */\nconst url = 'redis://Of';\n",
        [1, 4],
    ),
    ".py": (
        '"""Is for this."""\n\n\ndef call():\n    """Those of a call."""  # As said\n    return " # Has"\n',
        [5, 5],
    ),
    ".sh": ("#!/usr/bin/env bash\n# Is for this.\n\n# That of a call.\necho  # Offers something.\n", [4]),
    ".lua": ("local a = 1 -- Of it\n-- Is it.\n\n-- Not locked.\n", [1, 1, 4]),
}


def check_that_it_can_fail() -> None:
    """Exits unless the planted faults are found, and nothing else."""
    for suffix, (text, expected) in FAULTY.items():
        found = [line for line, _ in findings_in(suffix, text)]
        if found != expected:
            sys.exit(f"check_comments: blind: {suffix} has faults in lines {expected}, found were {found}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
