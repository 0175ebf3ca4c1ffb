"""The options of OpenAI's API."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

import click

from dsv4_tp.config import Http, parse_http
from dsv4_tp.config.cluster import MetricsAlias

http = click.option(
    "--http",
    metavar="[HOST:]PORT",
    help="Of OpenAI's API; 0.0.0.0:8000: from elsewhere, too. Default: 8000 here, or a free one.",
)
api_keys = click.option(
    "--api-keys",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keys that clients of OpenAI's API show, one a line; wanted where others get there.",
)

metrics_alias = click.option(
    "--metrics-alias",
    type=click.Choice([alias.value for alias in MetricsAlias]),
    help="Tell metrics by these names, too, for dashboards that know them.",
)


@dataclass(frozen=True, slots=True)
class Door:
    """What these options say; where they say nothing, the file does."""

    http: str | None
    api_keys: Path | None
    metrics_alias: str | None

    @property
    def given(self) -> list[str]:
        """Which of them were given."""
        names = [field.name for field in fields(self) if getattr(self, field.name) is not None]
        return [f"--{name.replace('_', '-')}" for name in names]

    def applied(self, http: Http) -> Http:
        """`http` as they want it; ConfigError if `--http` is no address and port."""
        if self.http is not None:
            http = parse_http(self.http, http)
        if self.api_keys is not None:
            http = replace(http, api_keys_file=str(self.api_keys.absolute()))
        if self.metrics_alias is not None:
            http = replace(http, metrics_alias=MetricsAlias(self.metrics_alias))
        return http


ALL = (metrics_alias, api_keys, http)
