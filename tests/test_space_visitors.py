"""Several visitors at once: each gets the answer that they would get alone."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from gradio_client import Client

pytestmark = pytest.mark.slow

QUERIES = [f"query {number} of twenty" for number in range(20)]


def ask(client, query):
    return client.predict(query, api_name="/search")[1]


def test_two_visitors_get_their_own_answers(space):
    alone = [ask(space, query) for query in QUERIES[:2]]
    other = Client(space.src, verbose=False, analytics_enabled=False)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(ask, (space, other), QUERIES[:2])) == alone
    other.close()


def test_twenty_queries_at_once_are_all_answered_as_if_alone(space):
    alone = [ask(space, query) for query in QUERIES]
    jobs = [space.submit(query, api_name="/search") for query in QUERIES]
    assert [job.result(120)[1] for job in jobs] == alone
