"""Every route of the API as a table, for tests that walk them all.

Made of the real route files without a daemon behind: no handler may be called.
"""

from dataclasses import fields
from typing import Any

from dorabatch.daemon.api import (
    credit_routes,
    hold_routes,
    kind_routes,
    log_routes,
    node_routes,
    policy_routes,
    report_routes,
    share_routes,
    status_routes,
    submit_routes,
    whatif_routes,
    workload_routes,
)
from dorabatch.daemon.api.app import openapi_route
from dorabatch.daemon.api.http import Route

_FILES: tuple[Any, ...] = (
    submit_routes.SubmitRoutes,
    hold_routes.HoldRoutes,
    log_routes.LogRoutes,
    workload_routes.WorkloadRoutes,
    kind_routes.KindRoutes,
    node_routes.NodeRoutes,
    policy_routes.PolicyRoutes,
    share_routes.ShareRoutes,
    whatif_routes.WhatifRoutes,
    credit_routes.CreditRoutes,
    report_routes.ReportRoutes,
    status_routes.StatusRoutes,
)


def _of_file(made: Any) -> tuple[Route, ...]:
    nothing = made(**{field.name: None for field in fields(made)})
    found: tuple[Route, ...] = nothing.routes()
    return found


_PLAIN = tuple(route for made in _FILES for route in _of_file(made))
ROUTES = (*_PLAIN, openapi_route(_PLAIN))
"""Every route, the one that describes the others last."""
