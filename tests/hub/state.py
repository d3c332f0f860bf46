"""What a small Hub knows: users, repositories with their commits, files on disk, and what is to go wrong next."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Fault:
    """How one request goes wrong: a status, or a connection cut halfway or after all was done."""

    status: int | None = None
    headers: dict = field(default_factory=dict)
    message: str = "told to fail"
    cut: bool = False
    lost: bool = False


@dataclass
class Repository:
    """Branches, tags and pull requests by name; a commit is its files by path."""

    private: bool
    refs: dict = field(default_factory=dict)
    tags: dict = field(default_factory=dict)
    commits: dict = field(default_factory=dict)
    history: list = field(default_factory=list)
    proposals: list = field(default_factory=list)

    def find(self, revision):
        """The commit of a branch, a tag, a pull request or a hash."""
        if revision in self.commits:
            return revision
        return {**self.tags, **self.refs}.get(revision)

    def commit(self, files, ref, message):
        """A new commit on top of a reference."""
        oid = hashlib.sha1(json.dumps([files, ref, len(self.commits)]).encode(), usedforsecurity=False).hexdigest()
        self.commits[oid] = files
        self.refs[ref] = oid
        self.history.append((ref, oid, message))
        return oid


class Refusal(Exception):
    """An answer that is no success."""

    def __init__(self, status, message, code=None):
        super().__init__(message)
        self.status, self.code = status, code


class Hub:
    """The state, and what is wrong at the moment."""

    def __init__(self, root):
        self.root = Path(root)
        for name in ("lfs", "blobs", "requests"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self.users = {}
        self.repositories = {}
        self.faults = []
        self.requests = []
        self.endpoint = ""

    def add_user(self, name, token, organizations=(), role="write"):
        """Someone who may log in."""
        orgs = [{"name": org, "roleInOrg": right} for org, right in dict(organizations).items()]
        token_info = {"type": "access_token", "accessToken": {"displayName": "t", "role": role}}
        self.users[token] = {"type": "user", "name": name, "orgs": orgs, "auth": token_info}

    def add_repository(self, repo_id, private=True, files=None):
        """A repository as it is after `create`, with files given by their text."""
        repository = self.repositories[repo_id] = Repository(private)
        entries = {".gitattributes": self.keep_blob(b"*.safetensors filter=lfs\n")}
        entries |= {path: self.keep_blob(text.encode()) for path, text in (files or {}).items()}
        repository.commit(entries, "main", "initial commit")
        return repository

    def fail(self, stage, *faults, **what):
        """Let the next requests of a stage fail, one fault each; `times=3` repeats one."""
        times = what.pop("times", 1)
        self.faults += [(stage, fault) for fault in faults or [Fault(**what)] * times]

    def take(self, stage):
        """The fault that is due at a stage, if any."""
        for index, (where, _) in enumerate(self.faults):
            if where == stage:
                return self.faults.pop(index)[1]
        return None

    def count(self, stage):
        """How many requests of a stage came."""
        return sum(seen == stage for seen in self.requests)

    def keep_blob(self, data):
        """Store a small file; its entry."""
        oid = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        (self.root / "blobs" / oid).write_bytes(data)
        return {"oid": oid, "size": len(data)}

    def lfs_entry(self, oid, size):
        """The entry of a large file: what git sees of it is a pointer."""
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n".encode()
        return {**self.keep_blob(pointer), "size": size, "lfs": {"oid": oid, "size": size, "pointerSize": len(pointer)}}

    def files(self, repo_id, revision="main"):
        """The bytes of every file at a revision."""
        repository = self.repositories[repo_id]
        entries = repository.commits[repository.find(revision)]
        return {path: self.place(entry).read_bytes() for path, entry in entries.items() if path != ".gitattributes"}

    def place(self, entry):
        """Where a file's bytes lie."""
        return self.root / ("lfs/" + entry["lfs"]["oid"] if "lfs" in entry else "blobs/" + entry["oid"])

    def everything(self):
        """All that is stored, and all that was asked but for the Authorization header."""
        return b"\n".join(path.read_bytes() for path in sorted(self.root.rglob("*")) if path.is_file())
