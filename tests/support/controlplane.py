# SPDX-License-Identifier: Apache-2.0
"""A real Kubernetes control plane on loopback: etcd, kube-apiserver and kube-controller-manager, and kubectl
to drive it.

Everything that it writes lies in one folder; every process dies with the one that started it
(PR_SET_PDEATHSIG), so a killed test run leaves nothing behind. The tools come from `kubetools/build.sh`.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from support.processes import Process, free_ports
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HERE = Path(__file__).parent
SERVICE_ADDRESS = "10.96.0.1"
PROFILES = {
    "apiserver": (
        "/CN=kube-apiserver",
        f"extendedKeyUsage=serverAuth\nsubjectAltName=IP:127.0.0.1,IP:{SERVICE_ADDRESS},DNS:localhost",
    ),
    "admin": ("/O=system:masters/CN=admin", "extendedKeyUsage=clientAuth"),
    "controller-manager": ("/CN=system:kube-controller-manager", "extendedKeyUsage=clientAuth"),
}
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
}


class KubectlError(Exception):
    """kubectl ended with an error; the message is what it printed."""


def tools(*names: str) -> Path:
    """The folder with the named tools, built where they are missing (cold, that takes minutes)."""
    result = subprocess.run(
        [HERE / "kubetools/build.sh", *names], check=True, stdout=subprocess.PIPE, text=True
    )
    return Path(result.stdout.strip().splitlines()[-1])


class ControlPlane:
    """etcd, kube-apiserver and kube-controller-manager in one folder.

    Without the controller manager (`managed=False`) pods need no ServiceAccount, and nothing is collected.
    """

    def __init__(self, folder: Path, *, managed: bool = True, api_flags: Sequence[str] = ()) -> None:
        """Make the certificates and the configurations; nothing runs yet."""
        self.managed = managed
        self.folder = folder
        self.bin = tools("etcd", "kube-apiserver", "kubectl", "kube-controller-manager")
        self.audit_log = folder / "audit.log"
        etcd, peer, self.port, manager = free_ports(4)
        self.url = f"https://127.0.0.1:{self.port}"
        self.etcd_folder = folder / "etcd"
        make_certificates(folder)
        (folder / "audit-policy.yaml").write_text(yaml.safe_dump(AUDIT_POLICY))
        self.kubeconfig = self.write_kubeconfig("admin", certificate="admin")
        self.write_kubeconfig("controller-manager", certificate="controller-manager")
        self.etcd = Process(self._etcd_command(etcd, peer), folder / "etcd.log")
        unmanaged = [] if managed else ["--disable-admission-plugins=ServiceAccount"]
        command = [*self._apiserver_command(etcd), *unmanaged, *api_flags]
        self.apiserver = Process(command, folder / "apiserver.log")
        self.controller_manager = Process(self._manager_command(manager), folder / "controller-manager.log")
        self.etcd_port = etcd

    def start(self) -> None:
        """Start everything, and wait until objects can be made in the namespace `default`."""
        try:
            self.start_etcd()
            self.start_apiserver()
            if self.managed:
                self.controller_manager.start()
                wait_until(lambda: self.exists("serviceaccount", "default"), 90, "there is a ServiceAccount")
        except BaseException:
            self.stop()
            raise

    def start_etcd(self) -> None:
        """Start etcd alone, unless it runs."""
        if not self.etcd.running:
            self.etcd.start()
            health = f"http://127.0.0.1:{self.etcd_port}/health"
            wait_until(lambda: responds(health), 90, "etcd is healthy")

    def stop(self) -> None:
        """Kill everything: no state of a test is worth a clean shutdown."""
        for process in (self.controller_manager, self.apiserver, self.etcd):
            process.stop(kill=True)

    def start_apiserver(self) -> None:
        """Start the API server (again) and wait until it is ready."""
        self.apiserver.start()
        wait_until(self._ready, 90, "the API server is ready")

    def stop_apiserver(self, *, kill: bool = True) -> None:
        """Stop the API server alone."""
        self.apiserver.stop(kill=kill)

    def kubectl(
        self, *arguments: str | Path, stdin: str | None = None, kubeconfig: Path | None = None
    ) -> str:
        """Run the real kubectl as admin, or as the owner of another kubeconfig; returns what it printed.

        Raises KubectlError.
        """
        command = [self.bin / "kubectl", "--kubeconfig", kubeconfig or self.kubeconfig, *arguments]
        environment = {**os.environ, "KUBECACHEDIR": str(self.folder / "kubectl-cache")}
        result = subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=False, timeout=120, env=environment
        )
        if result.returncode != 0:
            raise KubectlError(result.stderr.strip() or result.stdout.strip())
        return result.stdout

    def apply(self, *documents: dict[str, Any], kubeconfig: Path | None = None) -> str:
        """`kubectl apply` of objects given as dicts."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
        return self.kubectl("apply", "-f", "-", stdin=json.dumps(listed), kubeconfig=kubeconfig)

    def get(self, *arguments: str) -> dict[str, Any]:
        """`kubectl get ... -o json`, parsed."""
        answer: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return answer

    def exists(self, *arguments: str) -> bool:
        """Whether `kubectl get` finds the object."""
        return self.kubectl("get", *arguments, "--ignore-not-found", "-o", "name").strip() != ""

    def write_kubeconfig(
        self,
        name: str,
        *,
        certificate: str | None = None,
        token: str | None = None,
        server: str | None = None,
    ) -> Path:
        """Write a kubeconfig for a client certificate of this control plane, or a bearer token."""
        user = (
            {"token": token}
            if certificate is None
            else {
                "client-certificate": str(self.folder / f"{certificate}.crt"),
                "client-key": str(self.folder / f"{certificate}.key"),
            }
        )
        cluster = {"server": server or self.url, "certificate-authority": str(self.folder / "ca.crt")}
        path = self.folder / f"{name}.kubeconfig"
        path.touch(mode=0o600)
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
            "current-context": "test",
        }
        path.write_text(yaml.safe_dump(content))
        return path

    def service_account(
        self,
        namespace: str,
        name: str,
        *,
        pod: tuple[str, str] | None = None,
        server: str | None = None,
    ) -> Path:
        """A kubeconfig with a fresh token of a ServiceAccount.

        `pod`, a name and a node's name, binds the token to a pod as the kubelet would, so that it names its
        node. The pod must exist.
        """
        bound = [] if pod is None else ["--bound-object-kind=Pod", f"--bound-object-name={pod[0]}"]
        token = self.kubectl("create", "token", name, "-n", namespace, "--duration=24h", *bound).strip()
        suffix = "" if pod is None else f"-{pod[1]}"
        return self.write_kubeconfig(f"{namespace}-{name}{suffix}", token=token, server=server)

    def etcd_request(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask etcd itself, by its JSON gateway."""
        connection = http.client.HTTPConnection("127.0.0.1", self.etcd_port, timeout=10)
        try:
            connection.request("POST", f"/v3/{path}", json.dumps(body))
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise AssertionError(f"etcd: {answer}")
        return answer

    def delete_behind_api_server(self, path: str) -> None:
        """Delete an object from etcd while the API server is away: no watch, however late, is told of it.

        `path`: below `/registry`, like `networkpolicies/shop/friends`.
        """
        key = base64.b64encode(f"/registry/{path}".encode()).decode()
        answer = self.etcd_request("kv/deleterange", {"key": key})
        if answer.get("deleted") != "1":
            raise AssertionError(f"etcd has no /registry/{path}: {answer}")

    def compact(self) -> None:
        """Let etcd forget the past: whoever watches from it gets a 410, once the API server's cache is new
        too.
        """
        revision = self.etcd_request("kv/range", {"key": "AA=="})["header"]["revision"]
        self.etcd_request("kv/compaction", {"revision": revision})

    def audit(self) -> list[dict[str, Any]]:
        """What service accounts asked the API server so far: events of audit.k8s.io/v1."""
        return [json.loads(line) for line in self.audit_log.read_text().splitlines() if line]

    def _ready(self) -> bool:
        if not self.apiserver.running:
            raise AssertionError(f"kube-apiserver ended:\n{self.apiserver.tail()}")
        return responds(f"{self.url}/readyz", self.folder)

    def _etcd_command(self, port: int, peer: int) -> list[str | Path]:
        return [
            self.bin / "etcd",
            "--name=test",
            f"--data-dir={self.etcd_folder}",
            "--unsafe-no-fsync",
            "--log-level=warn",
            f"--listen-client-urls=http://127.0.0.1:{port}",
            f"--advertise-client-urls=http://127.0.0.1:{port}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=test=http://127.0.0.1:{peer}",
            f"--quota-backend-bytes={4 << 30}",
        ]

    def _apiserver_command(self, etcd: int) -> list[str | Path]:
        return [
            self.bin / "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self.port}",
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={self.folder / 'apiserver.crt'}",
            f"--tls-private-key-file={self.folder / 'apiserver.key'}",
            f"--client-ca-file={self.folder / 'ca.crt'}",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={self.folder / 'sa.pub'}",
            f"--service-account-signing-key-file={self.folder / 'sa.key'}",
            "--service-cluster-ip-range=10.96.0.0/12",
            f"--cert-dir={self.folder}",
            "--profiling=false",
            f"--audit-policy-file={self.folder / 'audit-policy.yaml'}",
            f"--audit-log-path={self.audit_log}",
            "--audit-log-mode=blocking",
        ]

    def _manager_command(self, port: int) -> list[str | Path]:
        config = self.folder / "controller-manager.kubeconfig"
        return [
            self.bin / "kube-controller-manager",
            f"--kubeconfig={config}",
            f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={self.folder / 'controller-manager'}",
            "--leader-elect=false",
            f"--service-account-private-key-file={self.folder / 'sa.key'}",
            f"--root-ca-file={self.folder / 'ca.crt'}",
            "--use-service-account-credentials=true",
            "--profiling=false",
            # Without these the first ServiceAccount comes five seconds late.
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            # No node of a test has a kubelet that would renew its Lease.
            "--controllers=*,-node-lifecycle-controller,-taint-eviction-controller,-node-ipam-controller",
        ]


def responds(url: str, certificates: Path | None = None) -> bool:
    """Whether a GET answers with success; `certificates` is a control plane's folder."""
    context = None
    if certificates is not None:
        context = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
        context.load_cert_chain(certificates / "admin.crt", certificates / "admin.key")
    try:
        with urllib.request.urlopen(url, timeout=2, context=context) as answer:  # noqa: S310 - a URL of ours
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def make_certificates(folder: Path, profiles: Mapping[str, tuple[str, str]] = PROFILES) -> None:
    """One authority, the certificates of the profiles, and the key pair that signs ServiceAccount tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "sa.pub").exists():
        return

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    def key(name: str) -> None:
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")

    key("ca")
    openssl(
        *(
            "req",
            "-x509",
            "-new",
            "-key",
            "ca.key",
            "-subj",
            "/CN=test-ca",
            "-days",
            "3650",
            "-out",
            "ca.crt",
        ),
        *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
    )
    for name, (subject, extensions) in profiles.items():
        key(name)
        (folder / f"{name}.ext").write_text(
            f"basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\n{extensions}\n"
        )
        openssl("req", "-new", "-key", f"{name}.key", "-subj", subject, "-out", f"{name}.csr")
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-days", "3650", "-out", f"{name}.crt", "-extfile", f"{name}.ext"),
        )
    key("sa")
    openssl("ec", "-in", "sa.key", "-pubout", "-out", "sa.pub")
