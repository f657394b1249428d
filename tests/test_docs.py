"""What the pages show is true: their Python runs, their commands run, their links lead somewhere."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import jaxrec

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
if not README.exists():
    pytest.skip("the pages are not part of the wheel", allow_module_level=True)

PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
MAIN_JOB = "pip install . && python -m jaxrec run ease"
TESTS = "pip install '.[test]' && pytest"
NOTEBOOKS = [ROOT / "docs" / "quickstart.ipynb", *sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


PYTHON_PAGES = [page for page in PAGES if blocks(page, "python")]
SLOW = {"cosine-similarity.md", "deep-autoencoders.md", "weighted-factorization.md"}


def each(pages, slow):
    return [pytest.param(page, marks=[pytest.mark.slow] * (page.name in slow), id=page.name) for page in pages]


def commands(page):
    lines = "".join(blocks(page, "sh")).splitlines()
    return [line for line in lines if line.startswith("python -m jaxrec")]


COMMAND_PAGES = [page for page in PAGES if commands(page)]


@pytest.mark.parametrize("page", each(PYTHON_PAGES, SLOW))
def test_python_on_the_page_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)
    assert "print(" not in "".join(blocks(page, "python")) or capsys.readouterr().out.strip()


@pytest.mark.parametrize("page", each(COMMAND_PAGES, {"README.md"}))
def test_commands_on_the_page_run_in_order(page, tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    environment["PYTHONPATH"] = str(Path(jaxrec.__file__).parents[1])
    for command in commands(page):
        words = [sys.executable, *shlex.split(command, comments=True)[1:]]
        ran = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1000)
        assert ran.returncode == 0, command + "\n" + ran.stdout + ran.stderr
        assert ran.stdout.strip(), command


def test_readme_and_index_show_python_and_commands():
    assert {README, ROOT / "docs" / "index.md"} <= set(PYTHON_PAGES)
    assert README in COMMAND_PAGES


def test_readme_gives_the_two_commands_that_continuous_integration_runs():
    assert [block.strip() for block in blocks(README, "sh")[:2]] == [MAIN_JOB, TESTS]
    script = ROOT / ".ci" / "run"
    if script.exists():
        text = script.read_text("utf-8")
        assert f"MAIN_JOB='{MAIN_JOB}'\n" in text
        assert f'TESTS="{TESTS}"\n' in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page):
    targets = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text("utf-8"))
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_nothing_is_left_to_fill_in(page):
    assert not re.search(r"\{\{|TODO|FIXME|TBD|XXX", page.read_text("utf-8"))


def test_every_page_is_in_the_table_of_contents():
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    listed = {line for block in blocks(ROOT / "docs" / "index.md", r"\{toctree\}") for line in block.split()}
    pages = {page.stem for page in (ROOT / "docs").glob("*.[mi][dp]*") if page.stem != "index"}
    assert pages <= listed, index


def test_api_page_shows_every_public_name():
    text = (ROOT / "docs" / "api.md").read_text("utf-8")
    shown = {name.rsplit(".", 1)[-1] for name in re.findall(r"^\.\. auto\w+:: (\S+)", text, re.MULTILINE)}
    assert set(jaxrec.__all__) <= shown


def test_changelog_has_the_current_version_and_a_numerics_heading():
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert jaxrec.__version__ in text
    assert "### Numerics" in text


def cells(notebook):
    return json.loads(notebook.read_text("utf-8"))["cells"]


def code_cells(notebook):
    return [cell for cell in cells(notebook) if cell["cell_type"] == "code"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
class TestNotebook:
    def test_outputs_are_stripped(self, notebook):
        assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code_cells(notebook))

    def test_jax_is_never_installed_nor_upgraded(self, notebook):
        installs = [line for cell in code_cells(notebook) for line in cell["source"] if "install" in line]
        assert len(installs) == 1
        words = installs[0].replace('"', " ").split()
        assert not [word for word in words if re.match(r"jax(lib)?\b(?!rec)|-U|--upgrade|--force", word)]

    def test_has_a_colab_badge_for_its_own_path(self, notebook):
        text = "".join(line for cell in cells(notebook) for line in cell["source"])
        path = notebook.relative_to(ROOT).as_posix()
        assert f"https://colab.research.google.com/github/jaxrec/jaxrec/blob/main/{path})" in text


def test_notebooks_are_what_their_script_writes():
    script = ROOT / "docs" / "make_notebooks.py"
    spec = importlib.util.spec_from_file_location("make_notebooks", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert NOTEBOOKS[1:] == [module.target(example) for example in module.EXAMPLES]
    for example in module.EXAMPLES:
        written = json.loads(module.target(example).read_text("utf-8"))
        assert written == json.loads(module.notebook(example)), "run: python docs/make_notebooks.py"
        code = "\n".join(line.rstrip("\n") for cell in written["cells"] for line in cell["source"])
        assert example.read_text("utf-8").splitlines()[-1] in code


def test_page_of_examples_shows_every_notebook():
    page = ROOT / "docs" / "examples.md"
    shown = [f"notebooks/{notebook.stem}" for notebook in NOTEBOOKS[1:]]
    assert sorted(blocks(page, r"\{toctree\}")[0].split()[1:]) == shown
    assert all(f"<{each}>`" in page.read_text("utf-8") for each in shown)
