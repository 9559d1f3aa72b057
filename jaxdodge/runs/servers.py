"""The servers of a training, as its command line names them, and as its folder keeps them."""

import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from jaxdodge.agents.train_config import TrainConfig
from jaxdodge.config import SERVER_EPISODE_STEPS, GameConfig
from jaxdodge.fields import ConfigError, Number, check_names, read_yaml
from jaxdodge.files import atomic_write

if TYPE_CHECKING:
    from jaxdodge.bevy.fleet import Fleet

FILE = "servers.yaml"
# Of a training on servers, where neither a file nor the command line says otherwise: the servers
# are what limits it, so it learns more from each step than in the simulator, for fewer steps.
DEFAULTS = {
    "total_timesteps": 200_000,
    "learning_starts": 2_000,
    "buffer_size": 200_000,
    "train_freq": 2,
    "gradient_steps": 2,
    "eval_freq": 10_000,
    "save_freq": 10_000,
    "n_eval_episodes": 64,
}


@dataclasses.dataclass(frozen=True)
class Servers:
    """Which servers to play on, and how.

    Raises:
        ConfigError: invalid, or not exactly one of `urls` and `command`.
    """

    urls: tuple[str, ...] = ()
    """Of running servers."""
    command: str | None = None
    """Starts a server; `{port}` or `{socket}` in it says where."""
    number: int | None = None
    """Servers that the command starts."""
    think_seconds: float | None = None
    """Pause after each step; None for as many frames per step as the game's configuration says."""
    timeout: float = 5.0
    """Seconds to wait for a response."""
    max_restarts: int = 20
    """Restarts of one server within ten minutes."""

    def __post_init__(self) -> None:
        if bool(self.urls) == (self.command is not None):
            raise ConfigError("servers: expected either --servers or --server-command")
        if len({*self.urls}) != len(self.urls):
            raise ConfigError(f"servers: invalid value {','.join(self.urls)!r}; expected different URLs")
        if self.command is None and self.number is not None:
            raise ConfigError("num_servers: invalid value without --server-command; expected none")
        if self.command is not None:
            Number(int, 1).check("num_servers", self.number)
        if self.think_seconds is not None:
            Number(float, 0, 3600).check("think_seconds", self.think_seconds)

    @property
    def count(self) -> int:
        """How many servers there are."""
        return self.number or len(self.urls)

    @property
    def first_url(self) -> str:
        """The URL of a server, perhaps with a placeholder."""
        return self.urls[0] if self.urls else "http://" if "{port}" in (self.command or "") else "unix://"

    def fleet(self, game: GameConfig, log_folder: Path | None = None) -> "Fleet":
        """A fleet of them; nothing is started yet. Raises ConfigError."""
        # It imports JAX.
        from jaxdodge.bevy.fleet import Fleet

        return Fleet(
            game,
            urls=self.urls or None,
            server_command=self.command,
            num_envs=self.count,
            timeout=self.timeout,
            max_restarts=self.max_restarts,
            log_folder=log_folder,
        )

    def check(self, game: GameConfig, config: TrainConfig, devices: int) -> None:
        """Raise ConfigError for what cannot be trained on them, or if one does not answer."""
        for name, value, expected in (
            ("observation_mode", game.observation_mode, ("standard", "with_thrower")),
            ("frame_stack", game.frame_stack, (1,)),
            ("normalize_observations", config.normalize_observations, (False,)),
            ("seeds", config.seeds, (1,)),
            ("devices", devices, (1,)),
        ):
            if value not in expected:
                raise ConfigError(
                    f"{name}: invalid value {value!r}; expected {' or '.join(map(str, expected))} on servers"
                )
        from jaxdodge.bevy import connect
        from jaxdodge.bevy.client import ServerError

        for url in self.urls:
            try:
                with contextlib.closing(connect(url, self.timeout, "servers")) as client:
                    client.observation_space()
            except ServerError as error:
                raise ConfigError(f"servers: {error}; expected running servers") from None
        self.fleet(game).close()

    def save(self, folder: Path) -> None:
        """Write them into the folder of a run."""
        values = dataclasses.asdict(self) | {"urls": list(self.urls)}
        atomic_write(folder / FILE, yaml.safe_dump(values, sort_keys=False))

    @classmethod
    def load(cls, folder: Path) -> "Servers | None":
        """Those of the run in a folder; None if it was trained in the simulator."""
        if not (folder / FILE).is_file():
            return None
        values = read_yaml(folder / FILE)
        check_names(values, {field.name: "" for field in dataclasses.fields(cls)}, FILE)
        return cls(**values | {"urls": tuple(values.get("urls", ()))})


def with_server_defaults(values: dict[str, Any], servers: Servers) -> dict[str, Any]:
    """The fields of game and training of a new run on servers.

    Raises:
        ConfigError: a number of environments that is not that of the servers.
    """
    if values.get("num_envs", servers.count) != servers.count:
        raise ConfigError(
            f"num_envs: invalid value {values['num_envs']}; expected {servers.count}, the number of servers"
        )
    return {**DEFAULTS, "max_episode_steps": SERVER_EPISODE_STEPS, **values, "num_envs": servers.count}
