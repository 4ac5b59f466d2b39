# SPDX-License-Identifier: Apache-2.0
"""A real Kubernetes cluster on one machine: two real kubelets with containerd, without a container engine or
a registry.

Everything runs in namespaces below one process (`hub.sh`) that dies with the one that started it, so a killed
run leaves nothing but a folder and empty cgroups, which the next one removes. The cluster has no link to the
machine's network; kubectl and helm are run in the hub's. Needs root, cgroup v1, and the Debian packages
containerd, runc, containernetworking-plugins and nftables.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import yaml

from support.controlplane import PROFILES, KubectlError, make_certificates, tools
from support.processes import spawn
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HERE: Final = Path(__file__).parent
IMAGE: Final = "localhost/wildcard-operator:test"
"""What images.sh builds from the Dockerfile."""
HUB: Final = "172.30.0.1"
CNIS: Final = ("ptp", "bridge")
"""One node of each."""
CONTROLLERS: Final = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd")
TOOLS: Final = (
    *("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"),
    *("kubelet", "kube-proxy", "kubectl", "helm"),
)
JOIN: Final = """
while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done
shift; exec "$@"
"""
"""Joins the cgroups before `--`, then becomes the command after it."""
CLIENT: Final = "extendedKeyUsage=clientAuth"
PREFIX: Final = "wildcard-real-"
"""Begins the names of the folder and the cgroups of a run, followed by its process id."""


@dataclass(frozen=True, slots=True)
class Place:
    """A process whose namespaces are those of the hub or of a node."""

    name: str
    pid: int

    def command(self, *command: str | Path, flags: Sequence[str] = ("-a",)) -> list[str | Path]:
        """The command, inside."""
        return ["nsenter", "-t", str(self.pid), *flags, "--", *command]

    def run(self, *command: str | Path, seconds: float = 60) -> str:
        """What a command prints that is run inside. Raises CalledProcessError."""
        return subprocess.run(
            self.command(*command), check=True, capture_output=True, text=True, timeout=seconds
        ).stdout


class RealCluster:
    """Nodes n1 and n2, which have the images of the archives. A context manager."""

    def __init__(self, archives: Sequence[Path]) -> None:
        self._archives = archives
        self._stack = ExitStack()
        self.nodes: dict[str, Place] = {}

    def __enter__(self) -> Self:
        sweep()
        own = f"{PREFIX}{os.getpid()}-"
        with ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=own)))
            for name in ("log", "data"):
                (self.folder / name).mkdir()
            self.bin = tools(*TOOLS)
            # Removed last of all, when everything in them has ended with the hub.
            names = [f"n{number}" for number in range(1, len(CNIS) + 1)]
            cgroups = {name: make_cgroups(stack, f"{own}{name}") for name in names}
            self.kubeconfig = self._credentials()
            self.hub = self._start_hub(stack)
            wait_until(self._api_is_ready, 90, lambda: f"the API server is ready\n{self.log('apiserver')}")
            self._grant_proxies()
            for number, (name, cni) in enumerate(zip(names, CNIS, strict=True), 1):
                self._start_node(stack, number, cni, cgroups[name])
            for name in names:
                self._wait_for(name)
            self.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=120s")
            wait_until(
                lambda: self.exists("serviceaccount", "default"),
                60,
                lambda: f"the first ServiceAccount is there\n{self.log('controller-manager')}",
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def kubectl(self, *arguments: str | Path, stdin: str | None = None, seconds: float = 180) -> str:
        """What the real kubectl prints, as admin. Raises KubectlError."""
        return self._client(
            self.bin / "kubectl", "--kubeconfig", self.kubeconfig, *arguments, stdin=stdin, seconds=seconds
        )

    def helm(self, *arguments: str | Path, seconds: float = 400) -> str:
        """What the real helm prints, as admin. Raises KubectlError."""
        return self._client(
            self.bin / "helm", "--kubeconfig", self.kubeconfig, *arguments, stdin=None, seconds=seconds
        )

    def apply(self, *documents: Mapping[str, Any]) -> None:
        """`kubectl apply` of objects."""
        self.kubectl("apply", "-f", "-", stdin="\n---\n".join(json.dumps(one) for one in documents))

    def get(self, *arguments: str) -> dict[str, Any]:
        """`kubectl get ... -o json`, parsed."""
        answer: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return answer

    def exists(self, *arguments: str) -> bool:
        """Whether `kubectl get` finds the object."""
        return self.kubectl("get", *arguments, "--ignore-not-found", "-o", "name").strip() != ""

    def log(self, name: str) -> str:
        """The last lines of a log."""
        path = self.folder / "log" / f"{name}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-20:]) if path.exists() else ""

    def _client(self, *command: str | Path, stdin: str | None, seconds: float) -> str:
        # Only the network is the hub's: files and processes are the machine's.
        entered = self.hub.command(*command, flags=("-n",))
        home = {name: str(self.folder / "home") for name in ("HOME", "KUBECACHEDIR")}
        result = subprocess.run(
            entered,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            env={**os.environ, **home},
        )
        if result.returncode != 0:
            raise KubectlError(result.stderr.strip() or result.stdout.strip())
        return result.stdout

    def _credentials(self) -> Path:
        pki = self.folder / "pki"
        profiles = {
            **PROFILES,
            "apiserver": ("/CN=kube-apiserver", served_as(HUB, "10.96.0.1", "127.0.0.1")),
            "scheduler": ("/CN=system:kube-scheduler", CLIENT),
            "proxy": ("/CN=system:kube-proxy", CLIENT),
        }
        for number in range(1, len(CNIS) + 1):
            subject = f"/O=system:nodes/CN=system:node:n{number}"
            profiles[f"n{number}"] = (subject, CLIENT)
            profiles[f"n{number}-serving"] = (subject, served_as(f"172.30.0.1{number}"))
        make_certificates(pki, profiles)
        for name, (_, extensions) in profiles.items():
            if extensions == CLIENT:
                write_kubeconfig(pki, name)
        return pki / "admin.kubeconfig"

    def _start_hub(self, stack: ExitStack) -> Place:
        namespaces = ["--pid", "--mount", "--net", "--ipc", "--propagation", "private"]
        command = ["unshare", "--fork", "--kill-child", *namespaces]
        process = self._spawn(
            stack, "hub", [*command, HERE / "hub.sh", self.folder, self.bin, str(len(CNIS))]
        )
        wait_until(lambda: child_of(process.pid), 10, "the hub's first process is there", every=0.01)
        return Place("hub", child_of(process.pid) or 0)

    def _start_node(self, stack: ExitStack, number: int, cni: str, groups: Sequence[Path]) -> None:
        name = f"n{number}"
        namespaces = ["--pid", "--mount", "--net", "--uts", "--ipc", "--cgroup", "--propagation", "private"]
        inside = ["unshare", "--fork", "--kill-child", *namespaces, HERE / "node.sh", self.folder, self.bin]
        command = self.hub.command(
            *(*inside, str(len(CNIS)), str(number), cni, *self._archives), flags=("-p", "-m", "-n")
        )
        process = self._spawn(stack, name, ["sh", "-c", JOIN, "sh", *groups, "--", *command])

        def first() -> int | None:  # nsenter's child is unshare, whose child is the node's first process
            outer = child_of(process.pid)
            return child_of(outer) if outer else None

        wait_until(first, 10, lambda: f"{name} has a first process\n{self.log(name)}", every=0.01)
        place = self.nodes[name] = Place(name, first() or 0)
        link = ["ip", "link", "add", f"v{name}", "type", "veth", "peer", "name", "eth0", "netns"]
        for arguments in ([*link, str(place.pid)], ["ip", "link", "set", f"v{name}", "master", "br0", "up"]):
            subprocess.run(self.hub.command(*arguments, flags=("-n",)), check=True)

    def _spawn(self, stack: ExitStack, name: str, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        with (self.folder / "log" / f"{name}.log").open("ab") as log:
            process = spawn(command, log)
        stack.callback(end, process)
        return process

    def _api_is_ready(self) -> bool:
        try:
            return self.kubectl("get", "--raw", "/readyz") == "ok"
        except KubectlError:
            return False

    def _grant_proxies(self) -> None:
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:node-proxier"}
        user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:kube-proxy"}
        binding = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding"}
        self.apply({**binding, "metadata": {"name": "kube-proxy"}, "roleRef": role, "subjects": [user]})

    def _wait_for(self, name: str) -> None:
        wait_until(
            lambda: self.exists("node", name),
            90,
            lambda: f"{name} has registered\n{self.log(name)}\n{self.log(f'{name}-kubelet')}",
        )
        cidr = f"10.244.{name[1:]}.0/24"
        self.kubectl("patch", "node", name, "-p", json.dumps({"spec": {"podCIDR": cidr, "podCIDRs": [cidr]}}))


def served_as(*addresses: str) -> str:
    """Extensions of a server's certificate."""
    names = ",".join(f"IP:{address}" for address in addresses)
    return f"extendedKeyUsage=serverAuth\nsubjectAltName={names}"


def write_kubeconfig(pki: Path, name: str) -> None:
    """A kubeconfig for the hub's API server beside the certificate that it names."""
    user = {"client-certificate": str(pki / f"{name}.crt"), "client-key": str(pki / f"{name}.key")}
    cluster = {"server": f"https://{HUB}:6443", "certificate-authority": str(pki / "ca.crt")}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "real", "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "real", "context": {"cluster": "real", "user": name}}],
        "current-context": "real",
    }
    path = pki / f"{name}.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(content))


def child_of(pid: int) -> int | None:
    """The only child of a process."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return None
    return int(children[0]) if children else None


def why_not() -> str | None:
    """Why this machine can't run such a cluster."""
    if os.geteuid() != 0:
        return "real kubelets need root"
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return "this machine has cgroup v2 alone; the cluster's nodes know v1"
    return None


def sweep() -> None:
    """Remove what runs left that were killed."""
    left = [*Path(tempfile.gettempdir()).glob(f"{PREFIX}*")]
    left += [group for parent in own_cgroups().values() for group in parent.glob(f"{PREFIX}*")]
    for path in left:
        owner = path.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdecimal() and not Path("/proc", owner).exists():
            if path.is_relative_to("/sys"):
                remove_cgroups(path)
            else:
                shutil.rmtree(path)


def own_cgroups() -> dict[str, Path]:
    """This process's cgroup in the hierarchy of every controller that a node needs."""
    own: dict[str, str] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own |= {controller.removeprefix("name="): path for controller in controllers.split(",")}
    return {name: Path(f"/sys/fs/cgroup/{name}{own[name]}") for name in CONTROLLERS}


def make_cgroups(stack: ExitStack, name: str) -> list[Path]:
    """A cgroup below this process's own in every hierarchy, removed in the end.

    Below our own, so limits on us hold for the node as well, and its kubelet takes it for the root.
    """
    groups = []
    for controller, parent in own_cgroups().items():
        group = parent / name
        group.mkdir(exist_ok=True)
        stack.callback(remove_cgroups, group)
        if controller == "cpuset":
            for file in ("cpuset.cpus", "cpuset.mems"):
                (group / file).write_text((parent / file).read_text())
        groups.append(group)
    return groups


def remove_cgroups(top: Path) -> None:
    """Remove a cgroup and all below it, once what was in them has ended."""

    def gone() -> bool:
        for folder, _, _ in os.walk(top, topdown=False):
            try:
                Path(folder).rmdir()
            except OSError:
                return False
        return not top.exists()

    wait_until(gone, 20, f"{top} is empty")


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process; with the first one of a PID namespace the kernel kills all in it."""
    process.kill()
    process.wait()
