"""The Gymnasium environments in processes of their own: what importing loads, and workers."""

import subprocess
import sys
import textwrap

import pytest


@pytest.mark.slow
def test_registration_in_a_fresh_process(tmp_path):
    """Importing jaxdodge registers with Gymnasium without loading JAX;
    a module prefix imports it.
    """
    script = """
        import importlib, sys
        import gymnasium

        assert "jaxdodge/Dodge-v0" not in gymnasium.registry
        env = gymnasium.make("jaxdodge:jaxdodge/Dodge-v0", level=2, render_mode="rgb_array")
        env.reset(seed=0)
        assert env.step(env.action_space.sample())[0].shape == (65,)
        assert env.render().shape == (256, 256, 3)
        envs = gymnasium.make_vec("jaxdodge/Dodge-v0", num_envs=3, level=2)
        assert type(envs).__name__ == "DodgeVectorEnv"
        assert envs.reset(seed=0)[0].shape == (3, 65)

        import gymnax, jaxdodge
        importlib.reload(jaxdodge)
        env, params = gymnax.make("jaxdodge/Dodge-v0", level=2, frames_per_step=3)
        assert env.config.frames_per_step == 3
        assert params.max_steps_in_episode == 1000
    """
    light = """
        import signal, sys, jaxdodge, gymnasium
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert "jaxdodge/Dodge-v0" in gymnasium.registry
        assert not {"jax", "gymnax", "flax", "matplotlib"} & set(sys.modules)
        import jaxdodge.runs.loop, jaxdodge.sim.gym, jaxdodge.bevy.fleet, jaxdodge.parity.check
        assert not {"gymnax", "seaborn", "pandas", "matplotlib.pyplot"} & set(sys.modules)
    """
    for code in (light, script):
        run_script(code, tmp_path)


@pytest.mark.slow
def test_async_workers(tmp_path):
    """In a fresh process they play; where JAX has started, one line says what to do."""
    script = """
        import gymnasium, jaxdodge
        import numpy as np

        FIELDS = {"level": 2, "action_space_type": "basic_3d", "max_episode_steps": 3}

        def play(**options):
            envs = gymnasium.make_vec("jaxdodge/Dodge-v0", num_envs=1, **options, **FIELDS)
            seen = [envs.reset(seed=5)[0]]
            for _ in range(3):
                seen.append(envs.step(np.zeros((1, 3), np.float32))[0])
            envs.close()
            return np.stack(seen)

        if __name__ == "__main__":
            forked = play(vectorization_mode="async")
            np.testing.assert_array_equal(play(vectorization_mode="sync"), forked)
            try:
                play(vectorization_mode="async")
            except RuntimeError as error:
                print(error)
    """
    printed, complaints = run_script(script, tmp_path)
    assert "Traceback" not in complaints
    assert printed == (
        "vectorization_mode: invalid value 'async' where JAX already runs; expected the default "
        "(faster), or vector_kwargs={'context': 'spawn'}\n"
    )


@pytest.mark.slow
def test_spawned_workers_play_where_jax_runs(tmp_path):
    script = """
        import gymnasium, jax, jaxdodge

        if __name__ == "__main__":
            jax.devices()
            envs = gymnasium.make_vec(
                "jaxdodge/Dodge-v0", 1, vectorization_mode="async", vector_kwargs={"context": "spawn"}
            )
            print(envs.reset(seed=5)[0].shape)
            envs.close()
    """
    assert run_script(script, tmp_path)[0] == "(1, 65)\n"


def run_script(text, folder) -> tuple[str, str]:
    """What it prints, on standard output and standard error."""
    path = folder / "script.py"
    path.write_text(textwrap.dedent(text))
    command = [sys.executable, str(path)]
    done = subprocess.run(command, cwd=folder, timeout=300, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr
