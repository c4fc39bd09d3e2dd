"""A collection moves into a shared space at once, and its items are encoded again when wanted."""

import json

import numpy as np
import pytest
import tiny_models
import torch
from store_places import content, filled, rows, url_in

from hf_latent_bridge import (
    SharedSpace,
    SpaceSpec,
    TranslatedEncoder,
    fit_shared_space,
    load_encoder,
    load_views,
    migrate_gradually,
    plan_gradual_migration,
    re_encode,
    roll_back_migration,
)
from hf_latent_bridge.cli import main
from hf_latent_bridge.errors import SpaceMismatchError, StoreError
from hf_latent_bridge.translation.moving import VIEW
from hf_latent_bridge.vectors.stores.base import Records
from hf_latent_bridge.vectors.stores.registry import open_collection

pytestmark = [
    pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.UnrelatedPairsWarning"),
]


class World:
    """Two encoders of one meaning, and a store that holds items by the old one."""

    def __init__(self, folder, scheme="qdrant", n=25):
        rng = np.random.default_rng(0)
        maps = {"old": rng.normal(size=(3, 4)), "new": rng.normal(size=(3, 6))}
        meaning = rng.normal(size=(200 + n, 3))
        self.latents = {
            name: (meaning @ m + 0.05 * rng.normal(size=(200 + n, m.shape[1]))).astype("float32")
            for name, m in maps.items()
        }
        anchors = {name: x[n:] for name, x in self.latents.items()}
        spaces = {"new": SpaceSpec(6, repo_id="me/new"), "old": SpaceSpec(4, repo_id="me/old")}
        self.space = SharedSpace(dim=3, alpha=0.1).fit(anchors, spaces=spaces)
        self.latents = {name: x[:n] for name, x in self.latents.items()}
        given = rows(n, scheme=scheme)
        self.url = filled(url_in(scheme, folder), given._replace(vectors=self.latents["old"]))
        self.shared = self.url.replace("docs", "shared")
        self.texts = [payload["text"] for payload in given.payloads]

    def encoder(self, name="new"):
        latents = dict(zip(self.texts, self.latents[name], strict=True))
        return Known(self.space.views_[name].source_, latents)

    def vectors(self, name):
        return self.space.translator(name).transform(self.latents[name])


class Known:
    """An encoder of texts whose latents are known."""

    def __init__(self, space, latents):
        self.space, self.latents, self.seen = space, latents, []

    def encode(self, items, *, batch_size=32, progress=False):
        self.seen += items
        return torch.from_numpy(np.stack([self.latents[item] for item in items]))


@pytest.fixture(params=["qdrant", "sqlite"])
def world(request, tmp_path):
    pytest.importorskip({"qdrant": "qdrant_client", "sqlite": "apsw"}[request.param])
    return World(tmp_path, request.param)


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


def views(found):
    return {number: payload[VIEW] for number, (_, payload) in found.items()}


def same_direction(a, b):
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    np.testing.assert_allclose(cosine, 1, atol=1e-5)


def test_all_old_items_are_in_the_shared_space_and_say_where_they_came_from(world, state):
    moved = migrate_gradually(world.space, world.url, world.shared, view="old", state_dir=state)
    assert (moved.rows, moved.written, moved.checked) == (25, 25, 25)
    found, wanted = content(world.shared), rows(25).payloads
    same_direction(np.stack([found[i][0] for i in range(25)]), world.vectors("old"))
    assert [found[i][1] for i in range(25)] == [{**p, VIEW: "old"} for p in wanted]
    assert all(VIEW not in payload for _, payload in content(world.url).values())


def test_items_are_encoded_again_in_any_order_and_marked(world, state):
    migrate_gradually(world.space, world.url, world.shared, view="old", state_dir=state)
    encoder = world.encoder()
    done = re_encode(world.space, world.shared, encoder, view="new", ids=[20, 3, 11])
    assert (done.rows, done.by_view) == (3, {"new": 3, "old": 22})
    assert sorted(encoder.seen) == sorted(world.texts[i] for i in (20, 3, 11))
    found = content(world.shared)
    assert {i for i, view in views(found).items() if view == "new"} == {3, 11, 20}
    for i in range(25):
        expected = world.vectors("new" if i in (3, 11, 20) else "old")[i]
        same_direction(found[i][0], expected)
    done = re_encode(world.space, world.shared, encoder, view="new", max_rows=10)
    assert (done.rows, done.by_view) == (10, {"new": 13, "old": 12})
    assert "13 by new (52%)" in str(done)
    assert re_encode(world.space, world.shared, encoder, view="new").by_view == {"new": 25}
    assert len(encoder.seen) == 25  # each once
    assert re_encode(world.space, world.shared, encoder, view="new").rows == 0


def test_another_run_of_the_move_keeps_what_was_encoded_again_and_what_is_new(world, state):
    migrate_gradually(world.space, world.url, world.shared, view="old", state_dir=state)
    re_encode(world.space, world.shared, world.encoder(), view="new", ids=[5])
    payload = {**rows(1).payloads[0], VIEW: "new"}
    with open_collection(world.shared) as shared:
        shared.write(Records([900], world.vectors("new")[:1], [payload]))
    with open_collection(world.url) as old:
        old.write(rows(1, seed=5, first=100))
        old.delete([7])
    moved = migrate_gradually(world.space, world.url, world.shared, view="old", state_dir=state)
    assert (moved.written, moved.replaced, moved.removed) == (1, 0, 1)
    found = content(world.shared)
    assert sorted(found) == sorted({*range(25), 100, 900} - {7})
    assert [number for number, view in views(found).items() if view == "new"] == [5, 900]


def test_either_encoder_asks_the_one_index_by_the_record(world, state, tmp_path):
    places = {"serve_dir": tmp_path / "serve", "state_dir": state}
    migrate_gradually(world.space, world.url, world.shared, view="old", **places)
    re_encode(world.space, world.shared, world.encoder(), view="new", max_rows=12)
    found = content(world.shared)
    items = np.stack([found[i][0] for i in range(25)])
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    for name in ("old", "new"):
        encoder = TranslatedEncoder.from_pretrained(
            tmp_path / "serve", world.encoder(name), asks=name
        )
        assert encoder.space == world.space.space_
        vectors = encoder.encode(world.texts)
        np.testing.assert_allclose(vectors, world.vectors(name), atol=1e-5)
        with open_collection(world.shared) as shared:
            best = np.argsort(-(vectors[4] @ items.T), kind="stable")[:5].tolist()
            assert shared.nearest(vectors[4], 5) == best
    with pytest.raises(SpaceMismatchError, match="me/old"):
        TranslatedEncoder.from_pretrained(tmp_path / "serve", world.encoder("new"), asks="old")


def test_a_plan_says_what_it_would_be_and_writes_nothing(world):
    plan = plan_gradual_migration(
        world.space, world.url, world.shared, view="old", text_field="text"
    )
    assert (plan.rows, plan.dim, plan.target_dim, plan.target_rows) == (25, 4, 3, None)
    assert plan.tokens == round(sum(map(len, world.texts)) / 4)
    with open_collection(world.shared) as shared:
        assert not shared.exists()


def test_a_plan_says_what_the_target_holds_already(world, state):
    migrate_gradually(world.space, world.url, world.shared, view="old", state_dir=state)
    plan = plan_gradual_migration(world.space, world.url, world.shared, view="old")
    assert plan.target_rows == 25
    assert "is there already with 25 rows" in str(plan)


def test_a_plan_refuses_what_the_move_would(world):
    with pytest.raises(StoreError, match="source and target are the same"):
        plan_gradual_migration(world.space, world.url, world.url, view="old")
    with pytest.raises(ValueError, match="for the tokens of a text field"):
        plan_gradual_migration(
            world.space, world.url, world.shared, view="old", price_per_million_tokens=1
        )


def test_it_is_rolled_back(world, state):
    migrate_gradually(world.space, world.url, world.shared, view="old", state_dir=state)
    roll_back_migration(world.url, world.shared, state_dir=state)
    with open_collection(world.url) as old, open_collection(world.shared) as new:
        assert old.count() == 25
        assert not new.exists()


# Bad input --------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused(world, state):
    with pytest.raises(KeyError, match="no view 'older'"):
        migrate_gradually(world.space, world.url, world.shared, view="older", state_dir=state)
    migrate_gradually(world.space, world.url, world.shared, view="old", state_dir=state)
    for options, error, wanted in (
        ({"field": "body"}, StoreError, "has nothing in 'body'"),
        ({"ids": [3, 77]}, StoreError, r"1 rows are not there, such as \[77\]"),
        ({"max_rows": 0}, ValueError, "max_rows must be an integer of at least 1"),
    ):
        with pytest.raises(error, match=wanted):
            re_encode(world.space, world.shared, world.encoder(), view="new", **options)
    with pytest.raises(SpaceMismatchError, match="me/old"):
        re_encode(world.space, world.shared, world.encoder("old"), view="new")
    with pytest.raises(StoreError, match="is 4 wide and the space 3"):
        re_encode(world.space, world.url, world.encoder(), view="new")
    assert set(views(content(world.shared)).values()) == {"old"}


def test_another_vector_of_the_same_rows_cannot_hold_new_items(tmp_path, state):
    world = World(tmp_path)
    with pytest.raises(StoreError, match="a collection of its own"):
        migrate_gradually(
            world.space, world.url, f"{world.url}?vector=shared", view="old", state_dir=state
        )


def test_a_field_of_that_name_is_not_written_over(tmp_path, state):
    world = World(tmp_path)
    with open_collection(world.url) as old:
        old.write(Records([0], world.latents["old"][:1], [{VIEW: "mine"}]))
    with pytest.raises(StoreError, match="rename it"):
        migrate_gradually(world.space, world.url, world.shared, view="old", state_dir=state)


# The commands -----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_commands_move_encode_again_and_judge(tmp_path, capsys):
    old, new = (
        load_encoder(tiny_models.bert_repo(hidden=hidden, seed=seed), device="cpu")
        for hidden, seed in ((16, 0), (12, 1))
    )
    texts = sorted(set(tiny_models.sentences(120, tiny_models.EN)))[:90]
    space = fit_shared_space({"old": old, "new": new}, load_views({"old": texts, "new": texts}))
    space.save_pretrained(tmp_path / "space")
    payloads = [{"text": text} for text in texts]
    vectors = old.encode(texts).numpy()
    url = filled(f"qdrant:{tmp_path}/db/docs", Records(list(range(90)), vectors, payloads))
    common = ["--translator", f"{tmp_path}/space"]
    move = ["migrate", url, f"{url}-shared", *common, "--gradual", "--view", "old"]
    move += ["--state-dir", f"{tmp_path}/state", "--serve-dir", f"{tmp_path}/serve"]
    assert main([*move[:-4], "--dry-run", "--text-field", "text", "--price", "2"]) == 0
    assert "90 rows" in capsys.readouterr().out
    assert not open_collection(f"{url}-shared").exists()
    assert main(move) == 0
    assert "90 read back" in capsys.readouterr().out
    (tmp_path / "first").write_text("7\n3\n")
    again = ["re-encode", f"{url}-shared", "--space", f"{tmp_path}/space", "--view", "new"]
    assert main([*again, "--ids", f"{tmp_path}/first", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["by_view"] == {"new": 2, "old": 88}
    assert main([*again, "--max-rows", "40"]) == 0
    assert "42 by new (47%)" in capsys.readouterr().out
    found = content(f"{url}-shared")
    wanted = space.translator("new").transform(new.encode([texts[7]])).numpy()
    same_direction(found[7][0][None], wanted)
    for part, chosen in (("queries", texts[:60]), ("corpus", texts)):
        lines = [json.dumps({"text": text}) for text in chosen]
        (tmp_path / f"{part}.jsonl").write_text("\n".join(lines))
    judge = ["gate", *common, "--gradual", "--old-view", "old", "--new-view", "new"]
    judge += ["--queries", f"{tmp_path}/queries.jsonl", "--corpus", f"{tmp_path}/corpus.jsonl"]
    assert main([*judge, "--report", f"{tmp_path}/gate.html", "--json"]) in (0, 3, 4)
    report = json.loads(capsys.readouterr().out)
    assert [step["share"] for step in report["steps"]][::2] == [0, 0.25, 0.5, 0.75, 1]
    assert "old items among the answers" in (tmp_path / "gate.html").read_text()


def test_the_command_asks_for_an_encoder_that_the_space_does_not_name(tmp_path, capsys):
    x = np.random.default_rng(0).standard_normal((60, 4))
    SharedSpace(2, alpha=1.0).fit({"old": x, "new": x[:, ::-1]}).save_pretrained(tmp_path / "space")
    command = ["re-encode", "qdrant:./a/b", "--space", f"{tmp_path}/space", "--view", "new"]
    assert main(command) == 1
    assert "--encoder is needed: the space names none for the view 'new'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        (["migrate", "qdrant:./a/b", "qdrant:./a/c", "--gradual"], "--gradual needs --view"),
        (["migrate", "qdrant:./a/b", "qdrant:./a/c", "--view", "old"], "--view is for --gradual"),
        (
            ["migrate", "qdrant:./a/b", "qdrant:./a/c", "--price", "1", "--text-field", "t"],
            "--text-field is for --dry-run",
        ),
        (["gate", "--gradual"], "needs --old-view and --new-view"),
        (["gate", "--old-view", "old"], "--old-view is for --gradual"),
    ],
)
def test_the_commands_say_what_is_missing(command, wanted, capsys):
    vectors = ["--queries-target-vectors", "q.npy", "--corpus-target-vectors", "c.npy"]
    command = [*command, *(vectors if command[0] == "gate" else []), "--translator", "space"]
    assert main(command) == 1
    assert wanted in capsys.readouterr().err
