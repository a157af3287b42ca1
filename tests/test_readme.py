"""The README's commands, pasted."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.running import ROOT, Desk


def test_the_five_curls_work_when_pasted(desk: Desk) -> None:
    block = re.search(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block
    desk.manage("load_demo")
    pasted = (
        block.group(1)
        .replace(".venv/bin/python", shlex.quote(sys.executable))
        .replace("http://127.0.0.1:8000", desk.url)
    )
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", pasted.replace("\n\n", "\necho\n")],
        cwd=Path(ROOT),
        env=desk.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: list[Any] = [json.loads(line) for line in done.stdout.splitlines() if line]
    uploaded, issued, summary, held, redeemed = answers
    assert uploaded["inserted"] == 2
    assert issued["voucher"]["issuedTo"] == "ann@example.com"
    assert {row["courseId"]: (row["total"], row["issued"]) for row in summary}["JS101"] == (102, 1)
    assert [voucher["_id"] for voucher in held] == [issued["voucher"]["_id"]]
    assert redeemed["status"] == "redeemed"
