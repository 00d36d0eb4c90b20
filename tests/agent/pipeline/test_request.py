"""What is asked for: choices of numbers, devices, and mistakes that are found before any work."""

from __future__ import annotations

import pytest
import torch

from agent.pipeline.backends.local import share_processors
from agent.pipeline.request import LabelRequest, check_request, devices_of, parse_indices
from maps_engine.errors import HeadscribeError, OutOfRange, UserMistake
from maps_engine.results import EngineSettings


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, (0, 1, 2, 3)), ("", (0, 1, 2, 3)), ("all", (0, 1, 2, 3)), ("2", (2,)), ("3,0-1", (0, 1, 3)),
     (" 1 - 2 , 2", (1, 2)), ("0-3", (0, 1, 2, 3))],
)  # fmt: skip
def test_choices_of_numbers(text, expected):
    assert parse_indices(text, 4, "layer") == expected


@pytest.mark.parametrize("text", ["x", "1-", "-1", "2-1", "1,,2", "1;2", "0x1", "99999999", "4", "0-4"])
def test_bad_choices_of_numbers_are_the_users_mistake(text):
    with pytest.raises((UserMistake, OutOfRange)) as caught:
        parse_indices(text, 4, "layer")
    assert isinstance(caught.value, HeadscribeError)


def test_devices():
    assert devices_of("cuda:0, cuda:1") == ("cuda:0", "cuda:1")
    with pytest.raises(UserMistake):
        devices_of("cpu,")


@pytest.mark.parametrize("settings", [{"top": 0}, {"targets": 0}])
def test_lists_of_no_length_are_refused(settings):
    with pytest.raises(UserMistake, match="nothing to list"):
        EngineSettings("embedding", **settings)


def test_mistakes_are_found_before_anything_is_opened():
    with pytest.raises(UserMistake, match="0 workers"):
        check_request(LabelRequest(model="nowhere", workers=0))
    with pytest.raises(UserMistake, match="0 heads at once"):
        check_request(LabelRequest(model="nowhere", heads_at_once=0))
    with pytest.raises(UserMistake, match="no such engine: got nonsense; expected local or ray"):
        check_request(LabelRequest(model="nowhere"), "nonsense")
    with pytest.raises(UserMistake, match="unknown device: got nonsense"):
        check_request(LabelRequest(model="nowhere", device="cpu,nonsense"))


@pytest.mark.parametrize(("threads", "processes", "left"), [(8, 2, 4), (8, 3, 2), (2, 4, 1)])
def test_processes_of_several_devices_share_the_processors(threads, processes, left):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        share_processors(processes)
        assert torch.get_num_threads() == left
    finally:
        torch.set_num_threads(before)
