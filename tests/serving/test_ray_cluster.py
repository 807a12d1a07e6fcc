"""A real Ray cluster of two worker nodes, of which one is killed in the middle."""

import logging
import os
import warnings

import pytest

from serving.audience import ALL, bucket_of
from serving.executors import in_this_process

pytestmark = pytest.mark.slow
SMALL = {"object_store_memory": 100 << 20, "include_dashboard": False}
SOON = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500,
        "health_check_failure_threshold": 2}  # fmt: skip


@pytest.fixture
def cluster():
    """A head that makes no lists and two nodes that do; ended without mercy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray about its own settings
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        from ray.cluster_utils import Cluster

        made = Cluster(True, head_node_args={"num_cpus": 0, "_system_config": SOON} | SMALL)
        for _ in range(2):
            made.add_node(num_cpus=1, **SMALL)
        yield made
        made.shutdown()
        logging.shutdown()


def test_two_nodes_write_the_same_bytes_though_one_dies(shop, cluster):
    import ray

    from serving.ray_cluster import in_ray

    prepared, work = shop
    buckets = [bucket_of(prepared, at, ALL, work.moment) for at in range(prepared.n_buckets)]
    expected = {part.number: part for part in in_this_process(work, buckets, lambda done: None)}
    assert len(expected) >= 4
    found = {}
    for part in in_ray(work, buckets, None, cluster.address):
        if not found:
            own = ray.get_runtime_context().get_node_id()
            other = [node for node in cluster.worker_nodes if node.node_id != own]
            cluster.remove_node(other[0], allow_graceful=False)
        found[part.number] = part
    assert found == expected
