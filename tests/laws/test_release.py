"""The changelog and the citation know the version; the README's commands are the ones that CI runs."""

import re
import subprocess
import tomllib

import yaml

import jaxseg
from tests.laws.tree import ROOT


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def shell_blocks(text: str) -> list[str]:
    return [block.strip() for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]


def test_the_changelog_knows_the_version():
    versions = re.findall(r"^## (\d+\.\d+\.\d+)", read("CHANGELOG.md"), re.MULTILINE)
    assert versions
    assert versions[0] == jaxseg.__version__
    ordered = sorted(versions, key=lambda v: tuple(map(int, v.split("."))), reverse=True)
    assert versions == ordered


def test_the_citation_knows_the_version():
    assert str(yaml.safe_load(read("CITATION.cff"))["version"]) == jaxseg.__version__


def test_readme_has_two_commands_and_the_second_is_what_ci_runs():
    section = read("README.md").split("\n## Two commands\n")[1].split("\n## ")[0]
    commands = shell_blocks(section)
    assert len(commands) == 2, f"two commands, the README promises: {commands}"
    made = subprocess.run(["make", "--no-print-directory", "-n", "test"], cwd=ROOT, capture_output=True, text=True)
    assert commands[1] == made.stdout.strip()
    assert "make check" in read(".ci/run").splitlines()
    assert re.search(r"^check:.*\btest\b", read("Makefile"), re.MULTILINE)


def test_the_workflow_and_the_makefile_agree():
    workflow = yaml.safe_load(read(".github/workflows/check.yml"))
    assert ".ci/run" in [step.get("run") for step in workflow["jobs"]["check"]["steps"]]


def test_packaging():
    project = tomllib.loads(read("pyproject.toml"))["project"]
    assert (ROOT / "jaxseg" / "py.typed").is_file()
    assert project["license"] == "Apache-2.0"
    heavy = [d for d in project["dependencies"] if re.match(r"(tensorflow|torch|torchvision)\b(?!-)", d)]
    assert not heavy, f"not at run time: {heavy}"
