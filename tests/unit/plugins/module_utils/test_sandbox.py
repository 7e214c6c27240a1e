# Copyright: nordic.gitops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a tool that runs on untrusted files cannot do, under each protection that there is."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from ansible_collections.nordic.gitops.plugins.module_utils import _sandbox
from ansible_collections.nordic.gitops.plugins.module_utils._errors import Failure, Refused
from ansible_collections.nordic.gitops.plugins.module_utils._sandbox import Limits, Policy

SH = os.path.realpath(shutil.which("sh"))
ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
HERE = [protection for protection in _sandbox.PROTECTIONS if _sandbox._available(protection)]


@pytest.fixture(params=HERE)
def sandbox(request, tmp_path):
    """Runs a line of shell in a folder of its own, shut in."""
    folder = tmp_path / "own"
    folder.mkdir()

    def shell(text, limits=Limits(seconds=20), feed=b"", **options):
        policy = Policy(program=SH, write=[str(folder)], limits=limits, protections=(request.param,), **options)
        return _sandbox.run([SH, "-c", text], policy, str(folder), ENVIRONMENT, feed)

    shell.folder = folder
    shell.protection = request.param
    return shell


def python(text):
    """A line of shell that runs Python code with the system's own interpreter."""
    return f"exec {shutil.which('python3', path='/usr/bin:/bin')} -I -S -c '{text}'"


def test_this_machine_has_a_protection_and_the_result_names_it(sandbox):
    ended = sandbox("echo hello; cat", feed=b"fed " * 100_000)
    assert (ended.status, ended.out, ended.protection) == (0, b"hello\n" + b"fed " * 100_000, sandbox.protection)


def test_a_tool_reads_and_writes_its_own_folder(sandbox):
    (sandbox.folder / "in").write_text("x")
    assert sandbox("cat in > out && mkdir d && mv out d/ && cat d/out").out == b"x"
    assert (sandbox.folder / "d" / "out").read_text() == "x"


def test_a_tool_reads_nothing_else_of_the_host(sandbox, tmp_path):
    (tmp_path / "secret").write_text("hunter2")
    os.symlink(tmp_path / "secret", sandbox.folder / "link")
    ended = sandbox(f"cat {tmp_path}/secret link /etc/shadow /etc/hostname /proc/1/environ /root/.bashrc; ls -A /home /root; ls {tmp_path}; echo done")
    assert ended.out in (b"done\n", "/home:\n\n/root:\nown\ndone\n".encode(), b"own\ndone\n")


def test_a_tool_reads_a_file_that_it_was_given_and_cannot_write_it(sandbox, tmp_path):
    (tmp_path / "given").write_text("given")
    ended = sandbox(f"cat {tmp_path}/given; echo x > {tmp_path}/given; echo x > {tmp_path}/new", read=[str(tmp_path / "given")])
    assert ended.out == b"given"
    assert (tmp_path / "given").read_text() == "given" and not (tmp_path / "new").exists()


@pytest.mark.parametrize("family", ["INET", "INET6", "UNIX"])
def test_a_tool_has_no_network(sandbox, family, tmp_path):
    """Neither TCP nor UDP on loopback, nor a socket in the file system or in the abstract name space."""
    name = str(tmp_path / "socket") if family == "UNIX" else "127.0.0.1" if family == "INET" else "::1"
    kind = getattr(socket, f"AF_{family}")
    with socket.socket(kind, socket.SOCK_STREAM) as stream, socket.socket(kind, socket.SOCK_DGRAM) as packets:
        stream.bind(name if family == "UNIX" else (name, 0))
        packets.bind(name + "-packets" if family == "UNIX" else (name, 0))
        stream.listen()
        for server in (stream, packets):
            server.settimeout(0.05)
        addresses = [repr(server.getsockname()).replace("'", '"') for server in (stream, packets)]
        code = "import socket, sys\nfor kind, where in ((1, %s), (2, %s)):\n try:\n" \
               "  s = socket.socket(socket.AF_%s, kind); s.connect(where); s.send(b\"x\")\n" \
               " except OSError as error: print(error.errno, flush=True)" % (*addresses, family)
        ended = sandbox(python(code))  # bubblewrap has a loopback device of its own: nothing is refused there, and nothing arrives
        assert ended.status == 0 and not ended.err, ended
        with pytest.raises(TimeoutError):
            stream.accept()
        with pytest.raises(TimeoutError):
            packets.recv(1)


def test_a_tool_that_fetches_has_its_network(sandbox):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        code = f"import socket; socket.create_connection((\"127.0.0.1\", {server.getsockname()[1]})).send(b\"x\")"
        assert sandbox(python(code), network=True).status == 0
        assert server.accept()[0].recv(1) == b"x"


@pytest.mark.parametrize("text, limits, words", [
    ("exec sleep 60", Limits(seconds=0.5), "did not end within 0.5 seconds"),
    ("exec 1>&- 2>&-; exec sleep 60", Limits(seconds=0.5), "did not end within 0.5 seconds"),
    ("sleep 60 & sleep 60", Limits(seconds=0.5), "did not end within 0.5 seconds"),
    ("exec cat /dev/zero", Limits(seconds=20, output=1 << 20), "wrote more than 1 MiB"),
    ("exec sha256sum /dev/zero", Limits(seconds=1), "1 seconds"),
])
def test_a_tool_that_takes_more_than_its_share_is_ended(sandbox, text, limits, words):
    with pytest.raises(Failure, match=words):
        sandbox(text, limits)
    wait_until(lambda: not naming(sandbox.folder))


def test_a_tool_has_no_more_memory_files_or_disk_than_it_may(sandbox):
    limits = Limits(seconds=20, memory=100 << 20, file=1 << 20, files=20)
    assert "MemoryError" in sandbox(python("bytearray(200 << 20)"), limits).err
    assert b"kept" in sandbox(python("x = bytearray(50 << 20); print(\"kept\")"), limits).out
    assert "Too many open files" in sandbox(python("[open(\"/dev/null\") for n in range(30)]"), limits).err
    sandbox("head -c 10000000 /dev/zero > large", limits)
    assert (sandbox.folder / "large").stat().st_size <= 1 << 20


def test_endless_words_on_stderr_are_cut(sandbox):
    assert len(sandbox("head -c 10000000 /dev/zero >&2; echo end").err) < 1 << 18


def test_the_exit_code_and_the_signal_are_the_tool_s_own(sandbox):
    assert sandbox("exit 7").status == 7
    assert sandbox("kill -TERM $$").status in (-signal.SIGTERM, 128 + signal.SIGTERM)  # bubblewrap tells it as a shell does


def test_the_caller_s_environment_does_not_reach_a_tool(sandbox, monkeypatch):
    monkeypatch.setenv("TOKEN", "hunter2")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere")
    ended = sandbox("env")
    assert b"hunter2" not in ended.out and b"LD_LIBRARY_PATH" not in ended.out


def test_a_script_in_place_of_a_program_is_told(tmp_path):
    script = tmp_path / "helm"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    with pytest.raises(Failure, match="helm could not be started in its sandbox"):
        _sandbox.run([str(script)], Policy(program=str(script), protections=("landlock", "mount namespace")), "/", ENVIRONMENT)


def test_without_a_protection_a_tool_is_refused_unless_it_is_allowed():
    with pytest.raises(Refused, match=rf"allow_unsandboxed: \[{os.path.basename(SH)}\]"):
        _sandbox.run([SH, "-c", "echo x"], Policy(program=SH, protections=()), "/", ENVIRONMENT)
    ended = _sandbox.run([SH, "-c", "echo x; cat /dev/zero | head -c 5000000 > /dev/null"], Policy(program=SH, protections=(), allowed=True), "/", ENVIRONMENT)
    assert (ended.status, ended.protection) == (0, "none")


PARENT = """
import sys
from ansible_collections.nordic.gitops.plugins.module_utils import _sandbox
folder, protection = sys.argv[1:]
policy = _sandbox.Policy(program=%r, write=[folder], remove=[folder], protections=(protection,))
_sandbox.run([%r, "-c", "echo secret > values; touch ready; sleep 300 & sleep 300"], policy, folder, {"PATH": "/usr/bin:/bin"})
"""


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("protection", HERE)
def test_a_tool_ends_with_its_parent_and_its_folder_goes(tmp_path, protection, sign):
    folder = tmp_path / "own"
    folder.mkdir()
    with subprocess.Popen([sys.executable, "-c", PARENT % (SH, SH), str(folder), protection]) as parent:
        wait_until((folder / "ready").exists)
        parent.send_signal(sign)
    wait_until(lambda: not folder.exists() and not naming(folder))


def test_a_tool_whose_parent_has_ended_already_does_not_begin(tmp_path):
    policy = Policy(program=SH, write=[str(tmp_path)], allowed=True)
    command = _sandbox.wrapped([SH, "-c", f"touch {tmp_path}/begun"], policy)
    subprocess.run([SH, "-c", '"$@" & ', "sh", *command], check=True, start_new_session=True)
    wait_until(lambda: not naming(tmp_path))
    assert not (tmp_path / "begun").exists()


KILLED_AT_ONCE = """
import os, signal, sys
from ansible_collections.nordic.gitops.plugins.module_utils import _sandbox
def killed(*_arguments):  # fake: the moment of the fault
    os.kill(os.getpid(), signal.SIGKILL)
setattr(_sandbox.Running, "watch", killed) if sys.argv[2] == "before" else setattr(_sandbox._sandbox_child, "limit", killed)
policy = _sandbox.Policy(program=%r, write=[sys.argv[1]], allowed=True)
_sandbox.run([%r, "-c", f"touch {sys.argv[1]}/begun"], policy, sys.argv[1], {"PATH": "/usr/bin:/bin"})
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_tool_whose_parent_is_killed_before_it_has_its_limits_does_not_begin(tmp_path, moment):
    done = subprocess.run([sys.executable, "-c", KILLED_AT_ONCE % (SH, SH), str(tmp_path), moment], check=False)
    assert done.returncode == -signal.SIGKILL
    wait_until(lambda: not naming(tmp_path))
    assert not (tmp_path / "begun").exists()


def wait_until(true):
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def naming(folder):
    from pathlib import Path

    from lab.processes import naming as processes_naming

    return processes_naming(Path(folder))


def test_no_destructor_is_run_by_the_garbage_collector_in_the_confined_thread():
    """One that ends a process, as that of a mirror does, may not do so from there."""
    ran = []

    class Cyclic:
        def __init__(self):
            self.me = self

        def __del__(self):
            ran.append(threading.current_thread().name)

    def confine():
        Cyclic()
        _lists = [[number] for number in range(10_000)]  # with a collector this is enough for several collections

    threshold = gc.get_threshold()
    gc.set_threshold(10)
    try:
        assert _sandbox._in_a_thread(confine, lambda: "begun") == "begun" and gc.isenabled()
        gc.collect()
    finally:
        gc.set_threshold(*threshold)
    assert ran and "sandbox" not in ran
