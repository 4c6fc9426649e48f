# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What AWX is given: surveys and templates as data, the project, the execution environment, and pic.cells.awx against a stand-in of the API."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.pic.cells.plugins.module_utils.program.status import CONDITIONS
from ansible_collections.pic.cells.plugins.plugin_utils import checks, job
from ansible_collections.pic.cells.plugins.plugin_utils.mesh import Mesh
from ansible_collections.pic.cells.tests.unit import forking, module_python
from ansible_collections.pic.cells.tests.unit.awx_stand_in import TOKEN, Awx, Refused, check_survey, served
from ansible_collections.pic.cells.tests.unit.controller import PROGRAMS
from ansible_collections.pic.cells.tests.unit.playbooks import built_once, called

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "playbooks" / "files" / "awx_project"
PLAY = yaml.safe_load((ROOT / "playbooks" / "awx.yml").read_text())[0]
DATA = {**PLAY["vars"], **yaml.safe_load((ROOT / "playbooks" / "vars" / "awx.yml").read_text())}
TEMPLATES = {template["playbook"].removesuffix(".yml"): template for template in DATA["__pic_cells_awx_templates"]}
WORKFLOW = DATA["__pic_cells_awx_workflow"]
SURVEYS = {name: template["survey"] for name, template in TEMPLATES.items() if "survey" in template}
# linted and run by people, not by AWX
NOT_IN_AWX = {"awx"}


def extra_vars(playbook: str) -> set[str]:
    """Return the extra vars that a playbook takes, as its head says."""
    (head,) = re.findall(r"^# (.+)$", (ROOT / "playbooks" / f"{playbook}.yml").read_text(), re.MULTILINE)[1:2]
    said = re.sub(r"\([^)]*\)", "", head.partition("Extra var")[2])
    return set(re.findall(r"\w+", said)) & {*job.INPUTS, "preshared_key"}


def test_every_playbook_has_a_template():
    assert set(TEMPLATES) == {path.stem for path in (ROOT / "playbooks").glob("*.yml")} - NOT_IN_AWX
    assert [template["name"] for template in TEMPLATES.values()] == [f"pic.cells.{name}" for name in TEMPLATES]


@pytest.mark.parametrize("survey", [*SURVEYS.values(), WORKFLOW["survey"]], ids=[*SURVEYS, "workflow"])
def test_every_survey_obeys_the_rules_of_awx(survey):
    check_survey(survey)


@pytest.mark.parametrize(
    "change",
    [
        {"required": "false"},
        {"required": None},
        {"default": None},
        {"default": True},
        {"default": "maybe"},
        {"choices": [True, False]},
        {"choices": []},
        {"type": "boolean"},
        {"variable": "cell"},
        {"max": "32"},
        {"question_name": None},
        {"required": False, "min": 1},
    ],
)
def test_the_rules_refuse_what_awx_refuses(change):
    cell, _remote_cell, offered, *_terms = SURVEYS["offer_exit"]["spec"]
    with pytest.raises(Refused):
        check_survey({"name": "", "description": "", "spec": [cell, {**offered, **change}]})


@pytest.mark.parametrize("playbook", TEMPLATES)
def test_a_survey_asks_for_exactly_what_its_playbook_takes(playbook):
    questions = SURVEYS.get(playbook, {"spec": []})["spec"]
    assert {question["variable"] for question in questions} == extra_vars(playbook)
    assert {question["variable"] for question in questions if question["required"]} == set(job.NEEDED.get(playbook, ()))


def test_a_key_is_asked_for_as_a_password_and_a_boolean_as_a_choice():
    kinds = {question["variable"]: (question["type"], question.get("choices")) for survey in SURVEYS.values() for question in survey["spec"]}
    assert kinds["preshared_key"] == ("password", None)
    assert kinds["offered"] == kinds["force"] == ("multiplechoice", ["true", "false"])
    assert [job.parse_boolean("offered", choice) for choice in kinds["offered"][1]] == [True, False]


def test_only_site_may_be_sliced():
    assert [name for name, template in TEMPLATES.items() if template["job_slice_count"] != 1] == ["site"]
    assert [name for name, template in TEMPLATES.items() if template.get("ask_job_slice_count_on_launch")] == ["site"]


def test_the_workflow_asks_for_what_its_jobs_need_and_runs_them_in_a_row():
    given = {question["variable"] for question in WORKFLOW["survey"]["spec"]}
    names = [node["unified_job_template"]["name"].removeprefix("pic.cells.") for node in WORKFLOW["nodes"]]
    assert names == ["link", "share", "status"]
    for name in names:
        assert {question["variable"] for question in SURVEYS[name]["spec"] if question["required"]} <= given
    assert [node.get("related") for node in WORKFLOW["nodes"]] == [{"success_nodes": [{"identifier": name}]} for name in names[1:]] + [None]


def test_what_runs_by_itself_needs_no_answer():
    for schedule in DATA["pic_cells_awx_schedules"]:
        survey = SURVEYS[schedule["template"].removeprefix("pic.cells.")]
        assert not any(question["required"] for question in survey["spec"])


def test_the_daily_report_fails_where_somebody_has_to_be_notified():
    (daily,) = (schedule for schedule in DATA["pic_cells_awx_schedules"] if schedule["template"] == "pic.cells.status")
    (question,) = (question for question in SURVEYS["status"]["spec"] if question["variable"] == "fail_on")
    assert daily["extra_data"] == {"fail_on": question["choices"]} == {"fail_on": list(CONDITIONS)}


@pytest.mark.parametrize("playbook", TEMPLATES)
def test_the_projects_file_imports_the_playbook(playbook):
    (play,) = yaml.safe_load((PROJECT / f"{playbook}.yml").read_text())
    assert play["ansible.builtin.import_playbook"] == f"pic.cells.{playbook}"


def test_the_project_holds_nothing_else():
    files = {str(path.relative_to(PROJECT)) for path in PROJECT.rglob("*") if path.is_file()}
    assert files == {f"{name}.yml" for name in TEMPLATES} | {"README.md", "collections/requirements.yml", "execution-environment.yml", "inventory.yml"}
    assert DATA["pic_cells_awx_inventory_file"] in files


def test_the_project_installs_the_collection_and_what_it_depends_on():
    required = {item["name"] for item in yaml.safe_load((PROJECT / "collections" / "requirements.yml").read_text())["collections"]}
    dependencies = yaml.safe_load((ROOT / "galaxy.yml").read_text())["dependencies"]
    assert required == {"pic.cells", *dependencies}
    assert "awx.awx" not in dependencies


def test_the_projects_inventory_is_one_that_is_accepted():
    cells = yaml.safe_load((PROJECT / "inventory.yml").read_text())["cells"]
    hosts = list(cells["hosts"])
    hostvars = {host: {**cells["vars"], **variables} for host, variables in cells["hosts"].items()}
    checks.check_inventory(Mesh({"hostvars": hostvars, "groups": {"cells": hosts}, "ansible_play_batch": hosts}, lambda value: value))


@pytest.mark.skipif(not shutil.which("ansible-builder"), reason="ansible-builder is not installed")
def test_the_execution_environment_has_what_the_controller_needs(tmp_path):
    definition = PROJECT / "execution-environment.yml"
    subprocess.run(["ansible-builder", "create", "--file", str(definition), "--context", str(tmp_path)], capture_output=True, check=True)
    context = {path.name: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert yaml.safe_load(context["requirements.yml"])["collections"][0] == {"name": "pic.cells"}
    assert "openssh-clients" in context["bindep.txt"]
    assert re.search(r'ANSIBLE_INSTALL_REFS="ansible-core>=2\.17 ansible-runner', context["Containerfile"])
    # as the build asks the collections that it has installed
    (tmp_path / "ansible_collections" / "pic").mkdir(parents=True)
    (tmp_path / "ansible_collections" / "pic" / "cells").symlink_to(ROOT)
    asked = subprocess.run(["ansible-builder", "introspect", str(tmp_path)], capture_output=True, text=True, check=True)
    assert re.search(r"'netaddr>=\S+  # from collection pic\.cells'", asked.stdout), asked.stdout


# --- pic.cells.awx -------------------------------------------------------------------------------------------------

needs_awx_awx = pytest.mark.skipif(find_spec("ansible_collections.awx") is None, reason="the installed package ansible brings no awx.awx any more")


# templates are made one by one, all in the same way
ONE_TEMPLATE = ("-e", json.dumps({"__pic_cells_awx_templates": DATA["__pic_cells_awx_templates"][:1]}))


RunPlaybook = Callable[..., tuple[int, str]]


@pytest.fixture(scope="session")
def _module_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("awx")
    with forking.serving(folder / "socket", module_python.__name__):
        forking.write_client(folder / "python", folder / "socket", "[dict(os.environ)]")
        yield folder / "python"


@pytest.fixture
def run_playbook(shared: Path, _serving: Callable[[Path, Path], None], _module_python: Path) -> RunPlaybook:
    """Return what runs pic.cells.awx as a person does, and returns its exit code and what it printed."""
    _serving(PROGRAMS["current"], shared)

    def run(url: str, *options: str, playbook: str = "pic.cells.awx", **variables: Any) -> tuple[int, str]:
        environment = {**os.environ, "CONTROLLER_HOST": url, "CONTROLLER_OAUTH_TOKEN": TOKEN, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_PIPELINING": "1"}
        argv = [str(PROGRAMS["current"]), playbook, "-e", f"ansible_python_interpreter={_module_python}", *options]
        for name, value in variables.items():
            argv += ["-e", json.dumps({f"pic_cells_awx_{name}": value})]
        environment.update(built_once(shared, PROGRAMS["current"]))
        done = called(argv, environment, ROOT)
        return done.returncode, done.stdout + done.stderr

    return run


@needs_awx_awx
def test_everything_is_made_and_a_second_run_changes_nothing(run_playbook: RunPlaybook) -> None:
    awx = Awx(PROJECT)
    given = {"credentials": "cells,vault", "scm_url": "https://git.example.org/cells.git", "scm_branch": "main", "scm_credential": "git", "site_slices": "2"}
    with served(awx) as url:
        code, text = run_playbook(url, "--check", **given)
        assert (code, awx.written) == (0, []), text
        code, text = run_playbook(url, "-vvv", **given)
        assert code == 0, text
        assert TOKEN not in text
        assert_made(awx)
        awx.written.clear()
        code, text = run_playbook(url, **given)
    assert code == 0, text
    assert awx.written == []
    assert "changed=0 " in text


def assert_made(awx: Awx) -> None:
    organization, project, inventory = awx.named("organizations", "Default"), awx.named("projects", "pic.cells"), awx.named("inventories", "pic.cells")
    git = {"scm_type": "git", "scm_url": "https://git.example.org/cells.git", "scm_branch": "main", "scm_update_on_launch": True}
    assert git.items() <= project.items()
    assert (project["organization"], project["credential"]) == (organization["id"], awx.named("credentials", "git")["id"])
    source = {"source": "scm", "source_path": "inventory.yml", "source_project": project["id"], "inventory": inventory["id"], "update_on_launch": True}
    assert source.items() <= awx.named("inventory_sources", "inventory.yml").items()
    assert awx.names("job_templates") == [template["name"] for template in TEMPLATES.values()]
    for name, template in TEMPLATES.items():
        made = awx.named("job_templates", template["name"])
        assert (made["project"], made["inventory"], made["playbook"]) == (project["id"], inventory["id"], f"{name}.yml")
        assert made["ask_job_type_on_launch"] is True
        assert (made["job_slice_count"], made["ask_limit_on_launch"]) == ((2, True) if name == "site" else (1, False))
        assert (made["survey_enabled"], awx.surveys.get(made["url"])) == (name in SURVEYS, SURVEYS.get(name))
        assert set(awx.linked[made["url"] + "credentials/"]) == {awx.named("credentials", name)["id"] for name in ("cells", "vault")}
    for schedule in DATA["pic_cells_awx_schedules"]:
        made = awx.named("schedules", schedule["name"])
        assert made.get("extra_data") == schedule.get("extra_data")
        assert (made["unified_job_template"], made["rrule"]) == (awx.named("job_templates", schedule["template"])["id"], schedule["rrule"])
    workflow = awx.named("workflow_job_templates", WORKFLOW["name"])
    assert awx.surveys[workflow["url"]] == WORKFLOW["survey"]
    nodes = [awx.named("workflow_job_template_nodes", name) for name in ("link", "share", "status")]
    assert [node["unified_job_template"] for node in nodes] == [awx.named("job_templates", f"pic.cells.{node['identifier']}")["id"] for node in nodes]
    assert [awx.linked.get(node["url"] + "success_nodes/", []) for node in nodes] == [[nodes[1]["id"]], [nodes[2]["id"]], []]


@needs_awx_awx
def test_what_is_there_already_is_used_by_its_name_and_what_is_not_wanted_is_not_made(run_playbook: RunPlaybook) -> None:
    awx = Awx(PROJECT)
    with served(awx) as url:
        awx.add("projects", {"name": "ours", "organization": awx.named("organizations", "Home")["id"]})
        awx.add("inventories", {"name": "all our cells", "organization": awx.named("organizations", "Home")["id"]})
        names = {"organization": "Home", "project": "ours", "inventory": "all our cells", "inventory_file": "", "execution_environment": "cells-ee"}
        code, text = run_playbook(url, *ONE_TEMPLATE, credentials=["cells"], schedules=[], workflow="false", **names)
    assert code == 0, text
    assert {path.split("/")[3] for _method, path, _body in awx.written} == {"job_templates"}
    assert {made["execution_environment"] for made in awx.items["job_templates"]} == {awx.named("execution_environments", "cells-ee")["id"]}


@needs_awx_awx
def test_a_project_can_be_a_folder_of_awx(run_playbook: RunPlaybook) -> None:
    awx = Awx(PROJECT)
    with served(awx) as url:
        awx.add("inventories", {"name": "pic.cells", "organization": awx.named("organizations", "Default")["id"]})
        code, text = run_playbook(url, *ONE_TEMPLATE, credentials="cells", local_path="cells", inventory_file="", schedules="", workflow="")
    assert code == 0, text
    project = awx.named("projects", "pic.cells")
    assert (project["scm_type"], project["local_path"], project["scm_update_on_launch"]) == ("", "cells", False)
    assert awx.items["schedules"] == awx.items["workflow_job_templates"] == []


@needs_awx_awx
@pytest.mark.parametrize("given", [{}, {"credentials": ""}, {"credentials": "cells", "scm_url": "https://git.example.org/cells.git", "local_path": "cells"}])
def test_what_is_missing_or_contradicts_itself_is_named_before_anything_is_made(given, run_playbook: RunPlaybook):
    awx = Awx(PROJECT)
    with served(awx) as url:
        code, text = run_playbook(url, **given)
    assert code != 0
    assert "needs pic_cells_awx_credentials" in text
    assert awx.written == []


GIT = {"scm_url": "https://git.example.org/cells.git", "schedules": [], "workflow": "false"}


@needs_awx_awx
def test_a_folder_of_awx_and_an_inventory_from_it_are_refused_before_anything_is_made(run_playbook: RunPlaybook) -> None:
    awx = Awx(PROJECT)
    with served(awx) as url:
        code, text = run_playbook(url, credentials="cells", local_path="cells")
    assert code != 0
    assert "AWX takes no inventory from a project that is a folder" in " ".join(text.split())
    assert awx.written == []


@needs_awx_awx
def test_a_project_whose_first_sync_failed_is_fetched_again(run_playbook: RunPlaybook) -> None:
    awx = Awx(PROJECT)
    awx.reachable = False
    with served(awx) as url:
        assert run_playbook(url, *ONE_TEMPLATE, credentials="cells", **GIT)[0] != 0
        assert awx.items["job_templates"] == []
        awx.reachable = True
        awx.written.clear()
        assert run_playbook(url, "--check", *ONE_TEMPLATE, credentials="cells", **GIT)[0] == 0
        assert awx.written == []
        code, text = run_playbook(url, *ONE_TEMPLATE, credentials="cells", **GIT)
        assert code == 0, text
        assert awx.names("job_templates") == ["pic.cells.site"]
        awx.written.clear()
        code, text = run_playbook(url, *ONE_TEMPLATE, credentials="cells", **GIT)
    assert (code, awx.written) == (0, []), text


@needs_awx_awx
def test_names_that_another_organization_has_too_are_told_apart(run_playbook: RunPlaybook) -> None:
    awx = Awx(PROJECT)
    default, home = (awx.named("organizations", name)["id"] for name in ("Default", "Home"))
    for kind, name in (("inventories", "pic.cells"), ("projects", "pic.cells"), ("job_templates", "pic.cells.site"), ("credentials", "cells")):
        awx.add(kind, {"name": name, "organization": home})
    mine = awx.add("credentials", {"name": "cells", "organization": default})
    with served(awx) as url:
        for _run in range(2):
            code, text = run_playbook(url, *ONE_TEMPLATE, credentials="cells", scm_url=GIT["scm_url"], workflow="false", schedules=[])
            assert code == 0, text
    made = next(item for item in awx.items["job_templates"] if item["organization"] == default)
    assert made["inventory"] == next(item["id"] for item in awx.items["inventories"] if item["organization"] == default)
    assert awx.linked[made["url"] + "credentials/"] == [mine["id"]]


@needs_awx_awx
def test_variables_can_be_given_where_the_playbook_is_imported(tmp_path, run_playbook: RunPlaybook):
    given = {f"pic_cells_awx_{name}": value for name, value in {"credentials": "cells", "project": "ours", **GIT}.items()}
    (tmp_path / "mine.yml").write_text(yaml.safe_dump([{"ansible.builtin.import_playbook": "pic.cells.awx", "vars": given}]))
    awx = Awx(PROJECT)
    with served(awx) as url:
        code, text = run_playbook(url, *ONE_TEMPLATE, playbook=str(tmp_path / "mine.yml"))
    assert code == 0, text
    assert awx.names("projects") == ["ours"]
