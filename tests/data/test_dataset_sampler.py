from __future__ import annotations

import pytest

from gss.data.dataset import EvaluationShard, TrainingSampler


def test_every_pass_holds_each_pair_once_in_a_new_order():
    requests = list(TrainingSampler(num_pairs=10, batch_size=4, num_steps=10, seed=3))
    assert [request.number for request in requests] == list(range(40))
    passes = [[request.index for request in requests[start : start + 10]] for start in range(0, 40, 10)]
    assert all(sorted(one_pass) == list(range(10)) for one_pass in passes)
    assert len({tuple(one_pass) for one_pass in passes}) == 4


def test_the_seed_decides_the_order():
    def order(seed):
        return [request.index for request in TrainingSampler(50, 5, 10, seed=seed)]

    assert order(0) == order(0)
    assert order(0) != order(1)


@pytest.mark.parametrize("first_step", [0, 1, 5, 7])
def test_a_resumed_training_sees_what_the_straight_one_would(first_step):
    straight = list(TrainingSampler(9, 4, 7, seed=1))
    resumed = TrainingSampler(9, 4, 7, seed=1, first_step=first_step)
    assert list(resumed) == straight[first_step * 4 :]
    assert len(resumed) == 28


def test_ranks_share_the_global_batch_of_one_process():
    alone = list(TrainingSampler(9, 6, 5, seed=2))
    ranks = [list(TrainingSampler(9, 3, 5, seed=2, rank=rank, world_size=2)) for rank in (0, 1)]
    together = [request for step in range(5) for rank in ranks for request in rank[3 * step : 3 * step + 3]]
    assert together == alone


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_evaluation_visits_each_pair_exactly_once_over_all_ranks(world_size):
    shards = [EvaluationShard(7, rank, world_size) for rank in range(world_size)]
    assert sorted(index for shard in shards for index in shard) == list(range(7))
    assert [len(shard) for shard in shards] == [len(list(shard)) for shard in shards]
