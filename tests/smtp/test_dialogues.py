"""The conversations of tests/dialogues, held with the pure machines."""

import pytest
from dialogue import CUTTINGS, Cutting, Dialogue, load, run_relay, run_server

SERVER = load("server")


@pytest.mark.parametrize("cutting", CUTTINGS)
@pytest.mark.parametrize("dialogue", load("relay"), ids=str)
def test_relay_dialogue(dialogue: Dialogue, cutting: Cutting) -> None:
    run_relay(dialogue, cutting)


@pytest.mark.parametrize("cutting", CUTTINGS)
@pytest.mark.parametrize("dialogue", SERVER, ids=str)
def test_server_dialogue_over_a_network(dialogue: Dialogue, cutting: Cutting) -> None:
    run_server(dialogue, cutting, lf_ends_line=False)


@pytest.mark.parametrize("cutting", CUTTINGS)
@pytest.mark.parametrize("dialogue", [each for each in SERVER if each.says("network only") is None], ids=str)
def test_server_dialogue_on_pipes_where_lines_end_in_lf(dialogue: Dialogue, cutting: Cutting) -> None:
    run_server(dialogue, cutting, lf_ends_line=True)
