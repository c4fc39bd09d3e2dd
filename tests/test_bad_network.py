"""Over a bad network the result is that of a good one, or a clear refusal; nothing is lost."""

import logging
import time

import pytest
from faulty_proxy import FAULTS, FaultyProxy, say, through
from huggingface_hub import constants
from huggingface_hub.utils import http_backoff
from network_jobs import JOBS, attempt, count

from hf_latent_bridge.errors import HubUnavailableError
from hf_latent_bridge.hub.waits import bounded_waits, patiently

SAMPLE = [
    ("load", 1, "503", "done"),
    ("load", 3, "cut short", "done"),
    ("load", 5, "truncate", "done"),
    ("load", 5, "damage", "done"),
    ("load", 5, "403", "refused"),
    ("push to a new repo", 1, "lose the answer", "done"),
    ("push to a new repo", 9, "lose the answer", "done"),
    ("push to a new repo", 9, "409", "refused"),
    ("push over an old one", 4, "500", "done"),
    ("push over an old one", 4, "404", "refused"),
    ("push results", 8, "damage", "refused"),
    ("info", 2, "429", "done"),
    ("search", 2, "truncate", "done"),
    ("search", 2, "cut short", "refused"),
    ("search", 1, "401", "refused"),
]
IN_THE_SLOW_LANE = ("lose the answer", "damage", "500")
ENCODERS = ("load an encoder (transformers)", "load an encoder (sentence-transformers)")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Pauses take no time."""
    pause = time.sleep
    monkeypatch.setattr("time.sleep", lambda seconds: pause(min(seconds, 0.001)))


@pytest.fixture(scope="module")
def proxy(hub):
    usual, hub.store.page_size = hub.store.page_size, 2
    with FaultyProxy() as proxy:
        yield proxy
    hub.store.page_size = usual


@pytest.mark.parametrize(("job", "k", "fault", "outcome"), SAMPLE)
def test_one_spoilt_request(proxy, job, k, fault, outcome):
    tried = attempt(job, proxy, k, fault)
    assert (tried.outcome, tried.wrong) == (outcome, ""), tried.message


@pytest.mark.slow
@pytest.mark.parametrize("job", [job for job in JOBS if job not in ENCODERS])
def test_each_request_spoilt_in_turn(proxy, job):
    for k in range(1, count(job, proxy) + 1):
        for fault in IN_THE_SLOW_LANE:
            tried = attempt(job, proxy, k, fault)
            assert not tried.wrong, (k, fault, tried.message)


@pytest.mark.slow
@pytest.mark.parametrize("job", ENCODERS)
def test_no_file_of_an_encoder_is_left_out(proxy, job):
    """Their loaders go on without what they could not fetch, and would give other latents."""
    for k in range(1, count(job, proxy) + 1):
        tried = attempt(job, proxy, k, "503")
        assert (tried.outcome, tried.wrong) == ("done", ""), (k, tried.message)


@pytest.mark.slow
@pytest.mark.parametrize("job", ENCODERS)
def test_a_hub_that_asks_to_be_left_alone_is_given_up_and_the_encoder_named(proxy, job):
    for k in range(1, count(job, proxy) + 1):
        tried = attempt(job, proxy, k, "503, Retry-After: 86400")
        assert not tried.wrong, (k, tried.message)


def test_the_log_of_the_client_about_a_busy_hub_names_no_password(proxy, caplog):
    url = f"{constants.ENDPOINT}/api/models".replace("://", "://me:s3cret@")
    proxy.spoil(1, say(503), times=2)
    logger = logging.getLogger("huggingface_hub")
    logger.addHandler(caplog.handler)
    with through(proxy), bounded_waits():
        http_backoff("GET", url, max_retries=3)
    logger.removeHandler(caplog.handler)
    assert "503 thrown while requesting GET http://127.0.0.1" in caplog.text
    assert "s3cret" not in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["silence", "silence after acting", "drip"])
@pytest.mark.parametrize("job", ["load", "push to a new repo"])
def test_no_wait_is_endless(proxy, job, fault):
    for k in range(1, count(job, proxy) + 1):
        tried = attempt(job, proxy, k, fault)
        assert not tried.wrong, (k, tried.message)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_that_stays_busy_is_given_up(proxy, status):
    tried = attempt("load", proxy, 1, str(status), times=1000)
    assert (tried.outcome, tried.wrong) == ("refused", "")
    assert "try again later" in tried.message
    assert 3 <= tried.requests <= 12


class TestRetryAfter:
    @pytest.fixture
    def pauses(self, monkeypatch):
        """The pauses that are made."""
        found = []
        monkeypatch.setattr("time.sleep", found.append)
        return found

    def load(self, proxy, fault):
        FAULTS["this one"] = fault
        try:
            return attempt("load", proxy, 1, "this one")
        finally:
            del FAULTS["this one"]

    @pytest.mark.parametrize("status", [429, 503])
    def test_it_is_the_next_pause(self, proxy, pauses, status):
        tried = self.load(proxy, say(status, Retry_After="2"))
        assert (tried.outcome, tried.wrong) == ("done", "")
        assert pauses[0] == 2

    def test_a_date_is_understood(self, proxy, pauses):
        past = "Wed, 21 Oct 2015 07:28:00 GMT"
        tried = self.load(proxy, say(503, Retry_After=past))
        assert (tried.outcome, tried.wrong) == ("done", "")
        assert pauses[0] <= 0.5

    def test_one_beyond_the_patience_is_not_waited_for(self, proxy, pauses):
        tried = self.load(proxy, say(503, Retry_After="86400"))
        assert tried.outcome == "refused"
        assert "asks to be left alone for 86400 seconds" in tried.message
        assert not pauses


def test_what_is_not_the_hubs_fault_is_not_tried_again():
    tries = []

    def call():
        tries.append(1)
        raise HubUnavailableError("given up")

    with pytest.raises(HubUnavailableError):
        patiently(call)
    assert len(tries) == 1
