"""Dockerfile and docker-compose.yml: what they promise, as far as it shows where no engine runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import yaml
from django.conf import settings
from django.http.request import split_domain_port, validate_host

from config import gunicorn
from config.management.commands import run
from tests.running import ROOT, free_port

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OF_THE_DESK = ["migrate", "web", "worker"]
SETTING = re.compile(r"""\benv\.\w+\(\s*["']([A-Z_]+)["']""")
NOT_SET_BY_PEOPLE = {"EMBEDDED_POSTGRES_RUNNING"}
FROM_OUTSIDE = re.compile(r"\$\{[A-Z_]+(:[?-][^}]*)?\}")
REQUIRED = {"POSTGRES_PASSWORD": "letters", "SECRET_KEY": "x" * 50}


def instructions() -> list[tuple[str, str]]:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, " ".join(rest)) for name, *rest in (line.split() for line in lines)]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    return found[max(at for at, (name, _) in enumerate(found) if name == "FROM") :]


def in_git() -> set[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("This tree is no git checkout.")
    return set(listed.stdout.splitlines())


def let_in() -> set[str]:
    """The names that `.dockerignore` lets into the image."""
    first, *others = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert first == "*"
    return {line.removeprefix("!") for line in others if line.startswith("!")}


def seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))


class TestCompose:
    def test_it_migrates_once_when_postgresql_answers(self) -> None:
        assert SERVICES["migrate"]["depends_on"] == {"db": {"condition": "service_healthy"}}
        assert SERVICES["migrate"]["command"][:3] == ["python", "manage.py", "migrate"]
        assert SERVICES["migrate"]["restart"] == "no"

    def test_it_asks_postgresql_by_tcp_whether_it_is_there(self) -> None:
        # The server that prepares an empty volume listens on the socket only, and stops again.
        assert SERVICES["db"]["healthcheck"]["test"][:3] == ["CMD", "pg_isready", "--host=127.0.0.1"]

    @pytest.mark.parametrize("service", ["web", "worker"])
    def test_it_starts_the_desk_after_the_migrations(self, service: str) -> None:
        assert SERVICES[service]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}

    @pytest.mark.parametrize("service", ["db", "web", "worker"])
    def test_it_starts_again_what_ended(self, service: str) -> None:
        # Not on-failure: a worker whose PostgreSQL is restarted ends with status 0.
        assert SERVICES[service]["restart"] == "always"

    def test_it_keeps_the_data_where_postgresql_18_has_it(self) -> None:
        assert SERVICES["db"]["image"] == "postgres:18"
        assert SERVICES["db"]["volumes"] == ["database:/var/lib/postgresql"]
        assert "database" in COMPOSE["volumes"]

    def test_it_publishes_the_web_server_to_this_machine_and_nothing_else(self) -> None:
        published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
        assert published == {"web": ["127.0.0.1:${PORT:-8000}:${PORT:-8000}"]}

    def test_it_holds_no_secret(self) -> None:
        for service in SERVICES.values():
            for name, value in service["environment"].items():
                literal = FROM_OUTSIDE.sub("", str(value or ""))
                assert not re.search("PASSWORD|SECRET|KEY", name) or not literal
                assert not re.search("://[^/@]*:[^/@]+@", literal)

    def test_it_does_not_start_without_its_secrets(self) -> None:
        assert SERVICES["db"]["environment"]["POSTGRES_PASSWORD"].startswith("${POSTGRES_PASSWORD:?")
        assert SERVICES["web"]["environment"]["SECRET_KEY"].startswith("${SECRET_KEY:?")

    @pytest.mark.parametrize("service", OF_THE_DESK)
    def test_it_hands_on_every_setting_and_nothing_that_is_none(self, service: str) -> None:
        sources = [(ROOT / "config" / name).read_text() for name in ("settings.py", "gunicorn.py")]
        settings_read = {name for source in sources for name in SETTING.findall(source)}
        assert set(SERVICES[service]["environment"]) == settings_read - NOT_SET_BY_PEOPLE

    @pytest.mark.parametrize("service", OF_THE_DESK)
    def test_it_takes_rights_away(self, service: str) -> None:
        assert SERVICES[service]["read_only"] is True
        assert SERVICES[service]["cap_drop"] == ["ALL"]
        assert SERVICES[service]["security_opt"] == ["no-new-privileges:true"]

    @pytest.mark.parametrize("service", OF_THE_DESK)
    def test_it_has_room_for_several_of_the_largest_uploads(self, service: str) -> None:
        room = re.fullmatch(r"/tmp:size=(\d+)g,mode=1777", SERVICES[service]["tmpfs"])  # noqa: S108
        assert room
        assert int(room[1]) * 1024**3 >= 3 * settings.UPLOAD_MAX_BYTES

    def test_it_runs_the_same_worker_as_make_run(self) -> None:
        assert SERVICES["worker"]["command"] == ["python", *run.WORKER]

    def test_it_waits_longer_than_web_server_and_worker_need_to_stop(self) -> None:
        assert seconds(SERVICES["web"]["stop_grace_period"]) > gunicorn.graceful_timeout
        assert seconds(SERVICES["worker"]["stop_grace_period"]) > int(run.WORKER[-1])


@contextmanager
def answering(status: int) -> Iterator[tuple[int, list[str]]]:
    """A web server with one answer; its port, and the hosts it is asked as."""
    hosts: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # http.server calls it so
            hosts.append(self.headers["Host"])
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Says nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port, hosts
        finally:
            server.shutdown()
            thread.join()


class TestHealthCheck:
    def ask(self, port: int, **environment: str) -> int:
        _, _, *command = SERVICES["web"]["healthcheck"]["test"]
        done = subprocess.run(
            [sys.executable, *command], env={"PORT": str(port), **environment}, capture_output=True, check=False
        )
        return done.returncode

    @pytest.mark.parametrize("allowed", ["", "vouchers.shop.example", ".shop.example,other.example", "*"])
    def test_it_asks_as_a_host_that_is_allowed(self, allowed: str) -> None:
        with answering(200) as (port, hosts):
            assert self.ask(port, **({"ALLOWED_HOSTS": allowed} if allowed else {})) == 0
        [(host, _)] = map(split_domain_port, hosts)
        assert host
        assert validate_host(host, allowed.split(",") if allowed else ["127.0.0.1"])

    def test_it_is_not_well_when_the_desk_is_not_ready(self) -> None:
        with answering(503) as (port, _):
            assert self.ask(port) != 0

    def test_it_is_not_well_when_nobody_answers(self) -> None:
        assert self.ask(free_port()) != 0


def compose_command() -> list[str]:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is None:
            continue
        said = subprocess.run([*command, "version", "--short"], capture_output=True, text=True, check=False)
        version = re.match(r"v?(\d+)\.(\d+)", said.stdout)
        if said.returncode == 0 and version and (int(version[1]), int(version[2])) >= (2, 24):
            return command
    pytest.skip("There is no Docker Compose 2.24 or newer here.")


def compose_config(**environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_CONFIG") if name in os.environ}
    return subprocess.run(
        [*compose_command(), "--env-file", os.devnull, "config", "--format", "json"],
        cwd=ROOT,
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
    )


class TestComposeConfig:
    def test_it_is_what_compose_understands(self) -> None:
        done = compose_config(**REQUIRED, BASE_URL="https://vouchers.shop.example")
        assert done.returncode == 0, done.stderr
        web = json.loads(done.stdout)["services"]["web"]["environment"]
        assert web["DATABASE_URL"] == "postgresql://desk:letters@db:5432/desk"
        assert web["BASE_URL"] == "https://vouchers.shop.example"

    @pytest.mark.parametrize("missing", REQUIRED)
    def test_it_is_refused_without_a_secret(self, missing: str) -> None:
        done = compose_config(**{name: value for name, value in REQUIRED.items() if name != missing})
        assert done.returncode != 0
        assert missing in done.stderr


class TestDockerfile:
    def test_it_runs_the_desk_as_nobody_special(self) -> None:
        names = [name for name, _ in last_stage()]
        users = [rest for name, rest in last_stage() if name == "USER"]
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])  # a number: whoever runs it can see that it is not root
        assert names.index("USER") < names.index("CMD")
        assert not {"RUN", "COPY"} & set(names[names.index("USER") :])  # what the desk runs on is not its own

    def test_it_installs_the_libraries_by_their_hashes(self) -> None:
        installs = [rest for name, rest in instructions() if name == "RUN" and " install " in rest]
        assert len(installs) == 1
        assert "--require-hashes -r requirements.txt" in installs[0]

    def test_it_leaves_the_embedded_postgresql_behind(self) -> None:
        (install,) = [rest for name, rest in instructions() if name == "RUN" and " install " in rest]
        assert "uninstall --yes embedded-postgres" in install
        assert instructions().index(("RUN", install)) < instructions().index(last_stage()[0])

    def test_it_copies_what_is_in_git(self) -> None:
        tops = {path.partition("/")[0] for path in in_git()}
        copies = [rest.split() for name, rest in instructions() if name == "COPY"]
        sources = {source for words in copies if not words[0].startswith("--from=") for source in words[:-1]}
        assert sources - {"."} <= let_in()
        assert let_in() <= tops

    def test_it_lets_all_of_the_code_in_and_no_tests(self) -> None:
        packages = {path.split("/")[0] for path in in_git() if path.count("/") == 1 and path.endswith("/__init__.py")}
        assert let_in() == packages - {"benchmarks", "tests"} | {"templates", "manage.py", "requirements.txt"}

    def test_it_serves_like_make_run(self) -> None:
        command = json.loads(dict(last_stage())["CMD"])
        assert [part for part in command if part not in {"--worker-tmp-dir", "/dev/shm"}] == run.WEB[1:]  # noqa: S108

    def test_it_listens_to_the_outside_of_the_container(self) -> None:
        assert "BIND=0.0.0.0" in dict(last_stage())["ENV"].split()
        assert SERVICES["web"]["environment"]["BIND"] == "0.0.0.0"  # whatever .env says

    def test_it_holds_no_secret(self) -> None:
        held = " ".join(rest for name, rest in instructions() if name in {"ENV", "ARG"})
        assert not re.search("PASSWORD|SECRET|KEY|TOKEN", held)
