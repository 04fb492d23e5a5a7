"""Daytona's API, version 0: what its SDKs from 0.109 to 0.226 and the code written against them expect of a server."""

from chalicelib.dialect import Dialect
from chalicelib.dialects.daytona import (
    changing,
    config,
    errors,
    keys,
    listing,
    previews,
    sandboxes,
    toolbox,
    workspaces,
)

DIALECT = Dialect(
    name="daytona",
    routes=(
        *config.ROUTES,
        *keys.ROUTES,
        *listing.ROUTES,
        *sandboxes.ROUTES,
        *changing.ROUTES,
        *previews.ROUTES,
        *workspaces.ROUTES,
        *toolbox.ROUTES,
    ),
    error=errors.error,
    statuses=errors.STATUSES,
)
