"""PPO of Stable-Baselines3 on level 2. The same works with sbx: `from sbx import PPO`."""

from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy

from jaxdodge.sb3 import make_vec_env

GAME = {"level": 2, "spawn_angle_degrees": 30.0, "action_space_type": "basic_3d", "frames_per_step": 7}

envs = make_vec_env(16, seed=0, **GAME)
model = PPO("MlpPolicy", envs, n_steps=256, batch_size=512, verbose=1, seed=0)
model.learn(200_000)
model.save("ppo_level2")
mean, std = evaluate_policy(model, make_vec_env(10, seed=1_000, **GAME), n_eval_episodes=10)
print(f"return {mean:.1f} ± {std:.1f}")
