"""Repositories in memory: files, commits, branches and tags, as the Hub keeps them."""

import base64
import hashlib
import itertools
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import yaml

LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".png", ".jpg", ".parquet", ".arrow", ".npz", ".zip")
LFS_SIZE = 1_000_000
TASKS = {
    "ForSequenceClassification": "text-classification",
    "ForImageClassification": "image-classification",
    "TimmWrapperModel": "image-classification",
}


class HubError(Exception):
    """An answer other than success."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        commit: str | None = None,
        headers: dict[str, str] | None = None,
        **body: Any,
    ):
        super().__init__(message)
        self.headers = headers or {}
        self.status, self.message, self.code, self.commit, self.body = status, message, code, commit, body


@dataclass(frozen=True)
class Blob:
    """A file's content."""

    content: bytes
    lfs: bool = False

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def oid(self) -> str:
        """The id that git gives the file, or the pointer that stands for it."""
        stored = self.content
        if self.lfs:
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(stored)}\n"
            stored = pointer.encode()
        return hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()

    def describe(self, path: str) -> dict[str, Any]:
        """An entry of a tree."""
        entry = {"type": "file", "path": path, "size": len(self.content), "oid": self.oid}
        if self.lfs:
            entry["lfs"] = {"oid": self.sha256, "size": len(self.content), "pointerSize": 134}
        return entry


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    title: str
    message: str
    files: dict[str, Blob]
    date: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"))


def is_lfs(path: str, size: int) -> bool:
    """Whether a file of this name and size goes to the large file storage."""
    return size > 0 and (path.endswith(LFS_SUFFIXES) or size > LFS_SIZE)


class Repository:
    """A model, dataset or space."""

    _numbers = itertools.count()

    def __init__(self, kind: str, name: str, private: bool, sdk: str | None = None):
        self.kind, self.name, self.private, self.sdk = kind, name, private, sdk
        self.commits: dict[str, Commit] = {}
        self.tags: dict[str, str] = {}
        files = {".gitattributes": Blob("".join(f"*{s} filter=lfs\n" for s in LFS_SUFFIXES).encode())}
        self.branches = {"main": self._add(Commit(self._new_oid(), None, "initial commit", "", files))}

    def _new_oid(self) -> str:
        return hashlib.sha1(f"{self.kind} {self.name} {next(self._numbers)}".encode()).hexdigest()

    def _add(self, commit: Commit) -> str:
        self.commits[commit.oid] = commit
        return commit.oid

    def at(self, revision: str) -> Commit:
        """The commit that a branch, a tag or an id names."""
        name = revision.removeprefix("refs/heads/")
        oid = self.branches.get(name) or self.tags.get(name) or revision
        if oid not in self.commits:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[oid]

    def file(self, revision: str, path: str) -> tuple[Commit, Blob]:
        commit = self.at(revision)
        if path not in commit.files:
            raise HubError(404, "Entry not found", "EntryNotFound", commit.oid)
        return commit, commit.files[path]

    def history(self, revision: str = "main") -> list[Commit]:
        """Commits up to a revision, the newest first."""
        commits = [self.at(revision)]
        while commits[-1].parent is not None:
            commits.append(self.commits[commits[-1].parent])
        return commits

    def commit(self, branch: str, lines: list[dict[str, Any]], large: dict[str, bytes]) -> Commit:
        """Apply the lines of a commit request; `large` holds what was uploaded before, by sha256."""
        if branch not in self.branches:
            raise HubError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        head, header = self.at(branch), lines[0]["value"]
        if header.get("parentCommit", head.oid) != head.oid:
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        files = dict(head.files)
        for line in lines[1:]:
            key, value = line["key"], line["value"]
            path = value["path"]
            if key == "file":
                files[path] = Blob(base64.b64decode(value["content"]))
            elif key == "lfsFile":
                if value["oid"] not in large:
                    raise HubError(400, f"LFS pointer pointed to a file that does not exist: {path}")
                files[path] = Blob(large[value["oid"]], lfs=True)
            elif key == "deletedFile":
                if files.pop(path, None) is None:
                    raise HubError(404, "A file with this name doesn't exist", "EntryNotFound", head.oid)
            elif key == "deletedFolder":
                files = {name: blob for name, blob in files.items() if not name.startswith(path.rstrip("/") + "/")}
            else:
                raise HubError(400, f"unknown operation {key!r}")
        commit = Commit(self._new_oid(), head.oid, header["summary"], header.get("description", ""), files)
        self.branches[branch] = self._add(commit)
        return commit

    def tree(self, revision: str, folder: str, recursive: bool, expand: bool) -> list[dict[str, Any]]:
        commit = self.at(revision)
        prefix = folder.strip("/") + "/" if folder else ""
        inside = {path: blob for path, blob in commit.files.items() if path.startswith(prefix)}
        if not inside and folder:
            raise HubError(404, f"{folder} does not exist on {revision!r}", "EntryNotFound", commit.oid)
        entries: dict[str, dict[str, Any]] = {}
        for path, blob in inside.items():
            below = path[len(prefix) :].split("/")
            for depth in range(1, len(below)):
                name = prefix + "/".join(below[:depth])
                if recursive or depth == 1:
                    oid = hashlib.sha1(name.encode()).hexdigest()
                    entries[name] = {"type": "directory", "path": name, "size": 0, "oid": oid}
            if recursive or len(below) == 1:
                entries[path] = blob.describe(path)
        if expand:
            last = {"id": commit.oid, "title": commit.title, "date": commit.date}
            entries = {path: {**entry, "lastCommit": last} for path, entry in entries.items()}
        return [entries[path] for path in sorted(entries)]

    def paths_info(self, revision: str, paths: list[str]) -> list[dict[str, Any]]:
        entries = {entry["path"]: entry for entry in self.tree(revision, "", True, True)}
        return [entries[path] for path in paths if path in entries]

    def refs(self) -> dict[str, list]:
        def listed(names: dict[str, str], where: str) -> list[dict[str, str]]:
            return [{"name": n, "ref": f"refs/{where}/{n}", "targetCommit": oid} for n, oid in names.items()]

        branches, tags = listed(self.branches, "heads"), listed(self.tags, "tags")
        return {"branches": branches, "tags": tags, "converts": [], "pullRequests": []}

    def info(self, revision: str, with_blobs: bool) -> dict[str, Any]:
        """What the page of a repository shows."""
        commit = self.at(revision)
        card = read_card(commit.files["README.md"].content.decode()) if "README.md" in commit.files else {}
        siblings = []
        for path, blob in commit.files.items():
            lfs = {"sha256": blob.sha256, "size": len(blob.content), "pointerSize": 134}
            more = {"size": len(blob.content), "blobId": blob.oid, **({"lfs": lfs} if blob.lfs else {})}
            siblings.append({"rfilename": path, **(more if with_blobs else {})})
        config = json.loads(commit.files["config.json"].content) if "config.json" in commit.files else {}
        names = [*(config.get("architectures") or []), ""]
        task = next((task for end, task in TASKS.items() if names[0].endswith(end)), None)
        return {
            **{"_id": self.name, "id": self.name, "author": self.name.split("/")[0], "sha": commit.oid},
            **{"private": self.private, "gated": False, "disabled": False, "downloads": 0, "likes": 0},
            **{"lastModified": commit.date, "createdAt": self.history()[-1].date, "siblings": siblings},
            **{"cardData": card, "tags": card.get("tags") or [], "library_name": card.get("library_name")},
            **{"pipeline_tag": card.get("pipeline_tag") or task, "config": config},
            **({"sdk": card.get("sdk") or self.sdk} if self.kind == "space" else {}),
        }


def read_card(text: str) -> dict[str, Any]:
    """The metadata at the head of a README.md; a HubError if it is none."""
    if not text.startswith("---"):
        return {}
    try:
        card = yaml.safe_load(text.split("---", 2)[1])
    except yaml.YAMLError as error:
        raise HubError(400, "Invalid metadata", errors=[{"message": str(error)}], warnings=[]) from error
    if not isinstance(card, dict):
        message = "metadata must be a mapping"
        raise HubError(400, message, errors=[{"message": message}], warnings=[])
    return card
