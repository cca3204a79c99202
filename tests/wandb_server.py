"""A stand-in for the W&B server on the loopback: as much of its protocol as the real client needs.

Runs are kept as the client sends them: configuration, summary, history by line, state. `down` answers everything
with 503, `refuse_artifacts` answers those with 400. What the client sent is in `bodies`, to look for keys in.
"""

import base64
import gzip
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

ENTITY = {"id": "e1", "name": "stand-in"}
VIEWER = {"id": "u1", "entity": "stand-in", "username": "stand-in", "email": "", "admin": False, "flags": "{}"}
Values = dict[str, Any]


class Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed resets its connections: nothing to say."""


@dataclass
class Run:
    """history: line number -> row. died: it stopped to report, as W&B sees when heartbeats stay away."""

    project: str
    name: str
    config: Values = field(default_factory=dict)
    summary: Values = field(default_factory=dict)
    history: dict[int, Values] = field(default_factory=dict)
    about: Values = field(default_factory=dict)
    preempting: bool = False
    died: bool = False
    exit_code: int | None = None

    @property
    def state(self) -> str:
        """As W&B shows it."""
        if self.exit_code is None:
            return "crashed" if self.died else "running"
        ended = "preempted" if self.preempting else "failed"
        return ended if self.exit_code else "finished"

    def node(self) -> Values:
        """What the public API is told."""
        about = {"group": self.about.get("groupName"), "jobType": self.about.get("jobType"), "state": self.state}
        about |= {"tags": self.about.get("tags") or [], "notes": self.about.get("notes")}
        times = dict.fromkeys(("createdAt", "heartbeatAt"), "2026-01-01T00:00:00")
        values = {"summaryMetrics": json.dumps(self.summary), "systemMetrics": "{}", "historyKeys": self.history_keys}
        user = {"user": {"name": "stand-in", "username": "stand-in"}}
        return self.bucket() | about | times | values | user | {"projectId": "1", "commit": None, "readOnly": False}

    @property
    def history_keys(self) -> Values:
        return {"lastStep": max((row["_step"] for row in self.history.values()), default=-1), "keys": {}}

    @property
    def id(self) -> str:
        return base64.b64encode(f"Run:v1:{self.name}:{self.project}:stand-in".encode()).decode()

    @property
    def epochs(self) -> list[Any]:
        return [row.get("epoch") for _, row in sorted(self.history.items())]

    def setting(self, key: str) -> Any:
        return self.config[key]["value"]

    def bucket(self) -> Values:
        return {
            "id": self.id,
            "name": self.name,
            "displayName": self.about.get("displayName") or self.name,
            "description": None,
            "sweepName": None,
            "historyLineCount": len(self.history),
            "config": json.dumps(self.config),
            "project": {"id": "p1", "name": self.project, "entity": ENTITY},
        }

    def resume_status(self) -> Values:
        last = [json.dumps(self.history[max(self.history)])] if self.history else []
        counts = {"eventsLineCount": 0, "logLineCount": 0, "historyTail": json.dumps(last), "eventsTail": "[]"}
        known = {"summaryMetrics": json.dumps(self.summary), "wandbConfig": json.dumps({"t": 1})}
        about = {"group": self.about.get("groupName"), "jobType": self.about.get("jobType")}
        about |= {"tags": self.about.get("tags") or [], "notes": self.about.get("notes")}
        return self.bucket() | counts | known | about


@dataclass
class Artifact:
    """A version of one."""

    id: str
    name: str
    kind: str
    digest: str
    version: int
    metadata: Values
    aliases: set[str] = field(default_factory=set)
    state: str = "PENDING"

    def fragment(self) -> Values:
        entity = ENTITY | {"__typename": "Entity"}
        project = {"__typename": "Project", "id": "p1", "internalId": "1", "name": "mergenet", "entity": entity}
        sequence = {"__typename": "ArtifactSequence", "id": f"S-{self.name}", "name": self.name, "project": project}
        alias = {"__typename": "ArtifactAlias", "artifactCollection": sequence}
        return {
            "__typename": "Artifact",
            "id": self.id,
            "artifactSequence": sequence,
            "versionIndex": self.version,
            "artifactType": {"name": self.kind},
            "description": None,
            "metadata": json.dumps(self.metadata),
            "ttlDurationSeconds": -1,
            "ttlIsInherited": True,
            "tags": [],
            "historyStep": None,
            "state": self.state,
            "size": 1,
            "digest": self.digest,
            "commitHash": None,
            "fileCount": 1,
            "createdAt": "2026-01-01T00:00:00",
            "updatedAt": None,
            "aliases": [alias | {"id": name, "alias": name} for name in sorted(self.aliases)],
        }


class WandbServer:
    """Use as a context manager; `url` is what WANDB_BASE_URL must be."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.files: dict[str, bytes] = {}
        self.bodies: list[bytes] = []
        self.artifacts: list[Artifact] = []
        self.views: dict[str, Values] = {}
        self.down = self.refuse_artifacts = False
        self.lock = threading.RLock()
        self.http = Server(("127.0.0.1", 0), type("Handler", (Handler,), {"server_": self}))
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.http.shutdown()
        self.http.server_close()

    def answer(self, path: str, body: bytes) -> tuple[int, Any]:
        with self.lock:
            self.bodies.append(body)
            if self.down:
                return 503, {"error": "down"}
            if path == "/graphql" and not body:  # only whether there is a server
                return 405, {}
            if path == "/graphql":
                asked = json.loads(body)
                name = asked.get("operationName") or re.findall(r"(?:query|mutation)\s+(\w+)", asked["query"])[0]
                if self.refuse_artifacts and "Artifact" in name:
                    return 400, {"errors": [{"message": "no artifacts here"}]}
                if name not in OPERATIONS:
                    return 400, {"errors": [{"message": f"the stand-in knows no {name}"}]}
                return 200, {"data": OPERATIONS[name](self, asked.get("variables") or {})}
            if found := re.fullmatch(r"/files/[^/]+/([^/]+)/([^/]+)/file_stream", path):
                self._stream(self.run(*found.groups()), json.loads(body))
                return 200, {"limits": {}}
            if path.startswith("/upload/"):
                self.files[path.removeprefix("/upload/")] = body
                return 200, {}
            return 404, {"error": f"no {path}"}

    def run(self, project: str, name: str) -> Run:
        return self.runs.setdefault(name, Run(project, name))

    def _stream(self, run: Run, sent: Values) -> None:
        for name, chunk in (sent.get("files") or {}).items():
            for number, line in enumerate(chunk["content"], start=chunk["offset"]):
                if name.endswith("history.jsonl"):
                    run.history[number] = json.loads(line)
                elif name.endswith("summary.json"):
                    run.summary = json.loads(line)
        run.preempting |= bool(sent.get("preempting"))
        if sent.get("complete"):
            run.exit_code = sent.get("exitcode")

    def upsert(self, asked: Values) -> Values:
        name = asked.get("name") or next(run.name for run in self.runs.values() if run.id == asked["id"])
        new = name not in self.runs
        run = self.run(asked.get("project") or "uncategorized", name)
        run.config |= json.loads(asked.get("config") or "{}")
        run.summary |= json.loads(asked.get("summaryMetrics") or "{}")
        run.about |= {key: value for key, value in asked.items() if value is not None}
        return {"upsertBucket": {"bucket": run.bucket(), "inserted": new}}

    def resume_status(self, asked: Values) -> Values:
        run = self.runs.get(asked["name"])
        bucket = None if run is None else run.resume_status()
        return {"model": {"id": "p1", "name": asked["project"], "entity": ENTITY, "bucket": bucket}}

    def list_runs(self, asked: Values) -> Values:
        """A page of the runs in a project; of filters only the group's, which is all that is asked for."""
        filters = json.loads(asked["filters"])
        assert filters.keys() <= {"group"}
        known = [run for run in self.runs.values() if run.project == asked["project"]]
        if not known:
            return {"project": None}
        found = [run for run in known if filters.get("group") in (None, run.about.get("groupName"))]
        first = int(asked["cursor"] or 0)
        page = found[first : first + asked["perPage"]]
        last = first + len(page)
        edges = [{"node": run.node(), "cursor": str(place)} for place, run in enumerate(page, start=first + 1)]
        about = {"internalId": "1", "runCount": len(found), "readOnly": False}
        return {"project": about | {"runs": {"edges": edges, "pageInfo": page_info(last, last < len(found))}}}

    def history_page(self, asked: Values) -> Values:
        """Whole rows, of steps in a range."""
        lines = [row for _, row in sorted(self.runs[asked["run"]].history.items())]
        inside = [row for row in lines if asked["minStep"] <= row["_step"] < asked["maxStep"]]
        return {"project": {"run": {"history": [json.dumps(row) for row in inside[: asked["pageSize"]]]}}}

    def upload_urls(self, asked: Values) -> Values:
        names = asked["files"]
        files = [{"name": name, "uploadUrl": f"{self.url}/upload/{asked['run']}/{name}"} for name in names]
        run = self.run(asked["project"], asked["run"])
        return {"createRunFiles": {"runID": run.id, "uploadHeaders": [], "files": files}}

    def create_artifact(self, asked: Values) -> Values:
        """Of equal content there is one version, which takes over the aliases."""
        given = asked["input"]
        name, kind, digest = (given[key] for key in ("artifactCollectionName", "artifactTypeName", "digest"))
        found = next((one for one in self.artifacts if (one.name, one.digest) == (name, digest)), None)
        if found is None:
            version = sum(one.name == name for one in self.artifacts)
            found = Artifact(
                f"A{len(self.artifacts) + 1}", name, kind, digest, version, json.loads(given["metadata"] or "{}")
            )
            self.artifacts.append(found)
        aliases = {one["alias"] for one in given["aliases"]}
        for one in self.artifacts:
            if one.name == name:
                one.aliases -= aliases
        found.aliases |= aliases
        sequence = {"id": f"S-{name}", "latestArtifact": None}
        return {"createArtifact": {"artifact": {"id": found.id, "state": found.state, "artifactSequence": sequence}}}

    def commit_artifact(self, asked: Values) -> Values:
        found = self.artifact(asked["artifactID"])
        found.state = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": found.id, "digest": found.digest}}}

    def artifact_type(self, asked: Values) -> Values:
        """Of a version's name with its alias; null if there is none."""
        name = asked["name"].partition(":")[0]
        kind = next((one.kind for one in self.artifacts if one.name == name), None)
        return {"project": {"artifact": kind and {"artifactType": {"name": kind}}}}

    def artifact(self, id: str) -> "Artifact":
        return next(one for one in self.artifacts if one.id == id)

    def upsert_view(self, asked: Values) -> Values:
        """A saved view of a workspace, by its name."""
        new = asked["name"] not in self.views
        self.views[asked["name"]] = asked | {"spec": json.loads(asked["spec"])}
        return {"upsertView": {"view": {"id": f"V-{asked['name']}", "name": asked["name"]}, "inserted": new}}

    def manifest(self, key: str) -> Values:
        url = f"{self.url}/upload/manifest/{len(self.files)}"
        file = {"id": "f", "name": "manifest", "displayName": "manifest", "uploadUrl": url, "uploadHeaders": []}
        return {f"{key}ArtifactManifest": {"artifactManifest": {"id": "M1", "file": file}}}

    def artifact_files(self, asked: Values) -> Values:
        nodes = []
        for file in asked["input"]["artifactFiles"]:
            name, url = file["name"], f"{self.url}/upload/artifact/{file['artifactID']}/{file['name']}"
            node = {"id": "f", "name": name, "displayName": name, "uploadUrl": url, "uploadHeaders": []}
            more = {"uploadMultipartUrls": None, "storagePath": name, "artifact": {"id": file["artifactID"]}}
            nodes.append({"node": node | more})
        return {"createArtifactFiles": {"files": {"edges": nodes}}}


def page_info(cursor: int, more: bool) -> Values:
    return {"endCursor": str(cursor), "hasNextPage": more}


def in_run(**found: Any) -> Values:
    return {"project": {"run": found}}


OPERATIONS: dict[str, Callable[[WandbServer, Values], Values]] = {
    "ServerFeaturesQuery": lambda _, __: {"serverInfo": {"features": []}},
    "Viewer": lambda _, __: {"viewer": VIEWER | {"teams": {"edges": []}, "apiKeys": {"edges": []}}},
    "OrganizationCoreWeaveOrganizationID": lambda _, __: {"entity": {"organization": None}},
    "GetDefaultEntity": lambda _, __: {"viewer": {"id": "u1", "entity": "stand-in"}},
    "UpsertBucket": WandbServer.upsert,
    "RunResumeStatus": WandbServer.resume_status,
    "Run": lambda server, asked: {
        "project": {"run": found.node() if (found := server.runs.get(asked["name"])) else None}
    },
    "Runs": WandbServer.list_runs,
    "RunHistoryKeys": lambda server, asked: in_run(historyKeys=server.runs[asked["name"]].history_keys),
    "RunParquetHistory": lambda _, __: in_run(parquetHistory={"parquetUrls": [], "liveData": []}),
    "HistoryPage": WandbServer.history_page,
    "CreateRunFiles": WandbServer.upload_urls,
    "MarkRunFilesUploaded": lambda _, __: {"markRunFilesUploaded": {"success": True}},
    "CreateArtifact": WandbServer.create_artifact,
    "CreateArtifactManifest": lambda server, _: server.manifest("create"),
    "UpdateArtifactManifest": lambda server, _: server.manifest("update"),
    "UpsertView2": WandbServer.upsert_view,
    "CreateArtifactFiles": WandbServer.artifact_files,
    "CommitArtifact": WandbServer.commit_artifact,
    "ArtifactType": WandbServer.artifact_type,
    "ArtifactByID": lambda server, asked: {"artifact": server.artifact(asked["id"]).fragment()},
    "FetchArtifactDigestAlgorithm": lambda _, __: {"project": None},
    "XXHashDigestsEnabled": lambda _, __: {"entity": None},
    "OrgFeatureFlags": lambda _, __: {"organization": None},
}


class Handler(BaseHTTPRequestHandler):
    server_: WandbServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        code, values = self.server_.answer(self.path.partition("?")[0], body)
        data = json.dumps(values).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST
