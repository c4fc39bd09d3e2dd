"""Branches, tags and history."""

from .access import readable, signed_in, writable
from .errors import HubError
from .messages import Reply, Request, json_reply, page_reply
from .store import Store

_COMMITS_PER_PAGE = 50


def list_refs(store: Store, request: Request) -> Reply:
    """List branches, tags and, if asked, pull requests."""
    repo = readable(store, request)
    refs = {
        "branches": [_ref("heads", name, oid) for name, oid in repo.branches.items()],
        "converts": [],
        "tags": [_ref("tags", name, oid) for name, oid in repo.tags.items()],
    }
    if request.flag("include_prs"):
        heads = {str(each.num): each.head for each in repo.discussions if each.head}
        refs["pullRequests"] = [_ref("pr", name, oid) for name, oid in heads.items()]
    return json_reply(refs)


def list_commits(store: Store, request: Request) -> Reply:
    """List a revision's commits, newest first."""
    repo = readable(store, request)
    commits = [
        {
            "id": commit.oid,
            "title": commit.title,
            "message": commit.message,
            "authors": [{"user": commit.author}],
            "date": commit.date,
        }
        for commit in repo.history(repo.at(request.args["revision"]))
    ]
    return page_reply(request, commits, _COMMITS_PER_PAGE)


def create_branch(store: Store, request: Request) -> Reply:
    """Create a branch at a revision."""
    repo, branch = writable(store, request), request.args["branch"]
    if branch.startswith("refs/"):
        raise HubError(400, f"Invalid reference for a branch: {branch}")
    if branch in repo.branches and not request.json.get("overwrite"):
        raise HubError(409, f"Reference already exists: {branch}")
    repo.branches[branch] = repo.at(request.json.get("startingPoint") or "main").oid
    return json_reply({})


def delete_branch(store: Store, request: Request) -> Reply:
    """Delete a branch other than main."""
    repo, branch = writable(store, request), request.args["branch"]
    if branch == "main":
        raise HubError(403, "Cannot delete the main branch")
    return _delete(repo.branches, branch)


def create_tag(store: Store, request: Request) -> Reply:
    """Name a revision."""
    repo, tag = writable(store, request), request.json["tag"]
    if tag in repo.tags:
        raise HubError(409, f"Tag already exists: {tag}")
    repo.tags[tag] = repo.at(request.args["revision"]).oid
    return json_reply({})


def delete_tag(store: Store, request: Request) -> Reply:
    """Delete a tag."""
    return _delete(writable(store, request).tags, request.args["revision"])


def super_squash(store: Store, request: Request) -> Reply:
    """Replace a branch's history with one commit."""
    repo, branch = writable(store, request), request.args["revision"]
    if branch not in repo.branches:
        raise HubError(404, f"No branch {branch}", code="RevisionNotFound")
    title = request.json.get("message") or "Super-squash"
    repo.commit(branch, repo.at(branch).tree, title, signed_in(request).name, root=True)
    return json_reply({})


def _ref(group: str, name: str, oid: str) -> dict[str, str]:
    return {"name": name, "ref": f"refs/{group}/{name}", "targetCommit": oid}


def _delete(refs: dict[str, str], name: str) -> Reply:
    if refs.pop(name, None) is None:
        raise HubError(404, f"Reference does not exist: {name}", code="RevisionNotFound")
    return json_reply({})
