"""What the wheel and the source distribution carry beside the code: licences and metadata."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from email.parser import Parser
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
LICENCES = {
    "LICENSE-APACHE": "Apache License",
    "LICENSE-MIT": "Permission is hereby granted, free of charge",
}


def maturin(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "maturin", *arguments], cwd=PACKAGE, check=True)


def check_metadata(text: str) -> None:
    metadata = Parser().parsestr(text)
    assert metadata["Name"] == "tidegate"
    assert metadata["License-Expression"] == "MIT OR Apache-2.0"
    assert sorted(metadata.get_all("License-File", [])) == sorted(LICENCES)
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["Description-Content-Type"].startswith("text/markdown")
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])


def test_a_wheel_has_licences_and_metadata(tmp_path: Path) -> None:
    maturin("pep517", "write-dist-info", "--metadata-directory", str(tmp_path), "--interpreter", sys.executable)
    (info,) = tmp_path.iterdir()
    check_metadata((info / "METADATA").read_text())
    for name, words in LICENCES.items():
        assert words in (info / "licenses" / name).read_text()
    assert (info / "WHEEL").read_text().count("Tag: cp310-abi3-") == 1


def test_a_source_distribution_has_licences_and_metadata(tmp_path: Path) -> None:
    maturin("sdist", "--out", str(tmp_path))
    (archive,) = tmp_path.iterdir()
    with tarfile.open(archive) as files:
        root = files.getnames()[0].split("/", 1)[0]

        def text(name: str) -> str:
            member = files.getmember(f"{root}/{name}")
            assert member.isfile(), f"{name} must be a file of its own, not a link"
            opened = files.extractfile(member)
            assert opened is not None
            return opened.read().decode()

        check_metadata(text("PKG-INFO"))
        for name, words in LICENCES.items():
            assert words in text(name)
            assert words in text(f"bindings-python/{name}")
        assert f"{root}/python/tidegate/py.typed" in files.getnames()
