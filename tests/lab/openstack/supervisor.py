# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that owns the lab's OpenStack: lab.supervisor's, with other components.

A first start makes the databases, users, flavors and images, and keeps them beside the installed environment; each
later start begins with a copy of that.

Started by lab.openstack as `python -m lab.openstack.supervisor STATE VENV [--detached OWNER]`.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Sequence

from lab import places, processes
from lab.build import locked, silent
from lab.errors import LabError
from lab.openstack import seed, settings
from lab.supervisor import Supervisor

HERE = Path(__file__).resolve().parent
RABBITMQ = "/usr/lib/rabbitmq/bin/rabbitmq-server"
# What a start keeps for the next ones, in the state folder.
KEPT = ("mysql", "keystone", "nova", "glance", "password")


class CloudSupervisor(Supervisor):
    """bin is OpenStack's virtual environment."""

    ready_within = 600.0  # ten servers in Python, Erlang and C, on a machine that may have much else to do

    def _start_once(self) -> Dict[str, Any]:
        begin = time.monotonic()
        self.logs.mkdir(exist_ok=True)
        template = self._template()
        if not (template / "complete").exists():
            self._tell(progress="OpenStack: making the databases (once)")
            with locked(template.with_suffix(".lock"), "OpenStack's databases", silent):
                if not (template / "complete").exists():
                    self._make_template(template)
        self._clear()
        for name in KEPT:
            subprocess.run(["cp", "-a", "--sparse=always", str(template / name), str(self.state / name)], check=True)
        self._run_all()
        self._tell(progress=f"OpenStack answers after {time.monotonic() - begin:.1f} s")
        return {**seed.access(self.state, self.ports, self.password), "supervisor": os.getpid(), "seconds": round(time.monotonic() - begin, 2)}

    def _template(self) -> Path:
        """Named by everything that it is made of."""
        parts = [(HERE / name).read_text() for name in ("seed.py", "requirements.txt")]
        parts.append(repr([settings.REGION, settings.ABROAD, settings.HOSTS, settings.BACKENDS, settings.ENDPOINTS, settings.DATABASES]))
        return self.bin.parent / f"data-{hashlib.sha256(''.join(parts).encode()).hexdigest()[:12]}"

    def _make_template(self, template: Path) -> None:
        self._clear()
        (self.state / "password").write_text(secrets.token_hex(16))
        (self.state / "keystone").mkdir()
        subprocess.run(
            [
                "mariadb-install-db",
                "--no-defaults",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                f"--datadir={self.state / 'mysql'}",
                f"--user={_user()}",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._prepare()
        self._mariadb()
        self._rabbitmq()
        for name in settings.DATABASES:
            self._sql(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        self._sync()
        # The others come up as a user that Keystone has to know.
        self._apis("keystone")
        seed.sow(self.ports, self.password)
        self._apis(*(name for name in settings.APIS if name != "keystone"))
        self._serves()
        self._manage("nova", "cell_v2", "discover_hosts")
        seed.zones(self.ports, self.password)
        self._end_components()
        for left in template.parent.glob("data-*"):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
        template.mkdir(parents=True)
        for name in KEPT:
            subprocess.run(["cp", "-a", "--sparse=always", str(self.state / name), str(template / name)], check=True)
        (template / "complete").touch()

    def _sync(self) -> None:
        """Empty databases become those of each service."""
        user, group = _user(), _group()
        keystone = [
            ["db_sync"],
            ["fernet_setup", "--keystone-user", user, "--keystone-group", group],
            ["credential_setup", "--keystone-user", user, "--keystone-group", group],
        ]
        for words in keystone:
            self._manage("keystone", *words)
        url = f"http://127.0.0.1:{self.ports['keystone']}/v3"
        self._manage(
            "keystone",
            "bootstrap",
            "--bootstrap-password",
            self.password,
            "--bootstrap-region-id",
            settings.REGION,
            "--bootstrap-public-url",
            url,
            "--bootstrap-internal-url",
            url,
            "--bootstrap-admin-url",
            url,
        )
        self._manage("placement", "db", "sync")
        self._manage("glance", "db_sync")
        self._run("neutron-db-manage", "--config-file", str(self.state / "etc/neutron/neutron.conf"), "upgrade", "heads")
        self._manage("nova", "api_db", "sync")
        self._manage("nova", "cell_v2", "map_cell0", "--database_connection", settings.database("nova_cell0"))
        self._manage("nova", "cell_v2", "create_cell", "--name", "cell1", "--database_connection", settings.database("nova"))
        self._manage("nova", "db", "sync")
        self._manage("cinder", "db", "sync")

    def _manage(self, service: str, *words: str) -> None:
        name = "glance-api" if service == "glance" else service
        self._run(f"{service}-manage", "--config-file", str(self.state / "etc" / service / f"{name}.conf"), *words)

    def _run(self, program: str, *words: str) -> None:
        with (self.logs / "manage.log").open("ab") as log:
            log.write(f"\n$ {program} {' '.join(words[:6])}\n".encode())
            log.flush()
            code = subprocess.run(
                [str(self.bin / "bin" / program), *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env(),
                cwd=self.state,
                check=False,
                preexec_fn=processes.dying_with_us(),
            ).returncode
        if code:
            raise LabError(f"{program} {' '.join(words)} ended with {code}:\n{processes.last_lines(self.logs / 'manage.log')}")

    # One start

    def _clear(self) -> None:
        for name in (*KEPT, "etc", "rabbitmq", "cinder"):
            path = self.state / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _run_all(self) -> None:
        self._prepare()
        self._mariadb()
        self._relocate()
        self._rabbitmq()
        self._apis(*settings.APIS)
        self._serves()

    def _prepare(self) -> None:
        self.password = (self.state / "password").read_text()
        self.ports = {name: places.free_port() for name in (*settings.APIS, "rabbitmq", "rabbitmq-dist", "epmd")}
        for name in ("nova", "glance/images", "glance/staging", "glance/tasks", "cinder", "neutron", "placement", "rabbitmq"):
            (self.state / name).mkdir(parents=True, exist_ok=True)
        settings.write(self.state, self.bin, self.ports, self.password)

    def _mariadb(self) -> None:
        # The data is thrown away at the end, so it need not survive a power cut. A socket in a folder that only we enter needs no password.
        self._spawn_program(
            "mariadb",
            [
                "/usr/sbin/mariadbd",
                "--no-defaults",
                f"--user={_user()}",
                f"--datadir={self.state / 'mysql'}",
                "--skip-networking",
                "--socket=../mysql.sock",
                f"--pid-file={self.state / 'mysql.pid'}",
                "--max-connections=1000",
                "--innodb-flush-log-at-trx-commit=0",
                "--innodb-flush-method=nosync",
                "--innodb-doublewrite=0",
                "--innodb-buffer-pool-size=256M",
                "--innodb-log-file-size=64M",
                "--performance-schema=0",
                "--skip-log-bin",
                "--transaction-isolation=READ-COMMITTED",
            ],
        )
        self._wait_for("MariaDB", lambda: self._sql("SELECT 1"))

    def _sql(self, *statements: str) -> bool:
        script = (
            "import pymysql, sys\nc = pymysql.connect(user='root', unix_socket='mysql.sock', autocommit=True).cursor()\n"
            "for s in sys.argv[1:]: c.execute(s)"
        )
        done = subprocess.run([str(self.bin / "bin" / "python"), "-c", script, *statements], cwd=self.state, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabError((done.stderr.strip().splitlines() or ["no answer"])[-1])
        return True

    def _relocate(self) -> None:
        """What the databases know of ports and folders is this start's."""
        statements = []
        for kind, (name, path) in settings.ENDPOINTS.items():
            statements.append(
                "UPDATE keystone.endpoint e JOIN keystone.service s ON e.service_id = s.id SET e.url = "
                f"'http://127.0.0.1:{self.ports[name]}{path}' WHERE s.type = '{kind}' AND e.region_id = '{settings.REGION}'"
            )
        statements.append(
            f"UPDATE nova_api.cell_mappings SET transport_url = 'rabbit://lab:{self.password}@127.0.0.1:{self.ports['rabbitmq']}/' " "WHERE name = 'cell1'"
        )
        statements.append(f"UPDATE glance.image_locations SET value = CONCAT('file://{self.state}/glance/images/', SUBSTRING_INDEX(value, '/', -1))")
        self._sql(*statements)

    def _rabbitmq(self) -> None:
        home = self.state / "rabbitmq"
        (home / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.ports['rabbitmq']}\ndefault_user = lab\ndefault_pass = {self.password}\nloopback_users = none\n"
            f"distribution.listener.interface = 127.0.0.1\nlog.console = true\nlog.console.level = warning\nlog.file = false\n"
        )
        (home / "enabled_plugins").write_text("[].")
        (home / ".erlang.cookie").write_text(secrets.token_hex(20))
        (home / ".erlang.cookie").chmod(0o400)
        env = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(home),
            "RABBITMQ_NODENAME": "lab@localhost",
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": str(self.ports["rabbitmq-dist"]),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "ERL_EPMD_PORT": str(self.ports["epmd"]),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_PID_FILE": str(home / "pid"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "NOTIFY_SOCKET": "none",
            "LANG": "C.UTF-8",
            # Schedulers that spin while they wait would take a processor from everything else.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none +S 2:2",
        }
        self._spawn_program("epmd", ["epmd", "-port", str(self.ports["epmd"]), "-address", "127.0.0.1"], env)
        # With NOTIFY_SOCKET it becomes the server instead of starting one, so that what is killed is the server.
        self._spawn_program("rabbitmq", [RABBITMQ], env)
        self._wait_for("RabbitMQ", lambda: _accepts(self.ports["rabbitmq"]))

    def _apis(self, *names: str) -> None:
        for name, order in settings.programs(self.state, self.ports).items():
            if name not in names:
                continue
            file = self.state / "etc" / f"{name}.json"
            file.write_text(json.dumps(order))
            self._spawn_program(name, [str(self.bin / "bin" / "python"), str(HERE / "launch.py"), str(file)], self._env())
        for name in names:
            self._wait_for(f"the API of {name}", lambda name=name: _accepts(self.ports[name]))

    def _serves(self) -> None:
        self._wait_for("Nova's and Cinder's services", self._is_served)

    def _is_served(self) -> bool:
        from keystoneauth1.exceptions import ClientException
        from openstack.exceptions import SDKException

        try:
            return seed.is_served(self.ports, self.password)
        except (ClientException, SDKException) as error:
            # Whoever waits looks at the processes then: one may have ended, as its port was taken meanwhile.
            raise LabError(f"no answer yet: {error}") from None

    def _env(self) -> Dict[str, str]:
        return {
            "PATH": f"{self.bin / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
            "HOME": str(self.state),
            "PYTHONPATH": str(HERE / "plugins"),
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONWARNINGS": "ignore",
        }

    def _spawn_program(self, name: str, command: Sequence[str], env: Any = None) -> None:
        self.running[name] = processes.spawn(command, self.logs / f"{name}.log", env or self._env(), cwd=self.state)

    def _end_components(self) -> None:
        order: List[str] = [name for name in reversed(list(self.running)) if name != "mariadb"]
        for name in order:
            processes.end(self.running.pop(name))
        if "mariadb" in self.running:
            # Asked, not killed: its files may become what later starts begin with.
            processes.end(self.running.pop("mariadb"), grace=30)


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name


def _group() -> str:
    import grp

    return grp.getgrgid(os.getegid()).gr_name


def _accepts(port: int) -> bool:
    socket.create_connection(("127.0.0.1", port), 1).close()
    return True


def main(arguments: Sequence[str]) -> int:
    state, venv, *detached = arguments
    owner = int(detached[detached.index("--detached") + 1]) if detached else 0
    return CloudSupervisor(Path(state), Path(venv), bool(detached), owner).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
