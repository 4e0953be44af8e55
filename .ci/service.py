"""What the checks against other projects' programs share: packages in folders of their own, and billsync as a process."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
TOOLS = REPOSITORY / "target" / "ci-tools"
# Long enough for a machine that does much else.
PATIENCE_SECONDS = 90


def install(folder, *what):
    """Packages, once, into a folder that nothing else sees; later runs find them."""
    if (folder / "installed").is_file():
        return
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", folder, *what]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"pip cannot install {' '.join(map(str, what))}\n{done.stdout}{done.stderr}")
    (folder / "installed").touch()


def until(what, holds, seen=None):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        if holds():
            return
        if time.monotonic() > deadline:
            sys.exit(f"waited in vain until {what}" + (f"; they are {seen()}" if seen else ""))
        time.sleep(0.2)


class Billsync:
    """The program, with an embedded database in a folder of its own, and no setting of the machine's."""

    def __init__(self, program, folder, **settings):
        self.program = program
        self.environment = {
            "PATH": os.environ["PATH"],
            "BILLSYNC_HOME": str(folder / "home"),
            "BILLSYNC_LOG_FORMAT": "json",
            **settings,
        }
        self.log = folder / "billsync.log"

    def serve(self):
        with self.log.open("w") as log:
            arguments = [self.program, "serve", "--listen", "127.0.0.1:0"]
            return subprocess.Popen(arguments, env=self.environment, stdout=log, stderr=log)

    def address(self):
        found = re.search(r"listening on (http://127\.0\.0\.1:\d+)", self.log.read_text())
        return found and found.group(1)

    def logged(self):
        return self.log.read_text() if self.log.exists() else ""

    def run(self, *arguments):
        command = [self.program, *arguments]
        done = subprocess.run(command, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(arguments)} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def run_json(self, *arguments):
        return json.loads(self.run(*arguments, "--json"))
