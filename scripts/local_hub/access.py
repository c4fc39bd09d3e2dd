"""Who may see, read and write a repo."""

from .errors import HubError
from .messages import Reply, Request, json_reply
from .repository import Repo, now
from .store import Store, User


def authenticate(store: Store, request: Request) -> User | None:
    """The user whose token the request carries."""
    header = request.headers.get("authorization")
    if header is None:
        return None
    user = store.users.get(header.removeprefix("Bearer ").strip())
    if user is None:
        raise HubError(401, "Invalid credentials in Authorization header")
    return user


def signed_in(request: Request) -> User:
    """The user, or a refusal if there is none."""
    if request.user is None:
        raise HubError(401, "Invalid username or password.")
    return request.user


def contributor(request: Request) -> User:
    """The user, if the token may change anything at all."""
    user = signed_in(request)
    if user.role != "write":
        raise HubError(403, "This token may only read")
    return user


def check_namespace(request: Request, namespace: str) -> User:
    """The user, if they may write repos of this namespace."""
    user = contributor(request)
    if not user.owns(namespace):
        raise HubError(403, f"You don't have the rights to write under the namespace {namespace!r}")
    return user


def visible(repo: Repo, user: User | None) -> bool:
    """Whether a user may know that the repo exists."""
    return not repo.private or _owns(user, repo)


def repo_not_found(request: Request) -> HubError:
    """The Hub's answer for a repo that is missing or hidden."""
    return HubError(404 if request.user else 401, "Repository not found", code="RepoNotFound")


def find(store: Store, request: Request, kind: str, repo_id: str) -> Repo:
    """The repo with this id, if the user may see it."""
    repo = store.repos.get(f"{kind}/{repo_id}") or store.in_other_case(f"{kind}/{repo_id}")
    if repo is None or not visible(repo, request.user):
        raise repo_not_found(request)
    return repo


def readable(store: Store, request: Request) -> Repo:
    """The repo in the path, to show its metadata."""
    return find(store, request, request.args.get("kind") or "models", request.args["repo"])


def writable(store: Store, request: Request) -> Repo:
    """The repo in the path, to change it."""
    repo = readable(store, request)
    check_namespace(request, repo.namespace)
    return repo


def downloadable(store: Store, request: Request) -> Repo:
    """The repo in the path, to download its files; those of a gated one are its owner's alone."""
    repo = readable(store, request)
    if repo.gated and not _owns(request.user, repo):
        message = f"Access to {repo.type} {repo.id} is restricted: ask its owner for access"
        raise HubError(403 if request.user else 401, message, code="GatedRepo")
    return repo


def whoami(store: Store, request: Request) -> Reply:
    """Describes the user of the token."""
    user = signed_in(request)
    orgs = [
        {"type": "org", "name": org, "fullname": org, "roleInOrg": "write"} for org in user.orgs
    ]
    token = {"displayName": "local", "role": user.role, "createdAt": now()}
    return json_reply(
        {
            "type": "user",
            "id": user.name,
            "name": user.name,
            "fullname": user.name.title(),
            "isPro": False,
            "orgs": orgs,
            "auth": {"type": "access_token", "accessToken": token},
        }
    )


def _owns(user: User | None, repo: Repo) -> bool:
    return user is not None and user.owns(repo.namespace)
