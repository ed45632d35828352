"""What the sequence model reads of a query, worked out by hand."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ml_platform.ranking.baskets import Catalogue
from ml_platform.training.job import TrainingFailed
from ml_platform.training.sequence.model import LENGTH, Architecture, NextBasket, loss_of
from ml_platform.training.sequence.resident import Resident
from ml_platform.training.sequence.tensors import HISTORY, PAIR_INPUTS, Shelf, bucket, build_examples
from ml_platform.training.sequence.vocabulary import UNSEEN, Vocabulary, VocabularyMismatch
from ml_platform_tests.ranking.builders import MONDAY_NUMBER, Query, catalogue, queries

SHELF = catalogue(1, 2, 3, 4, statistics=np.array([[9.0], [99.0], [np.nan], [0.0]], np.float32), names=("lines",))
WORDS = Vocabulary.of_catalogues([SHELF])


def examples_of(*rows: Query, shelf: Catalogue = SHELF):
    return build_examples(queries(*rows), {MONDAY_NUMBER: shelf}, WORDS)


def test_a_pair_is_a_distinct_product_of_the_catalogue_with_its_times_and_gaps() -> None:
    found = examples_of(Query(baskets=[(20, [1, 7]), (12, [2]), (4, [1, 2])]), Query(), Query(baskets=[(3, [4])]))
    assert found.pair_offsets.tolist() == [0, 2, 2, 3] and found.pair_places.tolist() == [0, 1, 3]
    expected = {
        "times": np.log(2),
        "share_of_baskets": 2 / 3,
        "decayed_by_basket_0.85": np.log(0.85**2 + 1 + 0.01),
        "days_since": np.log1p(4),
        "mean_gap_days": np.log1p(16),
        "days_since_first": np.log1p(20),
        "bought_once": 0.0,
    }
    pair = dict(zip(PAIR_INPUTS, found.pairs[0].tolist()))
    assert {name: pair[name] for name in expected} == pytest.approx(expected, rel=2**-11), "to half a float16's step"
    assert dict(zip(PAIR_INPUTS, found.pairs[2].tolist()))["bought_once"] == 1.0


def test_the_repeat_head_knows_every_basket_and_the_transformer_the_newest() -> None:
    old = [(100 - day, [1 + day % 4]) for day in range(HISTORY + 5)]
    found = examples_of(Query(baskets=old))
    assert found.basket_offsets.tolist() == [0, HISTORY] and len(found.lines) == HISTORY
    assert found.times[0, 1] == 0, "nothing came before the first that is read"
    assert np.exp(found.pairs[:, 0]).sum() == pytest.approx(HISTORY + 5, rel=2**-10)


def test_targets_outside_the_catalogue_are_left_out() -> None:
    found = examples_of(Query(target=[2, 8, 9]), Query(target=[3, 4]))
    assert found.target_offsets.tolist() == [0, 1, 3] and found.target_places.tolist() == [1, 2, 3]


def test_buckets_are_exact_for_days_of_the_week_and_rise() -> None:
    assert bucket(np.arange(9)).tolist() == list(range(9))
    wide = bucket(np.arange(2000))
    assert (np.diff(wide) >= 0).all() and wide.max() == 23


def test_a_product_that_no_training_monday_had_is_unseen() -> None:
    newer = replace(SHELF, products=np.array([1, 2, 3, 50]))
    assert Shelf.of(newer, WORDS).slots.tolist() == [1, 2, 3, UNSEEN]
    assert Vocabulary.from_json(WORDS.to_json()).to_json() == WORDS.to_json()


def test_other_statistics_than_the_training_had_are_refused() -> None:
    with pytest.raises(VocabularyMismatch, match="trained on lines"):
        Shelf.of(replace(SHELF, names=("buyers",)), WORDS)


def test_a_monday_without_a_catalogue_is_told() -> None:
    with pytest.raises(TrainingFailed, match="no catalogue as of 2017-10-30"):
        build_examples(queries(Query()), {}, WORDS)


def test_baskets_stand_before_today_and_a_household_scores_alike_alone_and_among_others() -> None:
    rows = (Query(baskets=[(9, [1, 2]), (2, [3])], target=[1]), Query(target=[2]), Query(baskets=[(5, [4, 8])]))
    torch.manual_seed(0)
    model = NextBasket(Architecture(products=4, categories=1, statistics=1, width=8, repeat_width=4)).eval()
    resident = Resident(examples_of(*rows), {MONDAY_NUMBER: Shelf.of(SHELF, WORDS)}, torch.device("cpu"))
    together = resident.batch(np.arange(3))
    assert together.valid.sum(dim=1).tolist() == [3, 1, 2]
    assert together.tokens.tolist() == [LENGTH - 3, LENGTH - 2, 2 * LENGTH + LENGTH - 2]
    states, scores = model(together)
    alone = [model(resident.batch(np.array([row])))[1] for row in range(3)]
    assert torch.allclose(torch.cat(alone), scores, atol=1e-6) and states.shape == (3, 8)
    losses = loss_of(scores, together)
    assert losses[0].item() == pytest.approx(-scores[0].log_softmax(0)[0].item(), abs=1e-5) and losses[2] == 0


def test_the_loss_has_the_gradient_that_is_written_out_also_without_a_target() -> None:
    batch: Any = SimpleNamespace(target_rows=torch.tensor([0, 0, 2]), target_places=torch.tensor([1, 3, 0]))
    scores = torch.linspace(-2, 3, 12, dtype=torch.float64).reshape(3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda each: loss_of(each, batch), scores)
    logs = scores.detach().log_softmax(dim=1)
    by_hand = [-(logs[0, 1] + logs[0, 3]).item() / 2, 0.0, -logs[2, 0].item()]
    assert loss_of(scores, batch).tolist() == pytest.approx(by_hand)
