"""What a user installs: public names, quiet imports, pins, and a README that is true."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import pipelines
import vidinv
from vidinv.cli import build_parser
from vidinv.packs import DEFAULT_PACK

REPOSITORY = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
PACKAGES = ["compose", "faces", "inversion", "metrics", "packs", "video"]
# Children that must not start with the parent's models, and a user's `import vidinv`.
HEAVY = {"torch", "cv2", "av", "dlib", "ray", "decord", "numpy"}


def python(program: str) -> str:
    """Standard output of a fresh interpreter."""
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def modules() -> list[str]:
    packages = [vidinv, pipelines]
    names = [m.name for p in packages for m in pkgutil.walk_packages(p.__path__, f"{p.__name__}.")]
    return [name for name in names if not name.endswith("__main__")]


def test_public_names():
    names = [
        "ClipResult",
        "__version__",
        "batch",
        "edit",
        "invert",
        "list_faces",
        "load_latents",
        "load_pack",
    ]
    assert vidinv.__all__ == names
    for name in vidinv.__all__:
        assert getattr(vidinv, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'edti'"):
        _ = vidinv.edti


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_exists_and_is_documented(package):
    module = importlib.import_module(f"vidinv.{package}")
    assert module.__all__ == sorted(module.__all__, key=isort_key)
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{package}.{name} has no docstring"


def isort_key(name: str) -> tuple[int, str]:
    """Constants, classes, functions: the order that ruff keeps."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("name", modules())
def test_every_module_says_what_it_is_for(name):
    module = importlib.import_module(name)
    is_empty = not Path(str(module.__file__)).read_text().strip()
    assert is_empty or inspect.getdoc(module)


def test_the_version_is_said_once():
    assert "version" in PROJECT["dynamic"]  # read from the file below
    assert f"## {vidinv.__version__}" in (REPOSITORY / "CHANGELOG.md").read_text()


def test_import_loads_nothing_heavy():
    loaded = python(
        "import sys, vidinv, vidinv.cli; print(*{m.split('.')[0] for m in sys.modules})"
    )
    assert not HEAVY & set(loaded.split())


def test_import_touches_no_network():
    program = (
        "import socket\n"
        "def refuse(*a, **k): raise RuntimeError('network')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        f"import importlib\nfor name in {modules()}: importlib.import_module(name)\n"
        "print('quiet')"
    )
    assert python(program) == "quiet\n"


def test_import_contracts_hold():
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as m; m()"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert ran.returncode == 0, ran.stdout
    assert " 0 broken" in ran.stdout


def test_every_direct_dependency_is_pinned_to_a_version_that_it_allows():
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    found = (re.match(r"([\w.-]+)==(\S+)", line) for line in lines)
    pins = {normal(match[1]): match[2] for match in found if match}
    extras = PROJECT["optional-dependencies"].values()
    for text in [*PROJECT["dependencies"], *(text for group in extras for text in group)]:
        requirement = Requirement(text)
        assert normal(requirement.name) in pins, f"{text} has no pin"
        assert requirement.specifier.contains(pins[normal(requirement.name)]), text


def test_a_batch_needs_no_extra():
    default = {normal(Requirement(text).name) for text in PROJECT["dependencies"]}
    assert {"ray", "fsspec"} <= default
    assert "batch" not in PROJECT["optional-dependencies"]


def test_no_text_tells_to_install_vidinv_by_name():
    """Its name on a public index may be somebody else's: extras are installed in the checkout."""
    by_name = re.compile(r"pip install [^`\n]*?(?<![\w./-])vidinv(?:\[|['\"\s]|$)")
    told = [place for place, line in tracked_lines() if by_name.search(line)]
    assert not told


def test_every_extra_that_a_text_names_exists():
    named = {
        (place, name)
        for place, line in tracked_lines()
        for group in re.findall(r"pip install [^`\n]*?\.\[([\w,]+)\]", line)
        for name in group.split(",")
    }
    assert {name for _, name in named} >= {"train", "gpu"}
    assert not {(p, name) for p, name in named if name not in PROJECT["optional-dependencies"]}


def test_nothing_is_cited_that_a_clone_has_not():
    """Design papers and data beside the repository: their facts are in docs/REFERENCES.md."""
    elsewhere = re.compile(
        r"CHECKPOINTS|METHODS_NOTES|PEERS\b|DETAIL_TRANSFER|MEASUREMENTS|\bCLI\.md"
        r"|(?<!docs/)ARCHITECTURE\.md|\.\./shared|/work/shared"
    )
    assert not [place for place, line in tracked_lines() if elsewhere.search(line)]


def test_every_heading_of_docs_that_a_text_cites_exists():
    cited = {
        (file, heading)
        for text in tracked_texts("vidinv", "pipelines", "training", "tests", "docs").values()
        for file, heading in re.findall(r'docs/(\w+\.md), "([^"]+)"', joined(text))
        if "\\" not in heading  # this very pattern
    }
    assert ("REFERENCES.md", "Feature-Style details") in cited
    for file, heading in sorted(cited):
        text = (REPOSITORY / "docs" / file).read_text()
        assert re.search(rf"^#+ {re.escape(heading)}$", text, re.MULTILINE), (file, heading)


def test_every_file_that_architecture_names_exists():
    text = (REPOSITORY / "docs" / "ARCHITECTURE.md").read_text()
    tracked = ["/" + name for name in tracked_texts("vidinv", "pipelines", "training", "tests")]
    named = set(re.findall(r"`([\w/]+\.py)`", text))
    assert "pipelines/clip/session.py" in named
    assert not {name for name in named if not any(t.endswith("/" + name) for t in tracked)}


def test_a_class_name_means_one_thing():
    texts = tracked_texts("vidinv", "pipelines", "training")
    sources = [text for name, text in texts.items() if name.endswith(".py")]
    names = Counter(re.findall(r"^class (\w+)", "\n".join(sources), re.MULTILINE))
    assert names["ClipSession"] == 1
    assert not [name for name, count in names.items() if count > 1]


def joined(text: str) -> str:
    """Text and comments without their line breaks."""
    return re.sub(r"\s*\n\s*(?:#\s*)?", " ", text)


def tracked_lines() -> Iterator[tuple[str, str]]:
    """``file:line`` and text of every line of ours outside tests/."""
    for name, text in tracked_texts(":!tests").items():
        for number, line in enumerate(text.splitlines(), start=1):
            yield f"{name}:{number}", line


def tracked_texts(*places: str) -> dict[str, str]:
    """Text of the tracked files below these places, by path; what is no text is left out."""
    command = ["git", "ls-files", "-z", "--", *places]
    listed = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    found = {name: REPOSITORY / name for name in listed.stdout.split("\0") if name}
    raw = {name: path.read_bytes() for name, path in found.items() if path.is_file()}
    return {name: data.decode() for name, data in raw.items() if b"\0" not in data}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_default_pack_is_package_data():
    package_data = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = package_data["package-data"]["vidinv.packs"]
    folder = REPOSITORY / "vidinv" / "packs"
    covered = {path for pattern in patterns for path in folder.glob(pattern)}
    assert set((folder / "default").rglob("*.safetensors")) <= covered
    assert folder / "default" / DEFAULT_PACK / "pack.json" in covered


def test_the_readme_names_only_options_and_files_that_exist():
    text = (REPOSITORY / "README.md").read_text()
    known = set(re.findall(r"--[a-z][a-z-]+", help_of_everything()))
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= known
    visible = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)#:]+)\)", visible):
        assert (REPOSITORY / link).exists(), link


def help_of_everything() -> str:
    parsers, texts = [build_parser()], []
    while parsers:
        parser = parsers.pop()
        texts.append(parser.format_help())
        for action in parser._actions:
            if isinstance(action.choices, dict):
                parsers.extend(action.choices.values())
    return "\n".join(texts)
