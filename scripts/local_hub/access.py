"""Who may see, read and write a repo, and how access to a gated one is asked for and given."""

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
    """The user, if repos of this namespace are theirs to write."""
    user = contributor(request)
    if not user.owns(namespace):
        raise HubError(403, f"You don't have the rights to write under the namespace {namespace!r}")
    return user


def visible(repo: Repo, user: User | None) -> bool:
    """Whether a user may know that the repo exists."""
    return not repo.private or (user is not None and user.owns(repo.namespace))


def repo_not_found(request: Request) -> HubError:
    """What the Hub says for a repo that is missing or hidden."""
    return HubError(404 if request.user else 401, "Repository not found", code="RepoNotFound")


def find(store: Store, request: Request, kind: str, repo_id: str) -> Repo:
    """The repo with this id, if the user may see it."""
    repo = store.repo(kind, repo_id)
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
    """The repo in the path, to hand out its files."""
    repo, user = readable(store, request), request.user
    if repo.gated and not (user and (user.owns(repo.namespace) or _accepted(repo, user))):
        message = f"Access to {repo.type} {repo.id} is restricted: ask its owner for access"
        raise HubError(403 if user else 401, message, code="GatedRepo")
    return repo


def _accepted(repo: Repo, user: User) -> bool:
    return repo.access.get(user.name) == "accepted"


def whoami(store: Store, request: Request) -> Reply:
    """Describe the user of the token."""
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


def auth_check(store: Store, request: Request) -> Reply:
    """Say whether the user may download."""
    downloadable(store, request)
    return json_reply({})


def auth_check_write(store: Store, request: Request) -> Reply:
    """Say whether the user may write."""
    writable(store, request)
    return json_reply({})


def ask_access(store: Store, request: Request) -> Reply:
    """Ask for access to a gated repo."""
    repo, user = readable(store, request), contributor(request)
    repo.access[user.name] = "accepted" if repo.gated == "auto" else "pending"
    return json_reply({})


def list_access(store: Store, request: Request) -> Reply:
    """List the users whose request is pending, accepted or rejected."""
    repo, status = writable(store, request), request.args["status"]
    users = sorted(name for name, answer in repo.access.items() if answer == status)
    return json_reply(
        [
            {"requestId": name, "user": {"user": name}, "status": status, "timestamp": now()}
            for name in users
        ]
    )


def grant_access(store: Store, request: Request) -> Reply:
    """Let a user in who did not ask."""
    writable(store, request).access[request.json["user"]] = "accepted"
    return json_reply({})


def handle_access(store: Store, request: Request) -> Reply:
    """Accept, reject or reopen a user's request."""
    answer = request.json
    user = answer.get("user") or answer["requestId"]
    writable(store, request).access[user] = answer["status"]
    return json_reply({})
