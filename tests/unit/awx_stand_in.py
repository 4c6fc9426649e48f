# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in of the AWX API that holds state, for the modules of awx.awx: it records what is written, and refuses what AWX would."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

TOKEN = "the-token-of-the-stand-in"
API = "/api/v2/"
TEMPLATES = {"project": "projects", "inventory_source": "inventory_sources", "job_template": "job_templates", "workflow_job_template": "workflow_job_templates"}
KINDS = {"inventory": "inventories", "schedule": "schedules", "workflow_job_template_node": "workflow_job_template_nodes", **TEMPLATES}
# what a question's default has to be
QUESTIONS = {"text": str, "textarea": str, "password": str, "multiplechoice": str, "multiselect": str, "integer": int, "float": float}


class Refused(Exception):
    """AWX would answer 400."""


def is_a(value: object, kind: type) -> bool:
    """Tell whether a value is of a kind; a boolean is no number."""
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def check_survey(survey: Any) -> None:
    """Refuse what AWX refuses as a survey, or a question that could not be left without an answer although it is optional."""
    for field, kind in (("name", str), ("description", str), ("spec", list)):
        if not isinstance(survey.get(field), kind):
            raise Refused(f"{field!r} of the survey is missing or of a wrong type")
    if not survey["spec"]:
        raise Refused("'spec' doesn't contain any items")
    seen = set()
    for question in survey["spec"]:
        for field, kind in (("type", str), ("question_name", str), ("variable", str), ("required", bool)):
            if not is_a(question.get(field), kind):
                raise Refused(f"{field!r} is missing or of a wrong type: {question}")
        if not re.fullmatch(r"[A-Za-z_]\w*", question["variable"]) or question["variable"] in seen:
            raise Refused(f"'variable' is no name or duplicated: {question}")
        seen.add(question["variable"])
        if question["type"] not in QUESTIONS:
            raise Refused(f"'type' is unknown: {question}")
        if "default" in question and not is_a(question["default"], QUESTIONS[question["type"]]):
            raise Refused(f"'default' is of a wrong type: {question}")
        if not all(is_a(question.get(limit, 0), int) for limit in ("min", "max")):
            raise Refused(f"'min' and 'max' are integers: {question}")
        if not question["required"] and question.get("min", 0) > 0:
            raise Refused(f"an optional question with 'min' takes no empty answer: {question}")
        if question["type"] in ("multiplechoice", "multiselect"):
            choices = question.get("choices")
            choices = choices.splitlines() if isinstance(choices, str) else choices
            if not choices or not all(isinstance(choice, str) and choice for choice in choices):
                raise Refused(f"'choices' are missing, or are no texts: {question}")
            if not set(question.get("default", "").splitlines()) <= set(choices):
                raise Refused(f"'default' is none of the choices: {question}")


class Awx:
    """What an AWX holds: an organization and the credentials that people have made by hand, and what is written afterwards."""

    def __init__(self, playbooks: Path) -> None:
        self.items: dict[str, list[dict[str, Any]]] = {name: [] for name in (*KINDS.values(), "organizations", "credentials", "execution_environments")}
        self.surveys: dict[str, Any] = {}
        self.linked: dict[str, list[int]] = {}
        self.written: list[tuple[str, str, Any]] = []
        self.playbooks = playbooks
        self.number = 0
        self.reachable = True  # the project's repository; while it is not, a sync fails
        for kind, name in (
            ("organizations", "Default"),
            ("organizations", "Home"),
            ("credentials", "cells"),
            ("credentials", "vault"),
            ("credentials", "git"),
            ("execution_environments", "cells-ee"),
        ):
            self.add(kind, {"name": name})

    def add(self, collection: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Make an object, as AWX would return it."""
        self.number += 1
        url = f"{API}{collection}/{self.number}/"
        kind = next((kind for kind, name in KINDS.items() if name == collection), collection)
        item = {"id": self.number, "url": url, "type": kind, "summary_fields": {}, "related": {"survey_spec": f"{url}survey_spec/"}, **fields}
        if collection == "projects":
            item["scm_revision"] = ""
            item["related"]["update"] = f"{url}update/"
            item["synced"] = self.reachable or not fields.get("scm_type")
            if fields.get("scm_type"):
                item["summary_fields"] = {"current_update": {"id": 1}}
        self.items[collection].append(item)
        return item

    def named(self, collection: str, name: str) -> dict[str, Any]:
        """Return the one object of this name."""
        (item,) = (item for item in self.items[collection] if item.get("name", item.get("identifier")) == name)
        return item

    def names(self, collection: str) -> list[str]:
        """Return the names of a collection's objects."""
        return [item.get("name", item.get("identifier")) for item in self.items[collection]]

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        """Carry out a request; return the status and the answer's JSON."""
        if method != "GET":
            self.written.append((method, path, body))
        collection, *rest = path.removeprefix(API).strip("/").split("/")
        if collection == "project_updates":
            status = "successful" if self.reachable else "failed"
            return 200, {"status": status, "finished": "now", "failed": not self.reachable, "scm_revision": "abc" if self.reachable else ""}
        if not rest:
            if method == "GET":
                found = [item for item in self.listed(collection) if all(self.matches(item, key, value) for key, value in query.items())]
                return 200, {"count": len(found), "next": None, "results": found}
            return 201, self.create(collection, body)
        item = next(item for item in self.items[collection] if str(item["id"]) == rest[0])
        if rest[1:] == ["playbooks"]:
            there = (path.name for path in self.playbooks.glob("*.yml")) if item["synced"] else ()
            return 200, sorted(there)
        if rest[1:] == ["update"]:
            item["synced"] = self.reachable
            return 202, {"id": 1, "status": "pending", "url": f"{API}project_updates/{item['id']}/"}
        if rest[1:] == ["survey_spec"]:
            if method == "GET":
                return 200, self.surveys.get(item["url"], {})
            check_survey(body)
            self.surveys[item["url"]] = body
            return 200, {}
        if rest[1:]:
            linked = self.linked.setdefault(path, [])
            if method == "GET":
                return 200, {"count": len(linked), "next": None, "results": [{"id": number} for number in linked]}
            linked.append(body["id"]) if "disassociate" not in body else linked.remove(body["id"])
            return 204, None
        if method == "PATCH":
            item.update(self.checked(collection, body))
        return 200, item

    def matches(self, item: dict[str, Any], key: str, value: str) -> bool:
        """Tell whether an object is found by a filter; or__ is used for the name or number of one object."""
        if key == "organization__name":
            return any(found["id"] == item.get("organization") and found["name"] == value for found in self.items["organizations"])
        if key.startswith("or__"):
            return value in (str(item["id"]), str(item.get("name")))
        return str(item.get(key)) == value

    def listed(self, collection: str) -> list[dict[str, Any]]:
        if collection == "unified_job_templates":
            return [item for name in TEMPLATES.values() for item in self.items[name]]
        return self.items[collection]

    def create(self, collection: str, body: dict[str, Any]) -> dict[str, Any]:
        if collection not in KINDS.values():
            raise KeyError(collection)
        return self.add(collection, self.checked(collection, body))

    def check_answers(self, template: int, given: dict[str, Any]) -> None:
        """Refuse variables that the template's survey does not ask for, or answers that are none of the choices."""
        (item,) = (item for item in self.items["job_templates"] if item["id"] == template)
        asked = {question["variable"]: question for question in self.surveys.get(item["url"], {}).get("spec", ())} if item.get("survey_enabled") else {}
        for variable, answer in given.items():
            if variable not in asked:
                raise Refused(f"Variables {variable} are not allowed on launch.")
            if asked[variable]["type"] == "multiselect" and not (isinstance(answer, list) and set(answer) <= set(asked[variable]["choices"])):
                raise Refused(f"Value {answer} for '{variable}' expected to be a list of {asked[variable]['choices']}")

    def checked(self, collection: str, body: dict[str, Any]) -> dict[str, Any]:
        """Refuse what AWX would of these kinds."""
        project = next((item for item in self.items["projects"] if item["id"] in (body.get("project"), body.get("source_project"))), None)
        if "playbook" in body and not (project and project["synced"] and (self.playbooks / body["playbook"]).is_file()):
            raise Refused("Playbook not found for project.")
        if collection == "inventory_sources" and project and not project.get("scm_type"):
            raise Refused("Cannot use manual project for SCM-based inventory.")
        if collection == "schedules" and not re.fullmatch(r"DTSTART:\d{8}T\d{6}Z RRULE:FREQ=[A-Z]+;INTERVAL=\d+", body["rrule"]):
            raise Refused(f"rrule {body['rrule']} cannot be parsed")
        if collection == "schedules" and body.get("extra_data"):
            self.check_answers(body["unified_job_template"], body["extra_data"])
        if body.get("job_slice_count", 1) < 1:
            raise Refused("job_slice_count is at least 1")
        # an inventory's kind is never null: who leaves it out writes in each run
        return {key: "" if key == "kind" and value is None else value for key, value in body.items()}


@contextmanager
def served(awx: Awx) -> Iterator[str]:
    """Serve it on a port of loopback while the block runs; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    status, content = 401, {}
                else:
                    status, content = awx.answer(self.command, url.path, dict(parse_qsl(url.query)), json.loads(body) if body else None)
            except Refused as error:
                status, content = 400, {"__all__": [str(error)], "error": str(error)}
            except (KeyError, StopIteration):
                status, content = 404, {}
            self.send_response(status)
            self.send_header("X-API-Product-Name", "AWX")
            self.send_header("X-API-Product-Version", "24.6.1")
            self.end_headers()
            self.wfile.write(b"" if content is None else json.dumps(content).encode())

        do_GET = do_POST = do_PATCH = handle_one

        def log_message(self, format: str, *args: object) -> None:
            """Be silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
