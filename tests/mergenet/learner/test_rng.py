"""Random streams: independent of each other, of what surrounds them, and restorable."""

import pytest
import torch

from mergenet.learner.rng import Stream, stream_seed


def draw(stream: Stream, count: int = 3) -> torch.Tensor:
    with stream.active():
        return torch.rand(count)


def draw_and_fail(count: int) -> None:
    torch.rand(count)
    raise RuntimeError("inside")


def test_a_stream_is_a_function_of_seed_and_name() -> None:
    assert torch.equal(draw(Stream(1, "target/data")), draw(Stream(1, "target/data")))
    seeds = {stream_seed(seed, name) for seed in range(20) for name in ("a", "b", "1/a", "a/1")}
    assert len(seeds) == 80
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seed_and_name_do_not_run_together() -> None:
    assert stream_seed(1, "1/a") != stream_seed(11, "a")
    assert stream_seed(1, "a") == 6885665436231814845, "another hash breaks every recorded run"


def test_what_is_drawn_outside_or_by_another_stream_does_not_shift_it() -> None:
    alone = Stream(0, "a")
    expected = torch.cat([draw(alone), draw(alone)])
    stream, other = Stream(0, "a"), Stream(0, "b")
    first = draw(stream)
    torch.rand(7)
    draw(other)
    assert torch.equal(torch.cat([first, draw(stream)]), expected)


def test_the_global_generator_is_left_as_it_was_even_after_an_error() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    stream = Stream(0, "a")
    with pytest.raises(RuntimeError, match="inside"), stream.active():
        draw_and_fail(10)
    assert torch.equal(torch.rand(2), expected)
    fresh = Stream(0, "a")
    draw(fresh, 10)
    assert torch.equal(draw(stream), draw(fresh)), "what was drawn before the error stays drawn"


def test_streams_nest() -> None:
    outer, inner = Stream(0, "outer"), Stream(0, "inner")
    with outer.active():
        first = torch.rand(1)
        draw(inner)
        second = torch.rand(1)
    assert torch.equal(torch.cat([first, second]), torch.cat([draw(fresh := Stream(0, "outer"), 1), draw(fresh, 1)]))


def test_a_restored_stream_goes_on_where_it_was() -> None:
    stream = Stream(0, "a")
    draw(stream, 5)
    state = stream.state_dict()
    expected = draw(stream)
    other = Stream(9, "z")
    other.load_state_dict(state)
    assert torch.equal(draw(other), expected)
    again = Stream(9, "z")
    again.load_state_dict(state)
    assert torch.equal(draw(again), expected), "a saved state must not move on with the stream that loaded it"
