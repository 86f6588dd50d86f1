"""The house: which room may import which, what loads when, what a wheel holds, and where links lead."""

import ast
import os
import re
import resource
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1]
ROOMS = ("segmentation", "lid", "embedders", "mining", "training", "pipelines")
MAY_IMPORT = {
    "ground": set(),
    "segmentation": {"ground"},
    "lid": {"ground", "segmentation"},
    "embedders": {"ground"},
    "mining": {"ground"},
    "training": {"ground", "embedders"},
    "pipelines": {"ground", *ROOMS},
}
RUNNERS = {"apache_beam", "submitit"}
HEAVY = (
    "torch",
    "transformers",
    "faiss",
    "apache_beam",
    "speechbrain",
    "pandas",
    "datasets",
    "onnxruntime",
    "submitit",
    "duckdb",
    "streamlit",
    "altair",
    "lhotse",
    "webdataset",
)
# doors from the ground floor up, which open when they are called: commands, and `open_run`, which notebooks begin with
DOORS = tuple(f"seamlessalign/{name}.py" for name in ("cli", "training_cli", "models_cli", "exchange_cli", "__init__"))
DATA = (".tsv", ".yaml", ".json", ".safetensors", ".html", ".css", ".js")


def _modules() -> Iterator[tuple[str, Path]]:
    """Every module of the package with its room."""
    for path in sorted((HOUSE / "seamlessalign").glob("*.py")):
        yield "ground", path
    for room in ROOMS:
        for path in sorted((HOUSE / room).rglob("*.py")):
            yield room, path


MODULES = list(_modules())
CODE = [path for _, path in MODULES] + [
    path for folder in ("tests", "benchmarks") for path in sorted((HOUSE / folder).rglob("*.py"))
]


def _imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Each module that a file imports, and whether that happens as soon as the file is loaded."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _is_for_types(block)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = ["." * node.level + (node.module or "")]
            if node.module == "seamlessalign":
                names = [f"seamlessalign.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            yield name, id(node) not in inside


def _is_for_types(node: ast.AST) -> bool:
    """Whether a block is read by type checkers alone."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _room_of(name: str) -> str | None:
    """The room that an import leads into; None for what is not ours."""
    first, _, rest = name.partition(".")
    if first != "seamlessalign":
        return None
    room = rest.partition(".")[0]
    return room if room in ROOMS else "ground"


def _name(path: Path) -> str:
    return str(path.relative_to(HOUSE))


class TestImports:
    @pytest.mark.parametrize(("room", "path"), MODULES, ids=[_name(path) for _, path in MODULES])
    def test_no_arrow_runs_the_wrong_way(self, room: str, path: Path) -> None:
        for name, at_load in _imports(path):
            into = _room_of(name)
            if into is None or into == room or into in MAY_IMPORT[room]:
                continue
            assert _name(path) in DOORS and not at_load, f"{_name(path)} ({room}) imports {name}"

    @pytest.mark.parametrize("path", CODE, ids=_name)
    def test_rooms_are_reached_through_the_package(self, path: Path) -> None:
        for name, _ in _imports(path):
            assert not name.startswith("."), f"{_name(path)} imports {name}: write seamlessalign.…"
            assert name.partition(".")[0] not in ROOMS, f"{_name(path)} imports {name}: write seamlessalign.{name}"

    @pytest.mark.parametrize(("room", "path"), MODULES, ids=[_name(path) for _, path in MODULES])
    def test_only_pipelines_know_runners(self, room: str, path: Path) -> None:
        found = {name.partition(".")[0] for name, _ in _imports(path)} & RUNNERS
        assert not found or room == "pipelines", f"{_name(path)} imports {found}"

    @pytest.mark.parametrize(
        "module", ["cli", "config", "model_files", "whisper", *ROOMS], ids=lambda name: f"seamlessalign.{name}"
    )
    def test_nothing_heavy_is_loaded_by(self, module: str) -> None:
        script = f"import sys, seamlessalign.{module}; print(*[name for name in {HEAVY} if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", script], cwd=HOUSE, capture_output=True, text=True, check=True)
        assert done.stdout.split() == []

    def test_the_command_line_loads_no_numbers(self) -> None:
        """`--help` has half a second on a slow disk."""
        early = ("numpy", "pyarrow", "pydantic", "yaml", "fsspec")
        script = f"import sys, seamlessalign.cli; print(*[name for name in {early} if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", script], cwd=HOUSE, capture_output=True, text=True, check=True)
        assert done.stdout.split() == []

    def test_the_walk_sees_what_it_should(self, tmp_path: Path) -> None:
        """The tests above are as good as this reading of imports."""
        file = tmp_path / "m.py"
        file.write_text(
            "import seamlessalign.lid.text as t\nfrom seamlessalign import mining, rows\nfrom . import x\n"
            "def f():\n    from seamlessalign.pipelines.run import run\n    import apache_beam as beam\n"
            "if TYPE_CHECKING:\n    import seamlessalign.lid\n"
        )
        assert list(_imports(file)) == [
            ("seamlessalign.lid.text", True),
            ("seamlessalign.mining", True),
            ("seamlessalign.rows", True),
            (".", True),
            ("seamlessalign.pipelines.run", False),
            ("apache_beam", False),
            ("seamlessalign.lid", False),
        ]
        rooms = [_room_of(name) for name, _ in _imports(file)]
        assert rooms == ["lid", "mining", "ground", None, "pipelines", None, "lid"]


class TestOrder:
    @pytest.mark.parametrize("room", ROOMS)
    def test_a_room_is_linked_into_the_package(self, room: str) -> None:
        link = HOUSE / "seamlessalign" / room
        assert link.is_symlink() and link.readlink() == Path("..", room)
        assert (HOUSE / room / "__init__.py").is_file()

    def test_modules_have_names_that_say_something(self) -> None:
        empty = {"utils", "util", "helpers", "helper", "common", "misc"}
        assert [_name(path) for path in CODE if path.stem in empty or path.parent.name in empty] == []

    @pytest.mark.parametrize("path", [path for _, path in MODULES], ids=_name)
    def test_a_module_can_be_read_in_one_sitting(self, path: Path) -> None:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 500
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or not path.stat().st_size

    def test_tests_mirror_the_rooms(self) -> None:
        known = {"ground", *ROOMS, "parity", "faults"}
        for path in sorted((HOUSE / "tests").rglob("test_*.py")):
            folders = path.relative_to(HOUSE / "tests").parts[:-1]
            assert path.name == "test_house.py" if not folders else folders[0] in known, _name(path)
        for folder in sorted((HOUSE / "tests").iterdir()):
            assert not folder.is_dir() or folder.name in known or folder.name.startswith(("__", ".")), folder

    def test_links_in_the_documents_lead_somewhere(self) -> None:
        documents = [*HOUSE.glob("*.md"), *(HOUSE / "docs").rglob("*.md")]
        dead = [f"{_name(path)}: {link}" for path in documents for link in _dead_links(path)]
        assert dead == []

    def test_nothing_is_half_merged(self) -> None:
        files = [*HOUSE.glob("*"), *(HOUSE / "docs").rglob("*"), *(path for _, path in MODULES)]
        texts = {path: path.read_text(encoding="utf-8", errors="replace") for path in files if path.is_file()}
        marked = re.compile(r"^(<{7} |={7}$|>{7} )", re.MULTILINE)
        assert [_name(path) for path, text in texts.items() if marked.search(text)] == []

    def test_a_dead_link_is_seen(self, tmp_path: Path) -> None:
        (tmp_path / "b c.md").write_text("# A `title`, and more\n")
        page = tmp_path / "a.md"
        page.write_text(
            "# Top\n[ok](b%20c.md) [ok](#top) [ok](b%20c.md#a-title-and-more) [ok](https://x.org) ![ok](<b c.md>)\n"
            "[gone](c.md) ![gone](i.png 'title') [gone](#bottom) [gone](b%20c.md#no)\n[r]: gone.md\n"
            "```\n[code](is not a link)\n```\n"
        )
        assert _dead_links(page) == ["c.md", "i.png", "#bottom", "b%20c.md#no", "gone.md"]


def _dead_links(page: Path) -> list[str]:
    """Relative links of a Markdown file whose file or heading there is not."""
    from urllib.parse import unquote

    text = _without_code(page.read_text(encoding="utf-8"))
    inline = re.findall(r"\]\((?:<([^>]+)>|([^)\s]+))[^)]*\)", text)
    links = [a or b for a, b in inline] + re.findall(r"^\[[^\]]+\]:\s+(\S+)", text, re.MULTILINE)
    dead = []
    for link in links:
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        file, _, heading = unquote(link).partition("#")
        target = page.parent / file if file else page
        if not target.exists() or (heading and target.suffix == ".md" and heading not in _headings(target)):
            dead.append(link)
    return dead


def _headings(page: Path) -> set[str]:
    """Anchors that a page's headings get on code hosts."""
    titles = re.findall(r"^#+ +(.+?) *$", _without_code(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def _without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.slow
class TestWheel:
    """The wheel as it would be published, installed apart from this checkout."""

    @pytest.fixture(scope="class")
    def wheel(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        pytest.importorskip("build", reason="needs build of the extra 'dev'")
        copy, out = tmp_path_factory.mktemp("copy") / "tree", tmp_path_factory.mktemp("dist")
        hidden = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "runs")
        shutil.copytree(HOUSE, copy, symlinks=True, ignore=hidden)  # a build leaves folders where it works
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-x", "--outdir", str(out), str(copy)]
        done = subprocess.run(command, cwd=out, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        (built,) = out.glob("*.whl")
        return built

    @pytest.fixture(scope="class")
    def python(self, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Python of a fresh environment with the wheel; what it needs is borrowed from this one."""
        environment = tmp_path_factory.mktemp("environment")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
        python = environment / "bin" / "python"
        install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index"]
        done = subprocess.run([*install, "--quiet", str(wheel)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        (site,) = environment.glob("lib/python*/site-packages")
        (site / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"])
        return python

    def _run(self, python: Path, cwd: Path, *arguments: str) -> None:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        done = subprocess.run([str(python), *arguments], cwd=cwd, capture_output=True, text=True, env=clean)
        assert done.returncode == 0, done.stderr

    def test_it_holds_every_module_and_data_file_and_nothing_else(self, wheel: Path) -> None:
        wanted = {_inside(path) for _, path in MODULES} | {"seamlessalign/py.typed"}
        for folder in ("seamlessalign", *ROOMS):
            for path in (HOUSE / folder).rglob("*"):
                if path.suffix in DATA and not any(part.startswith(".") for part in path.parts):
                    wanted.add(_inside(path))
        held = set(zipfile.ZipFile(wheel).namelist())
        ours = {name for name in held if not re.match(r"seamlessalign-[^/]+\.dist-info/", name)}
        compiled = {name for name in ours if re.fullmatch(r"seamlessalign/mining/_scan\..*(so|pyd)", name)}
        assert len(compiled) == 1
        assert wanted - ours == set()
        assert ours - wanted == compiled

    def test_every_module_is_found_where_it_was_installed(self, python: Path, tmp_path: Path) -> None:
        names = [_inside(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".") for _, path in MODULES]
        script = (
            "import importlib.util, sys\n"
            "for name in sys.argv[1:]:\n"
            "    spec = importlib.util.find_spec(name)\n"
            "    assert spec and spec.origin.startswith(sys.prefix), (name, spec)\n"
        )
        self._run(python, tmp_path, "-c", script, *names)

    def test_its_data_files_can_be_read(self, python: Path, tmp_path: Path) -> None:
        script = (
            "from seamlessalign.languages import all_languages; assert len(all_languages()) > 100\n"
            "from seamlessalign.embedders import load_card; assert load_card('e5-small').dim == 384\n"
            "from seamlessalign.mining import native; assert native.best_isa() >= 0\n"
        )
        self._run(python, tmp_path, "-c", script)

    def test_help_comes_at_once(self, python: Path, tmp_path: Path) -> None:
        program = python.parent / "seamlessalign"
        seconds = []
        for _ in range(5):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run([str(program), "--help"], cwd=tmp_path, capture_output=True, text=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)  # of the processor: how busy it is does not count
            seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
            assert done.returncode == 0 and "usage: seamlessalign" in done.stdout
        assert min(seconds) < 0.5, seconds

    def test_it_tells_its_version(self, python: Path, wheel: Path, tmp_path: Path) -> None:
        done = subprocess.run(
            [str(python.parent / "seamlessalign"), "--version"], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0
        assert done.stdout.split()[1] == wheel.name.split("-")[1]


def _inside(path: Path) -> str:
    """Name of a file in the wheel."""
    name = _name(path)
    return name if name.startswith("seamlessalign/") else f"seamlessalign/{name}"
