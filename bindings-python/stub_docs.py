"""Writes the docstrings of the native module into its stub, so that editors show them.

    python bindings-python/stub_docs.py           writes them
    python bindings-python/stub_docs.py --check   ends with status 1 if the stub has others

The source of the docstrings is the Rust code of the package, as the built module has it.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

from tidegate import _tidegate

STUB = Path(__file__).parent / "python" / "tidegate" / "_tidegate.pyi"


def main() -> int:
    text = STUB.read_text()
    documented = with_docs(text)
    if "--check" in sys.argv[1:]:
        return 0 if documented == text else 1
    STUB.write_text(documented)
    return 0


def with_docs(text: str) -> str:
    """The stub with the docstrings of the module in place of its own."""
    lines = text.splitlines()
    # From the end, so that the numbers of the lines above stay right.
    for node, subject in reversed(list(subjects(ast.parse(text)))):
        doc = getattr(subject, "__doc__", None)
        if not doc:
            continue
        if isinstance(node, ast.ClassDef):
            replace_in_class(lines, node, doc)
        else:
            replace_in_function(lines, node, doc)
    return "\n".join(lines) + "\n"


def subjects(tree: ast.Module) -> list[tuple[ast.ClassDef | ast.FunctionDef, Any]]:
    """The public classes and methods of the stub, each with the object of the module, in order of lines."""
    found: list[tuple[ast.ClassDef | ast.FunctionDef, Any]] = []
    for node in tree.body:
        native = getattr(_tidegate, node.name, None) if isinstance(node, ast.ClassDef) else None
        if not isinstance(node, ast.ClassDef) or native is None or node.name.startswith("_"):
            continue
        found.append((node, native))
        methods = [each for each in node.body if isinstance(each, ast.FunctionDef)]
        found.extend((each, getattr(native, each.name)) for each in methods if not each.name.startswith("_"))
    return found


def replace_in_class(lines: list[str], node: ast.ClassDef, doc: str) -> None:
    first = node.body[0]
    has_doc = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    end = (first.end_lineno or first.lineno) if has_doc else node.lineno
    while has_doc and end < len(lines) and lines[end] == "":
        end += 1
    lines[node.lineno : end] = [*docstring(doc, "    "), ""]


def replace_in_function(lines: list[str], node: ast.FunctionDef, doc: str) -> None:
    first, last = node.body[0], node.body[-1]
    if first is last and lines[last.lineno - 1].endswith(": ..."):
        at = last.lineno
        lines[at - 1] = lines[at - 1].removesuffix(" ...")
        lines[at:at] = docstring(doc, "        ")
    else:
        lines[first.lineno - 1 : last.end_lineno] = docstring(doc, "        ")


def docstring(doc: str, indent: str) -> list[str]:
    quotes = 'r"""' if "\\" in doc else '"""'
    text = [f"{indent}{line}".rstrip() for line in doc.strip().splitlines()]
    text[0] = f"{indent}{quotes}{text[0].lstrip()}"
    if len(text) == 1 and not text[0].endswith('"'):
        return [f'{text[0]}"""']
    return [*text, f'{indent}"""']


if __name__ == "__main__":
    sys.exit(main())
