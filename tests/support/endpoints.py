"""The endpoints of the Hub: which requests there are, and what each answers."""

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from store import Blob, HubError, Repository, is_lfs, read_card

if TYPE_CHECKING:
    from server import Hub

USER, ORGANIZATION = "tester", "acme"
WRITE_TOKEN, READ_TOKEN = "hf_write", "hf_read"
Answer = tuple[int, Any, dict[str, str] | None]

_KIND, _ID, _REV = r"/api/(?P<kind>models|datasets|spaces)", r"/(?P<id>[^/]+(?:/[^/]+)?)", r"/(?P<rev>[^/]+)"
_PREFIX = r"(?:/(?P<kind>datasets|spaces))?"
ROUTES = [
    (method, re.compile(pattern), name)
    for method, pattern, name in (
        ("POST", r"/tests/faults", "order_faults"),
        ("GET", r"/api/whoami-v2", "whoami"),
        ("GET", r"/api/agent-harnesses", "harnesses"),
        ("POST", r"/api/validate-yaml", "validate_yaml"),
        ("POST", r"/api/repos/create", "create"),
        ("DELETE", r"/api/repos/delete", "delete"),
        ("POST", _KIND + _ID + "/preupload" + _REV, "preupload"),
        ("POST", _KIND + _ID + "/commit" + _REV, "commit"),
        ("POST", _KIND + _ID + "/paths-info" + _REV, "paths_info"),
        ("GET", _KIND + _ID + "/tree" + _REV + "(?:/(?P<path>.+))?", "tree"),
        ("GET", _KIND + _ID + "/refs", "refs"),
        ("GET", _KIND + _ID + "/auth-check(?P<write>/write)?", "auth_check"),
        ("GET", _KIND + _ID + "/commits" + _REV, "commits"),
        ("POST", _KIND + _ID + "/branch" + _REV, "create_branch"),
        ("DELETE", _KIND + _ID + "/branch" + _REV, "delete_branch"),
        ("POST", _KIND + _ID + "/tag" + _REV, "create_tag"),
        ("GET", _KIND + _ID + f"(?:/revision{_REV})?", "info"),
        ("POST", _PREFIX + _ID + r"\.git/info/lfs/objects/batch", "lfs_batch"),
        ("PUT", r"/lfs-objects/(?P<id>[^/]+/[^/]+)/(?P<oid>[0-9a-f]{64})", "lfs_upload"),
        ("GET", _PREFIX + _ID + "/resolve" + _REV + "/(?P<path>.+)", "resolve"),
    )
]


class Endpoints:
    """The answers: status, body and headers, from the parsed request. Whoever inherits parses."""

    hub: "Hub"
    headers: Any
    parts: dict[str, str]
    query: dict[str, str]
    body: bytes
    user_rights: str | None

    def _rights(self) -> str | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        rights = {"": None, WRITE_TOKEN: "write", READ_TOKEN: "read"}
        if token not in rights:
            raise HubError(401, "Invalid credentials in Authorization header")
        return rights[token]

    def _check_write(self, name: str) -> None:
        if self.user_rights is None:
            raise HubError(401, "Invalid username or password.")
        if self.user_rights != "write" or name.split("/")[0] not in self.hub.owners:
            raise HubError(403, f"You don't have the rights to write to {name}")

    def _repository(self, write: bool = False) -> Repository:
        kind = self.parts.get("kind", "models")[:-1]
        repository = self.hub.repositories.get((kind, self.parts["id"]))
        if repository is None or repository.private and self.user_rights is None:
            raise HubError(404, "Repository not found", "RepoNotFound")
        if write:
            self._check_write(repository.name)
        return repository

    def _whoami(self) -> Answer:
        if self.user_rights is None:
            raise HubError(401, "Invalid username or password.")
        auth = {"type": "access_token", "accessToken": {"displayName": "tests", "role": self.user_rights}}
        orgs = [{"name": ORGANIZATION, "type": "org"}]
        return 200, {"type": "user", "id": "1", "name": USER, "orgs": orgs, "auth": auth}, None

    def _auth_check(self) -> Answer:
        self._repository(write=bool(self.parts.get("write")))
        return 200, b"OK", None

    def _order_faults(self) -> Answer:
        self.hub.faults.clear()
        for wanted in json.loads(self.body):
            self.hub.fault(**wanted)
        return 200, b"OK", None

    def _harnesses(self) -> Answer:
        return 200, {"standardEnvVars": [], "harnesses": {}}, None

    def _validate_yaml(self) -> Answer:
        card = read_card(json.loads(self.body)["content"])
        warnings = [] if card else [{"message": "empty or missing yaml metadata in repo card"}]
        return 200, {"errors": [], "warnings": warnings}, None

    def _create(self) -> Answer:
        wanted = json.loads(self.body)
        kind, name = wanted.get("type", "model"), f"{wanted.get('organization') or USER}/{wanted['name']}"
        self._check_write(name)
        prefix = "" if kind == "model" else f"{kind}s/"
        answer = {"url": f"{self.hub.endpoint}/{prefix}{name}", "name": name}
        if (kind, name) in self.hub.repositories:
            raise HubError(409, f"You already created this {kind} repo", **answer)
        private = wanted.get("visibility") == "private"
        self.hub.repositories[kind, name] = Repository(kind, name, private, wanted.get("sdk"))
        return 200, answer, None

    def _delete(self) -> Answer:
        wanted = json.loads(self.body)
        self.parts = {
            "kind": wanted.get("type", "model") + "s",
            "id": f"{wanted.get('organization') or USER}/{wanted['name']}",
        }
        repository = self._repository(write=True)
        del self.hub.repositories[repository.kind, repository.name]
        return 200, b"OK", None

    def _info(self) -> Answer:
        return 200, self._repository().info(self.parts.get("rev", "main"), "blobs" in self.query), None

    def _refs(self) -> Answer:
        return 200, self._repository().refs(), None

    def _commits(self) -> Answer:
        entries = [
            {"id": c.oid, "title": c.title, "message": c.message, "date": c.date, "authors": [{"user": USER}]}
            for c in self._repository().history(self.parts["rev"])
        ]
        return 200, entries, None

    def _create_branch(self) -> Answer:
        repository, branch = self._repository(write=True), self.parts["rev"]
        if branch in repository.branches:
            raise HubError(409, f"Reference already exists: refs/heads/{branch}")
        start = json.loads(self.body or b"{}").get("startingPoint", "main")
        repository.branches[branch] = repository.at(start).oid
        return 200, b"OK", None

    def _delete_branch(self) -> Answer:
        if self._repository(write=True).branches.pop(self.parts["rev"], None) is None:
            raise HubError(404, "Reference does not exist", "RevisionNotFound")
        return 200, b"OK", None

    def _create_tag(self) -> Answer:
        repository, tag = self._repository(write=True), json.loads(self.body)["tag"]
        if tag in repository.tags:
            raise HubError(409, f"Tag reference exists already: {tag}")
        repository.tags[tag] = repository.at(self.parts["rev"]).oid
        return 200, b"OK", None

    # ---- files ------------------------------------------------------------------------------------------------------

    def _preupload(self) -> Answer:
        commit = self._repository(write=True).at(self.parts["rev"])
        files = []
        for wanted in json.loads(self.body)["files"]:
            known = commit.files.get(wanted["path"])
            mode = "lfs" if is_lfs(wanted["path"], wanted["size"]) else "regular"
            oid = None if known is None else known.sha256 if known.lfs else known.oid
            files.append({"path": wanted["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return 200, {"files": files}, None

    def _lfs_batch(self) -> Answer:
        repository = self._repository(write=True)
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            href = f"{self.hub.endpoint}/lfs-objects/{repository.name}/{wanted['oid']}"
            actions = {} if wanted["oid"] in self.hub.large else {"actions": {"upload": {"href": href}}}
            objects.append({"oid": wanted["oid"], "size": wanted["size"], **actions})
        return 200, {"transfer": "basic", "objects": objects}, None

    def _lfs_upload(self) -> Answer:
        if Blob(self.body).sha256 != self.parts["oid"]:
            raise HubError(400, "the content is not that of the announced sha256")
        self.hub.large[self.parts["oid"]] = self.body
        return 200, b"", None

    def _commit(self) -> Answer:
        repository = self._repository(write=True)
        lines = [json.loads(line) for line in self.body.splitlines() if line]
        commit = repository.commit(self.parts["rev"], lines, self.hub.large)
        url = f"{self.hub.endpoint}/{'' if repository.kind == 'model' else repository.kind + 's/'}{repository.name}"
        return 200, {"success": True, "commitOid": commit.oid, "commitUrl": f"{url}/commit/{commit.oid}"}, None

    def _paths_info(self) -> Answer:
        paths = parse_qs(self.body.decode())["paths"]
        return 200, self._repository().paths_info(self.parts["rev"], paths), None

    def _tree(self) -> Answer:
        recursive, expand = (self.query.get(name, "").lower() in ("true", "1") for name in ("recursive", "expand"))
        return 200, self._repository().tree(self.parts["rev"], self.parts.get("path", ""), recursive, expand), None

    def _resolve(self) -> Answer:
        commit, blob = self._repository().file(self.parts["rev"], self.parts["path"])
        headers = {
            "X-Repo-Commit": commit.oid,
            "ETag": f'"{blob.sha256 if blob.lfs else blob.oid}"',
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
        }
        if blob.lfs:
            headers["X-Linked-Etag"], headers["X-Linked-Size"] = headers["ETag"], str(len(blob.content))
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            return 200, blob.content, headers
        size = len(blob.content)
        first, last = (int(end) if end else None for end in wanted.groups())
        start = max(0, size - (last or 0)) if first is None else first
        stop = size if first is None or last is None else min(last + 1, size)
        if start >= stop:
            return 416, b"", {**headers, "Content-Range": f"bytes */{size}"}
        return 206, blob.content[start:stop], {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{size}"}
