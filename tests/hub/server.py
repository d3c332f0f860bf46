"""A small Hub over HTTP: what the real client asks for when it pushes; keeps all on disk, and fails when told to."""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub.routes import ROUTES
from tests.hub.state import Hub, Refusal

SIGNATURE = "SIGNED-UPLOAD-ADDRESS"
_PAGE = 4  # entries of a file listing, few enough that tests turn pages
_LFS = (".safetensors", ".onnx", ".png")


class Handler(BaseHTTPRequestHandler):
    """Finds the route of a request, lets it fail if it is to, answers."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else an answer of two packets waits 40 ms for the first to be acknowledged
    hub: Hub

    def log_message(self, *_):
        """Stay silent."""

    def _handle(self):
        address = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(address.query).items()}
        for method, pattern, stage in ROUTES:
            if method == self.command and (found := re.fullmatch(pattern, address.path)):
                arguments = {name: unquote(value) for name, value in found.groupdict().items()}
                return self._answer(stage, arguments)
        return self._send(404, {"error": f"no such route: {self.command} {address.path}"})

    do_GET = do_POST = do_PUT = do_HEAD = _handle

    def _answer(self, stage, arguments):
        self.hub.requests.append(stage)
        fault = self.hub.take(stage)
        length = int(self.headers.get("Content-Length", 0))
        if fault and fault.cut:
            self.rfile.read(length // 2)
            return self._hang_up()
        self.body = self.rfile.read(length) if length else self._chunks()
        self._note(stage)
        if fault and fault.status:
            return self._send(fault.status, {"error": fault.message}, fault.headers)
        try:
            answer = getattr(self, stage)(**arguments)
        except Refusal as refusal:
            code = {"X-Error-Code": refusal.code} if refusal.code else {}
            return self._send(refusal.status, {"error": str(refusal)}, {**code, "X-Error-Message": str(refusal)})
        if fault and fault.lost:
            return self._hang_up()
        return self._send(*answer) if isinstance(answer, tuple) else self._send(200, answer)

    def _chunks(self):
        """The body of a request that does not say its length."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return b""
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _note(self, stage):
        kept = [f"{name}: {value}" for name, value in self.headers.items() if name.lower() != "authorization"]
        text = "\n".join([f"{self.command} {self.path}", *kept, ""]).encode() + self.body
        (self.hub.root / "requests" / f"{len(self.hub.requests):04}-{stage}").write_bytes(text)

    def _hang_up(self):
        self.close_connection = True
        self.connection.close()

    def _send(self, status, content=None, headers=()):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        sent = {"Content-Type": "application/json", "Content-Length": str(len(data)), **dict(headers)}
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def user(self):
        """Who asks; anonymous is nobody."""
        given = self.headers.get("Authorization", "")
        if not given:
            return {"name": "", "orgs": []}
        found = self.hub.users.get(given.removeprefix("Bearer "))
        if found is None:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return found

    def writable(self, namespace):
        """Whether the user may write in a namespace."""
        user = self.user()
        orgs = [org["name"] for org in user["orgs"] if org["roleInOrg"] != "read"]
        return namespace in [user["name"], *orgs] and user["auth"]["accessToken"]["role"] == "write"

    def repository(self, repo, write=False):
        """A repository that the user may see, or write to."""
        found = self.hub.repositories.get(repo)
        namespace = repo.partition("/")[0]
        user = self.user()
        inside = namespace in [user["name"], *(org["name"] for org in user["orgs"])]
        if found is None or (found.private and not inside):
            raise Refusal(404, "Repository not found", "RepoNotFound")
        if write and not self.writable(namespace):
            raise Refusal(403, "you don't have the rights to write here")
        return found

    def revision(self, repository, revision):
        """The commit of a revision."""
        oid = repository.find(revision)
        if oid is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return oid

    def json(self):
        """The body."""
        return json.loads(self.body or b"{}")

    def whoami(self):
        user = self.user()
        if not user["name"]:
            raise Refusal(401, "Invalid username or password.")
        return user

    def create(self):
        asked = self.json()
        namespace = asked.get("organization") or self.user()["name"]
        if not self.writable(namespace):
            raise Refusal(403, "You don't have the rights to create a model under this namespace")
        repo = f"{namespace}/{asked['name']}"
        if repo in self.hub.repositories:
            raise Refusal(409, "You already created this model repo")
        self.hub.add_repository(repo, asked.get("private", False) or asked.get("visibility") == "private")
        return {"url": f"{self.hub.endpoint}/{repo}", "name": repo}

    def validate(self):
        if "license: nonsense" in self.json()["content"]:
            return 400, {"errors": [{"message": '"license" must be one of [apache-2.0, mit]'}], "warnings": []}
        return {"errors": [], "warnings": []}

    def info(self, repo, revision="main"):
        repository = self.repository(repo)
        oid = self.revision(repository, revision)
        siblings = [{"rfilename": path} for path in repository.commits[oid]]
        return {"_id": "1", "id": repo, "sha": oid, "private": repository.private, "siblings": siblings, "tags": []}

    def tree(self, repo, revision):
        repository = self.repository(repo)
        entries = repository.commits[self.revision(repository, revision)]
        folders = sorted({path.rpartition("/")[0] for path in entries} - {""})
        items = [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in folders]
        items += [{"type": "file", "path": path, **entry} for path, entry in sorted(entries.items())]
        start = int(self.query.get("cursor", 0))
        address = f"{self.hub.endpoint}{urlsplit(self.path).path}?recursive=true&cursor={start + _PAGE}"
        more = {"Link": f'<{address}>; rel="next"'} if start + _PAGE < len(items) else {}
        return 200, items[start : start + _PAGE], more

    def refs(self, repo):
        repository = self.repository(repo)

        def listed(refs, kind):
            return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid} for name, oid in refs.items()]

        branches = {name: oid for name, oid in repository.refs.items() if not name.startswith("refs/")}
        return {"branches": listed(branches, "heads"), "tags": listed(repository.tags, "tags"), "converts": []}

    def discussions(self, repo):
        repository = self.repository(repo)
        author = self.query.get("author")
        same = {"title": "t", "createdAt": "2026-01-01T00:00:00.000Z", "status": "open", "isPullRequest": True}
        same["repo"] = {"name": repo, "type": "model"}
        mine = [(number, by) for number, by in repository.proposals if author in (None, by)]
        shown = [{**same, "num": number, "author": {"name": by}} for number, by in mine]
        return {"discussions": shown, "count": len(shown), "start": 0}

    def preupload(self, repo, revision):
        repository = self.repository(repo, write="create_pr" not in self.query)
        entries = repository.commits[self.revision(repository, revision)]
        files = []
        for asked in self.json()["files"]:
            there = entries.get(asked["path"], {})
            mode = "lfs" if asked["path"].endswith(_LFS) else "regular"
            oid = there.get("lfs", there).get("oid")
            files.append({"path": asked["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": files}

    def batch(self, repo):
        self.repository(repo, write="ref" in self.json())
        objects = []
        for asked in self.json()["objects"]:
            oid = asked["oid"]
            upload = {"href": f"{self.hub.endpoint}/upload/{oid}?signature={SIGNATURE}", "header": {}}
            actions = {"upload": upload, "verify": {"href": f"{self.hub.endpoint}/verify/{oid}"}}
            known = (self.hub.root / "lfs" / oid).is_file()
            objects.append({**asked, **({} if known else {"actions": actions})})
        return {"transfer": "basic", "objects": objects}

    def upload(self, oid):
        if "Authorization" in self.headers:
            raise Refusal(400, "Only one auth mechanism allowed")
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Refusal(400, "BadDigest")
        (self.hub.root / "lfs" / oid).write_bytes(self.body)
        return {}

    def check(self, oid):
        if not (self.hub.root / "lfs" / oid).is_file():
            raise Refusal(404, "not uploaded")
        return {}

    def commit(self, repo, revision):
        proposed = "create_pr" in self.query
        repository = self.repository(repo, write=not proposed)
        head = self.revision(repository, revision)
        header, *lines = [json.loads(line) for line in self.body.splitlines()]
        if header["value"].get("parentCommit", head) != head:
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        entries = dict(repository.commits[head])
        for line in lines:
            value = line["value"]
            if line["key"] == "lfsFile":
                if not (self.hub.root / "lfs" / value["oid"]).is_file():
                    raise Refusal(400, "LFS pointer pointed to a file that does not exist")
                entries[value["path"]] = self.hub.lfs_entry(value["oid"], value["size"])
            else:
                entries[value["path"]] = self.hub.keep_blob(base64.b64decode(value["content"]))
        number = len(repository.proposals) + 1
        if proposed:
            repository.proposals.append((number, self.user()["name"]))
        oid = repository.commit(entries, f"refs/pr/{number}" if proposed else revision, header["value"]["summary"])
        page = f"{self.hub.endpoint}/{repo}"
        address = f"{page}/discussions/{number}" if proposed else None
        return {"commitUrl": f"{page}/commit/{oid}", "commitOid": oid, "pullRequestUrl": address}

    def branch(self, repo, branch):
        repository = self.repository(repo, write=True)
        if branch in repository.refs:
            raise Refusal(409, "Reference already exists")
        repository.refs[branch] = repository.refs["main"]
        return {}

    def tag(self, repo, revision):
        repository = self.repository(repo, write=True)
        name = self.json()["tag"]
        if name in repository.tags:
            raise Refusal(409, "Tag reference exists already")
        repository.tags[name] = self.revision(repository, revision)
        return {}

    def resolve(self, repo, revision, path):
        repository = self.repository(repo)
        oid = self.revision(repository, revision)
        entry = repository.commits[oid].get(path)
        if entry is None:
            raise Refusal(404, "Entry not found", "EntryNotFound")
        headers = {"X-Repo-Commit": oid, "ETag": f'"{entry["oid"]}"', "Accept-Ranges": "bytes"}
        if "lfs" not in entry:
            return 200, self.hub.place(entry).read_bytes(), headers
        large = entry["lfs"]
        headers |= {"X-Linked-Etag": f'"{large["oid"]}"', "X-Linked-Size": str(large["size"])}
        elsewhere = self.hub.endpoint.replace("127.0.0.1", "localhost")  # as the real one's files lie on other hosts
        return 302, b"", {**headers, "Location": f"{elsewhere}/cdn/{large['oid']}"}

    def download(self, oid):
        return 200, (self.hub.root / "lfs" / oid).read_bytes(), {"ETag": f'"{oid}"'}


class Server(ThreadingHTTPServer):
    """Takes as many connections at once as the client opens."""

    daemon_threads = True
    request_queue_size = 64


@contextmanager
def running(root):
    """A Hub that listens on this machine."""
    hub = Hub(root)
    server = Server(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
