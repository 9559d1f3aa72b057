"""What a fleet's rows mean, against a fleet that is written down as episodes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jaxdodge.bevy.transitions import Transition, Transitions

# An episode of one server: its steps, how it ends, and for how many rows the server is then away.
EPISODES = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(["terminated", "truncated", "dropped"]), st.integers(0, 3)),
    min_size=1,
    max_size=4,
)


def rows_of(server: int, episodes):
    """Rows (observation, action, reward, terminated, truncated, valid,
    dropped), and the transitions.
    """
    number = iter(range(10_000 * (server + 1), 10_000 * (server + 2)))
    observation = next(number)
    rows, transitions = [], []
    for index, (steps, end, away) in enumerate(episodes):
        if index:
            # The reset row, in which the action has no effect.
            observation = next(number)
            rows.append((observation, -1, 0, False, False, False, False))
        for step in range(steps):
            action, reward, after = next(number), next(number), next(number)
            last = step == steps - 1
            terminated, truncated = last and end == "terminated", last and end == "truncated"
            rows.append((after, action, reward, terminated, truncated, True, False))
            cut = truncated or (last and end == "dropped")
            transitions.append(Transition(server, observation, action, reward, after, terminated, cut))
            observation = after
        if end == "dropped":
            rows.append((observation, -2, 0, False, True, False, True))
        rows += [(observation, -3, 0, False, True, False, False)] * away
    return rows, transitions


@given(st.lists(EPISODES, min_size=1, max_size=3))
def test_the_transitions_of_every_server_are_those_that_happened(fleet):
    servers = [rows_of(server, episodes) for server, episodes in enumerate(fleet)]
    length = max(len(rows) for rows, _ in servers)
    # Those that have no more to say are away.
    filled = [rows + [(0, 0, 0, False, True, False, False)] * (length - len(rows)) for rows, _ in servers]
    first = np.array([[10_000 * (server + 1)] for server in range(len(fleet))])
    transitions, stored = Transitions(first), []
    for row in zip(*filled, strict=True):
        observations, actions, rewards, terminations, truncations, valid, dropped = map(
            np.array, zip(*row, strict=True)
        )
        info = {"valid": valid, "dropped": dropped}
        stored += transitions.add(actions, observations[:, None], rewards, terminations, truncations, info)
    stored += transitions.rest()
    for server, (_, expected) in enumerate(servers):
        mine = [
            each._replace(observation=each.observation[0], next_observation=each.next_observation[0])
            for each in stored
            if each.server == server
        ]
        assert mine == expected


def test_observations_of_several_parts_and_no_view_of_the_fleets_arrays():
    first = {"image": np.zeros((1, 2), np.uint8), "previous_action": np.zeros((1, 3))}
    after = {"image": np.ones((1, 2), np.uint8), "previous_action": np.ones((1, 3))}
    transitions = Transitions(first)
    info = {"valid": np.array([True]), "dropped": np.array([False])}
    flags = np.array([False])
    assert transitions.add(np.ones((1, 3)), after, np.array([2.0]), flags, flags, info) == []
    after["image"][:] = 7
    (stored,) = transitions.rest()
    assert stored.reward == 2.0
    np.testing.assert_array_equal(stored.observation["image"], [0, 0])
    np.testing.assert_array_equal(stored.next_observation["image"], [1, 1])
    assert [*transitions.rest()] == []
