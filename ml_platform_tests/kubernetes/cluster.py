"""A stand-in for a Kubernetes API server: real HTTP, bodies validated strictly, containers run as local processes.

It answers the calls that dagster-k8s makes and no others, remembers each as (API group, resource, verb), and lets a
test decide a pod's fate. What it does not imitate: images, limits, volumes, RBAC, watches.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate
import yaml

from ml_platform.compute.pods import GPU
from ml_platform.training.job import read_job, write_job
from ml_platform_tests.warm import Process, Warm

VERSION = "1.33"
NODE = "node-1"
POLL_SECONDS = 0.02
KINDS = {"pods": ("v1", "Pod"), "jobs": ("batch/v1", "Job")}
_PATH = re.compile(
    r"/(?:api/v1|apis/batch/v1)/namespaces/(?P<namespace>[^/]+)/(?P<kind>\w+)(/(?P<name>[^/]+)(/(?P<sub>\w+))?)?"
)


@dataclass(frozen=True)
class Fate:
    """What becomes of a pod. By default its command runs to its end.

    `blocked`: the status it shows instead of starting, for `blocked_looks` looks at it (None: for ever). `dies_at`: the
    text in its log at which it is killed, and then is what `death` says: a status, or None where the pod is gone.
    `kill_point`: where it kills itself instead, as `ml_platform.killpoints` names it. `cuts`: after how many lines each
    of its log streams ends; negative ones end in the middle of a line, with an error.
    """

    blocked: Mapping[str, Any] | None = None
    blocked_looks: int | None = None
    dies_at: str = ""
    kill_point: str = ""
    death: Mapping[str, Any] | None = None
    cuts: tuple[int, ...] = ()


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    """The status of a pod whose container waits."""
    return {"phase": "Pending", "containerStatuses": [_container({"waiting": {"reason": reason, "message": message}})]}


def unschedulable(message: str) -> dict[str, Any]:
    """The status of a pod that finds no node."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [condition]}


def killed(why: str = "Error", code: int = 137, **status: Any) -> dict[str, Any]:
    """The status of a pod whose container was killed, for `why` as the container's state says."""
    ended = {"terminated": {"exitCode": code, "reason": why}}
    return {"phase": "Failed", "containerStatuses": [_container(ended)], **status}


def _container(state: Mapping[str, Any]) -> dict[str, Any]:
    image = {"name": "worker", "image": "image", "imageID": "image", "restartCount": 0}
    return {**image, "ready": "running" in state, "state": dict(state)}


@dataclass
class Pod:
    """A pod and the process that plays it."""

    body: dict[str, Any]
    fate: Fate
    looks: int = 0
    process: subprocess.Popen[str] | Process | None = None
    status: dict[str, Any] | None = None  # decided by fate; None: by the process
    log: list[str] = field(default_factory=list)
    read_up: bool = False
    streams: int = 0

    @property
    def name(self) -> str:
        return self.body["metadata"]["name"]

    def look(self) -> dict[str, Any]:
        """The pod as the API shows it."""
        return {**self.body, "status": self.status or self._lively()}

    def _lively(self) -> dict[str, Any]:
        if self.process is None:
            return {"phase": "Pending"}
        code = self.process.poll() if self.read_up else None
        if code is None:
            return {"phase": "Running", "containerStatuses": [_container({"running": {}})]}
        ended = {"exitCode": code if code >= 0 else 128 - code, "reason": "Completed" if code == 0 else "Error"}
        phase = "Failed" if code else "Succeeded"
        return {"phase": phase, "containerStatuses": [_container({"terminated": ended})]}

    @property
    def over(self) -> bool:
        return self.read_up


class Cluster:
    """The server's state. `fates` are given to pods as they are made, first to first; `warm` start those containers
    that they can."""

    def __init__(self, warm: Sequence[Warm] = ()) -> None:
        self.warm = warm
        self.pods: dict[str, Pod] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.fates: deque[Fate] = deque()
        self.calls: set[tuple[str, str, str]] = set()
        self.bodies: list[dict[str, Any]] = []
        self.refused: list[str] = []
        self.deleted: list[str] = []
        self.failures = 0  # how many of the next calls are answered with 503
        self.environment: dict[str, str] = {}
        self.lock = threading.RLock()

    def made(self, kind: str) -> list[dict[str, Any]]:
        """The bodies that were posted, of one kind."""
        return [body for body in self.bodies if body["kind"] == kind]

    def create(self, kind: str, namespace: str, body: dict[str, Any]) -> dict[str, Any]:
        """Refuses what the API's schema does not allow, and a name that is taken."""
        version, name = KINDS[kind]
        body = {"apiVersion": version, "kind": name, **body}
        kubernetes_validate.validate(body, VERSION, strict=True)
        with self.lock:
            if body["metadata"]["name"] in (self.pods if kind == "pods" else self.jobs):
                raise FileExistsError(body["metadata"]["name"])
            self.bodies.append(body)
            made = {**body, "metadata": {**body["metadata"], "namespace": namespace, "uid": f"uid-{len(self.bodies)}"}}
            if kind == "pods":
                self._start(Pod(made, self.fates.popleft() if self.fates else Fate()))
            else:
                self.jobs[made["metadata"]["name"]] = made
                template = made["spec"]["template"]
                labels = {**template["metadata"].get("labels", {}), "job-name": made["metadata"]["name"]}
                pod = {"apiVersion": "v1", "kind": "Pod", "spec": template["spec"]}
                named = {"name": f"{made['metadata']['name']}-x7k2p", "namespace": namespace, "uid": f"uid-{name}"}
                self._start(Pod({**pod, "metadata": {**named, "labels": labels}}, Fate()))
        return made

    def _start(self, pod: Pod) -> None:
        self.pods[pod.name] = pod
        if pod.fate.blocked:
            pod.status = dict(pod.fate.blocked)
        else:
            self._run(pod)

    def _run(self, pod: Pod) -> None:
        container = pod.body["spec"]["containers"][0]
        given = {each["name"]: each["value"] for each in container.get("env", ()) if "value" in each}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        pod.body["spec"] = {**pod.body["spec"], "nodeName": NODE}
        command = [*container.get("command", ()), *container.get("args", ())]
        environment = {"PATH": path, "HOSTNAME": pod.name, **self.environment, **given}
        if pod.fate.kill_point:
            environment["ML_PLATFORM_KILL_AT"] = pod.fate.kill_point
        if GPU in container.get("resources", {}).get("limits", ()):
            _do_without_gpu(Path(command[-1]))
        able = next((warm for warm in self.warm if warm.runs(command)), None)
        pod.process = able.start(command, environment) if able else _start(command, environment)
        threading.Thread(target=self._keep_log, args=(pod,), daemon=True).start()

    def _keep_log(self, pod: Pod) -> None:
        assert pod.process and pod.process.stdout
        for line in pod.process.stdout:
            pod.log.append(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}{len(pod.log) % 1000:03d}Z {line}")
            if pod.fate.dies_at and pod.fate.dies_at in line:
                pod.process.kill()
                break
        pod.process.wait()
        if pod.fate.dies_at or pod.fate.kill_point:
            with self.lock:
                pod.status = dict(pod.fate.death) if pod.fate.death else None
                if pod.fate.death is None:
                    self.pods.pop(pod.name, None)
        pod.read_up = True

    def see(self, pod: Pod) -> dict[str, Any]:
        """A look at a pod; enough of them and what blocks it goes away."""
        with self.lock:
            pod.looks += 1
            looks = pod.fate.blocked_looks
            if pod.fate.blocked and pod.process is None and looks is not None and pod.looks > looks:
                pod.status = None
                self._run(pod)
            return pod.look()

    def delete(self, kind: str, name: str) -> None:
        """Forgets it; the process of a pod is told to stop, and made to."""
        self.deleted.append(name)
        if kind == "jobs":
            del self.jobs[name]
            return
        pod = self.pods.pop(name)
        if pod.process and pod.process.poll() is None:
            pod.process.terminate()
            threading.Thread(target=_make_stop, args=(pod.process,), daemon=True).start()

    def job_status(self, name: str) -> dict[str, Any]:
        """The job with the status of its pod."""
        job = self.jobs[name]
        own = [pod for pod in self.pods.values() if pod.body["metadata"]["labels"].get("job-name") == name]
        phase = own[0].look()["status"]["phase"] if own else "Failed"
        count = {"Running": "active", "Pending": "active", "Succeeded": "succeeded", "Failed": "failed"}[phase]
        return {**job, "status": {count: 1, "startTime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}}

    def stop(self) -> None:
        """Ends every process that still runs."""
        for pod in self.pods.values():
            if pod.process and pod.process.poll() is None:
                pod.process.kill()
                pod.process.wait()


def _do_without_gpu(path: Path) -> None:
    """The nodes here have none: what a job asks of it, it gets of the processor."""
    write_job(replace(read_job(path), device="cpu"), path)


def _start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _make_stop(process: subprocess.Popen[str] | Process) -> None:
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster: Cluster

    def do_POST(self) -> None:
        self._answer("create")

    def do_GET(self) -> None:
        self._answer("get")

    def do_DELETE(self) -> None:
        self._answer("delete")

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the calls are remembered."""

    def _answer(self, verb: str) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found, cluster = _PATH.fullmatch(url.path), self.cluster
        if not found:
            return self._send(404, {"message": f"not imitated: {self.path}"})
        if cluster.failures:
            cluster.failures -= 1
            return self._send(503, {"message": "the server is currently unable to handle the request"})
        kind, name, sub = found["kind"], found["name"], found["sub"]
        group = "batch" if url.path.startswith("/apis/batch") else ""
        listing = verb == "get" and not name
        cluster.calls.add((group, f"{kind}/{sub}" if sub else kind, "list" if listing else verb))
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        try:
            if verb == "create":
                self._send(201, cluster.create(kind, found["namespace"], json.loads(body)))
            elif listing:
                self._send(200, {"kind": "List", "apiVersion": "v1", "items": self._items(kind, query)})
            elif verb == "delete":
                cluster.delete(kind, name)
                self._send(200, {"kind": "Status", "apiVersion": "v1", "status": "Success"})
            elif sub == "log":
                self._stream(cluster.pods[name], follow=query.get("follow") == "True")
            else:
                self._send(200, cluster.job_status(name) if kind == "jobs" else cluster.see(cluster.pods[name]))
        except KeyError:
            self._send(404, {"kind": "Status", "apiVersion": "v1", "message": f"{kind} {name!r} not found"})
        except FileExistsError as taken:
            self._send(409, {"kind": "Status", "apiVersion": "v1", "message": f"{kind} {taken} already exists"})
        except kubernetes_validate.ValidationError as error:
            cluster.refused.append(error.message)
            self._send(422, {"kind": "Status", "apiVersion": "v1", "message": error.message})

    def _items(self, kind: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        if kind != "pods":
            return []
        field_name, _, wanted = query.get("fieldSelector", "").partition("=")
        label, _, value = query.get("labelSelector", "").partition("=")
        assert field_name in ("", "metadata.name"), query
        return [
            self.cluster.see(pod)
            for pod in list(self.cluster.pods.values())
            if wanted in ("", pod.name) and (not label or pod.body["metadata"]["labels"].get(label) == value)
        ]

    def _stream(self, pod: Pod, follow: bool) -> None:
        if pod.process is None:
            return self._send(400, {"message": "ContainerCreating"})
        cut = pod.fate.cuts[pod.streams] if pod.streams < len(pod.fate.cuts) else None
        pod.streams += 1
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        sent = 0
        while True:
            over = pod.over or not follow
            for line in pod.log[sent:]:
                sent += 1
                if cut is not None and sent > abs(cut):
                    if cut < 0:
                        self._chunk(line[: len(line) // 2])
                        self.close_connection = True
                        return None
                    return self._chunk("")
                self._chunk(line)
            if over and sent == len(pod.log):
                return self._chunk("")
            time.sleep(POLL_SECONDS)

    def _chunk(self, text: str) -> None:
        content = text.encode()
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        self.wfile.flush()

    def _send(self, status: int, content: Mapping[str, Any]) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@contextmanager
def serving(folder: Path, warm: Sequence[Warm] = ()) -> Iterator[tuple[Cluster, Path]]:
    """A cluster on a free port of this machine, and the kubeconfig that leads to it."""
    cluster = Cluster(warm)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"cluster": cluster}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield cluster, _kubeconfig(folder, f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
        cluster.stop()


def _kubeconfig(folder: Path, address: str) -> Path:
    path = folder / "kubeconfig.yaml"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "ml"}}],
        "clusters": [{"name": "test", "cluster": {"server": address}}],
        "users": [{"name": "test", "user": {}}],
    }
    path.write_text(yaml.safe_dump(content))
    return path
