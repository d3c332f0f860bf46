"""What the client asks a Hub for when it pushes and loads a model."""

_REPO = r"(?P<repo>[^/]+/[^/]+)"
ROUTES = [  # method, path, stage: the name of the method that answers
    ("GET", r"/api/whoami-v2", "whoami"),
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate"),
    ("GET", rf"/api/models/{_REPO}", "info"),
    ("GET", rf"/api/models/{_REPO}/revision/(?P<revision>[^/]+)", "info"),
    ("GET", rf"/api/models/{_REPO}/tree/(?P<revision>[^/]+)", "tree"),
    ("GET", rf"/api/models/{_REPO}/refs", "refs"),
    ("GET", rf"/api/models/{_REPO}/discussions", "discussions"),
    ("POST", rf"/api/models/{_REPO}/preupload/(?P<revision>[^/]+)", "preupload"),
    ("POST", rf"/api/models/{_REPO}/commit/(?P<revision>[^/]+)", "commit"),
    ("POST", rf"/api/models/{_REPO}/branch/(?P<branch>[^/]+)", "branch"),
    ("POST", rf"/api/models/{_REPO}/tag/(?P<revision>[^/]+)", "tag"),
    ("POST", r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "batch"),
    ("PUT", r"/upload/(?P<oid>[0-9a-f]{64})", "upload"),
    ("POST", r"/verify/(?P<oid>[0-9a-f]{64})", "check"),
    ("HEAD", rf"/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
    ("GET", rf"/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
    ("HEAD", r"/cdn/(?P<oid>[0-9a-f]{64})", "download"),
    ("GET", r"/cdn/(?P<oid>[0-9a-f]{64})", "download"),
]
