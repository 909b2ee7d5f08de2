"""The loopback Hub answers unmodified clients as the Hub does, breaks on order, and sees requests to other hosts."""

import hashlib
import time

import pytest
from endpoints import READ_TOKEN
from server import ANY

API = """
    import json, sys
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download
    from huggingface_hub.errors import *
    api = HfApi()

    def error_of(call, *arguments, **options):
        try:
            call(*arguments, **options)
        except Exception as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            return [type(error).__name__, status]
        return None

"""


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def test_files_come_back_as_they_went_up(client, tmp_path):
    folder = tmp_path / "folder"
    (folder / "sub dir").mkdir(parents=True)
    contents = {
        "notes.txt": "Grüße\r\n".encode(),
        "sub dir/weights.safetensors": bytes(range(256)) * 40,
        "sub dir/empty.bin": b"",
        "large.json": b"0" * 1_200_000,
    }
    for path, content in contents.items():
        (folder / path).write_bytes(content)
    done = client(
        API
        + """
    import hashlib, pathlib
    url = api.create_repo("pair")
    api.upload_file(path_or_fileobj=b"first", path_in_repo="a.txt", repo_id=url.repo_id)
    info = api.upload_folder(repo_id=url.repo_id, folder_path=sys.argv[1], commit_message="a folder")
    one = hf_hub_download(url.repo_id, "sub dir/weights.safetensors")
    root = pathlib.Path(snapshot_download(url.repo_id))
    files = [p for p in root.rglob("*") if p.is_file() and p.name != ".gitattributes"]
    again = api.upload_folder(repo_id=url.repo_id, folder_path=sys.argv[1], commit_message="nothing new")
    print(json.dumps({
        "id": url.repo_id, "name": api.whoami()["name"], "one": hashlib.sha256(open(one, "rb").read()).hexdigest(),
        "files": {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files},
        "listed": sorted(api.list_repo_files(url.repo_id)), "oids": [info.oid, again.oid],
        "tree": {f.path: f.lfs is not None for f in api.list_repo_tree(url.repo_id, "sub dir")},
        "infos": [f.path for f in api.get_paths_info(url.repo_id, ["a.txt", "nothing"])],
        "titles": [c.title for c in api.list_repo_commits(url.repo_id)],
    }))
    """,
        str(folder),
    ).result
    expected = {path: sha256(content) for path, content in {**contents, "a.txt": b"first"}.items()}
    assert done["id"] == "tester/pair" and done["name"] == "tester"
    assert done["files"] == expected and done["one"] == expected["sub dir/weights.safetensors"]
    assert done["listed"] == sorted([*expected, ".gitattributes"])
    assert done["tree"] == {"sub dir/weights.safetensors": True, "sub dir/empty.bin": False}
    assert done["infos"] == ["a.txt"]
    assert done["titles"] == ["a folder", "Upload a.txt with huggingface_hub", "initial commit"]
    assert done["oids"][0] == done["oids"][1]  # an unchanged folder makes no commit
    assert {p: b.sha256 for p, b in client.hub.files("tester/pair").items()} == expected
    stored = client.hub.repository("tester/pair").at("main").files
    assert {path for path, blob in stored.items() if blob.lfs} == {"sub dir/weights.safetensors", "large.json"}
    puts = client.hub.seen(r"^/lfs-objects/", "PUT")
    assert len(puts) == 2 and all(request.status == 200 for request in puts)


def test_branches_tags_deletion_and_types(client):
    done = client(
        API
        + """
    for kind, more in (("model", {}), ("dataset", {}), ("space", {"space_sdk": "static"})):
        api.create_repo("acme/thing", repo_type=kind, **more)
        api.upload_file(path_or_fileobj=kind.encode(), path_in_repo="kind.txt", repo_id="acme/thing", repo_type=kind)
    api.create_branch("acme/thing", branch="pr/one")
    api.upload_file(path_or_fileobj=b"b", path_in_repo="d/x.bin", repo_id="acme/thing", revision="pr/one")
    api.create_tag("acme/thing", tag="v1")
    api.delete_file("kind.txt", "acme/thing")
    api.delete_folder("d", "acme/thing", revision="pr/one")
    refs = api.list_repo_refs("acme/thing")
    found = {
        "kinds": [open(hf_hub_download("acme/thing", "kind.txt", repo_type=k)).read() for k in ("dataset", "space")],
        "branches": [b.name for b in refs.branches], "tags": [t.name for t in refs.tags],
        "main": api.list_repo_files("acme/thing"), "tag": api.list_repo_files("acme/thing", revision="v1"),
        "branch": api.list_repo_files("acme/thing", revision="pr/one"),
        "again": error_of(api.create_repo, "acme/thing"),
        "exist_ok": api.create_repo("acme/thing", repo_type="dataset", exist_ok=True).repo_id,
        "branch again": error_of(api.create_branch, "acme/thing", branch="pr/one"),
    }
    api.delete_branch("acme/thing", branch="pr/one")
    api.delete_repo("acme/thing")
    found["model left"] = api.repo_exists("acme/thing")
    found["dataset left"] = api.repo_exists("acme/thing", repo_type="dataset")
    print(json.dumps(found))
    """
    ).result
    assert done == {
        "kinds": ["dataset", "space"],
        "branches": ["main", "pr/one"],
        "tags": ["v1"],
        "main": [".gitattributes"],
        "tag": [".gitattributes", "kind.txt"],
        "branch": [".gitattributes", "kind.txt"],
        "again": ["HfHubHTTPError", 409],
        "exist_ok": "acme/thing",
        "branch again": ["HfHubHTTPError", 409],
        "model left": False,
        "dataset left": True,
    }


def test_errors_have_the_types_that_callers_catch(client):
    done = client(
        API
        + """
    api.create_repo("some")
    oid = api.upload_file(path_or_fileobj=b"0123456789", path_in_repo="ten.txt", repo_id="tester/some").oid
    api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="tester/some")
    api.create_repo("hidden", private=True)
    upload = dict(path_or_fileobj=b"y", path_in_repo="y.txt")
    card = dict(path_or_fileobj=b"---\\ntags: [unclosed\\n---\\n", path_in_repo="README.md")
    print(json.dumps({
        "repo": error_of(hf_hub_download, "tester/none", "a"),
        "bare name": error_of(hf_hub_download, "none", "a"),
        "dataset": error_of(hf_hub_download, "tester/some", "ten.txt", repo_type="dataset"),
        "entry": error_of(hf_hub_download, "tester/some", "none.txt"),
        "revision": error_of(hf_hub_download, "tester/some", "ten.txt", revision="none"),
        "snapshot": error_of(snapshot_download, "tester/some", revision="none"),
        "folder": error_of(lambda: list(api.list_repo_tree("tester/some", "none"))),
        "hidden": error_of(hf_hub_download, "tester/hidden", ".gitattributes", token=False),
        "stale": error_of(api.upload_file, repo_id="tester/some", parent_commit=oid, **upload),
        "missing branch": error_of(api.upload_file, repo_id="tester/some", revision="none", **upload),
        "no token": error_of(HfApi(token=False).upload_file, repo_id="tester/some", **upload),
        "bad token": error_of(HfApi(token="hf_bad").whoami),
        "read only": error_of(HfApi(token=sys.argv[1]).upload_file, repo_id="tester/some", **upload),
        "other's": error_of(api.create_repo, "somebody/else"),
        "card": error_of(api.upload_file, repo_id="tester/some", **card),
        "delete": error_of(api.delete_file, "none.txt", "tester/some"),
    }))
    """,
        READ_TOKEN,
    ).result
    assert done == {
        "repo": ["RepositoryNotFoundError", 404],
        "bare name": ["RepositoryNotFoundError", 404],
        "dataset": ["RepositoryNotFoundError", 404],
        "entry": ["RemoteEntryNotFoundError", 404],
        "revision": ["RevisionNotFoundError", 404],
        "snapshot": ["RevisionNotFoundError", 404],
        "folder": ["RemoteEntryNotFoundError", 404],
        "hidden": ["RepositoryNotFoundError", 404],
        "stale": ["HfHubHTTPError", 412],
        "missing branch": ["RevisionNotFoundError", 404],
        "no token": ["HfHubHTTPError", 401],
        "bad token": ["HfHubHTTPError", 401],
        "read only": ["HfHubHTTPError", 403],
        "other's": ["HfHubHTTPError", 403],
        "card": ["ValueError", None],
        "delete": ["RemoteEntryNotFoundError", 404],
    }
    assert set(client.hub.files("tester/some")) == {"ten.txt", "x.txt"}


def test_ranges(client):
    done = client(
        API
        + """
    from huggingface_hub import get_session, hf_hub_url
    api.create_repo("some")
    api.upload_file(path_or_fileobj=b"0123456789", path_in_repo="ten.bin", repo_id="tester/some")
    found = []
    for wanted in ("bytes=2-4", "bytes=7-", "bytes=-3", "bytes=0-99", "bytes=10-"):
        answer = get_session().get(hf_hub_url("tester/some", "ten.bin"), headers={"Range": wanted})
        found.append([answer.status_code, answer.text, answer.headers.get("Content-Range")])
    head = get_session().head(hf_hub_url("tester/some", "ten.bin"))
    print(json.dumps([found, head.headers["ETag"], head.headers["X-Linked-Size"], head.headers["Content-Length"]]))
    """
    ).result
    assert done[0] == [
        [206, "234", "bytes 2-4/10"],
        [206, "789", "bytes 7-9/10"],
        [206, "789", "bytes 7-9/10"],
        [206, "0123456789", "bytes 0-9/10"],
        [416, "", "bytes */10"],
    ]
    assert done[1:] == [f'"{sha256(b"0123456789")}"', "10", "10"]


def test_faults_hit_the_requests_they_are_for_and_pass(client):
    hub = client.hub
    commits = [hub.fault(rf"^/api/models/tester/s{status}/commit/", status) for status in (401, 403, 412, 500, 503)]
    cut = hub.fault(r"^/api/models/tester/cut/commit/", drop=True)
    slow = hub.fault(r"^/api/models/tester/slow$", delay=1.5, method="GET")
    done = client(
        API
        + """
    import time
    found = {}
    for name in ("s401", "s403", "s412", "s500", "s503", "cut"):
        api.create_repo(name)
        upload = dict(path_or_fileobj=b"x" * 100_000, path_in_repo="x.txt", repo_id="tester/" + name)
        found[name] = [error_of(api.upload_file, **upload), error_of(api.upload_file, **upload)]
    api.create_repo("slow")
    waits = []
    for _ in range(2):
        began = time.time()
        api.model_info("tester/slow")
        waits.append(time.time() - began)
    print(json.dumps([found, waits]))
    """
    ).result
    for status in (401, 403, 412, 500, 503):
        first, second = done[0][f"s{status}"]
        assert first[1] == status and second is None
        assert set(hub.files(f"tester/s{status}")) == {"x.txt"}
    first, second = done[0]["cut"]
    assert first[0] in ("RemoteProtocolError", "ReadError", "WriteError") and second is None
    assert [request.status for request in hub.seen("/cut/commit/")] == ["dropped", 200]
    assert done[1][0] > 1.4 > done[1][1]
    assert all(fault.hits == 1 for fault in [*commits, cut, slow])


def test_a_large_file_survives_a_dropped_connection(client):
    """The client repeats an upload by itself, and a download when asked again; nothing but the whole file is taken."""
    cut = client.hub.fault(r"^/lfs-objects/", drop=True)
    torn = client.hub.fault(r"/resolve/main/w.safetensors", drop=True, method="GET")
    done = client(
        API
        + """
    import hashlib
    api.create_repo("cut")
    content = bytes(range(256)) * 8000
    api.upload_file(path_or_fileobj=content, path_in_repo="w.safetensors", repo_id="tester/cut")
    error = error_of(hf_hub_download, "tester/cut", "w.safetensors")
    back = open(hf_hub_download("tester/cut", "w.safetensors"), "rb").read()
    print(json.dumps([error[0], hashlib.sha256(content).hexdigest(), hashlib.sha256(back).hexdigest()]))
    """
    ).result
    assert done[0] in ("ReadError", "RemoteProtocolError")
    assert [request.status for request in client.hub.seen("^/lfs-objects/")] == ["dropped", 200]
    assert cut.hits == torn.hits == 1
    assert client.hub.files("tester/cut")["w.safetensors"].sha256 == done[1] == done[2]


def test_stray_requests_are_seen_and_fail(client):
    done = client(
        """
    import json, urllib.request
    import httpx2
    found = []
    for url in ("http://example.com/x", "https://huggingface.co/api/models/bert-base-uncased"):
        for get in (httpx2.get, urllib.request.urlopen):
            try:
                get(url)
                found.append("answered")
            except Exception as error:
                found.append(type(error).__name__)
    print(json.dumps(found))
    """
    ).result
    assert "answered" not in done[1:]  # httpx2 hands back the 403
    assert sorted(client.hub.stray) == [
        *["CONNECT huggingface.co:443"] * 2,
        *["GET http://example.com/x"] * 2,
    ]
    with pytest.raises(AssertionError, match="requests to other hosts.*huggingface.co"):
        client.hub.check()
    client.hub.check()  # told once


def test_unknown_requests_are_seen_and_fail(client):
    client.hub.fault("/api/models/tester/a", 503, times=ANY)
    done = client(
        """
    import json, os, urllib.error, urllib.request
    found = []
    for path in ("/api/unheard-of", "/api/models/tester/a", "/api/models/tester/a"):
        try:
            urllib.request.urlopen(os.environ["HF_ENDPOINT"] + path)
        except urllib.error.HTTPError as error:
            found.append(error.code)
    print(json.dumps(found))
    """
    ).result
    assert done == [400, 503, 503]
    with pytest.raises(AssertionError, match="GET /api/unheard-of"):
        client.hub.check()


def test_environment_of_a_client(client, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_TOKEN", "somebody's own")
    first, second = client.environment(), client.environment(token=None)
    assert "HF_HUB_OFFLINE" not in first and first["HF_ENDPOINT"].startswith("http://127.0.0.1:")
    assert first["HF_HOME"] != second["HF_HOME"] and "HF_TOKEN" not in second
    began = time.time()
    assert client("import sys; print(sys.argv[1:])", "a b").stdout == "['a b']\n"
    assert time.time() - began < 30
