"""What only the older clients can ask: everything under the name that sandboxes had before June 2025."""

import os
from typing import Any

import daytona_api_client as generated
import pytest


@pytest.mark.proves("createWorkspace", "getWorkspace", "listWorkspaces", "deleteWorkspace")
@pytest.mark.proves("startWorkspace", "stopWorkspace", "replaceLabelsWorkspace", "updatePublicStatusWorkspace")
@pytest.mark.proves("setAutostopIntervalWorkspace", "setAutoArchiveIntervalWorkspace", "getPortPreviewUrlWorkspace")
def test_a_workspace_lives_as_a_sandbox_does() -> None:
    place = generated.Configuration(host=os.environ["DAYTONA_API_URL"], access_token=os.environ["DAYTONA_API_KEY"])
    with generated.ApiClient(place) as client:
        api = generated.WorkspaceApi(client)
        made = api.create_workspace_deprecated(generated.CreateWorkspace(labels={"old": "yes"}))
        _change(api, made.id)

        shown = api.get_workspace_deprecated(made.id)
        listed = [w.id for w in api.list_workspaces_deprecated(labels='{"new":"yes"}')]
        api.stop_workspace_deprecated(made.id)
        stopped = api.get_workspace_deprecated(made.id).state
        api.start_workspace_deprecated(made.id)
        api.delete_workspace_deprecated(made.id, force=True)

    assert (shown.state, shown.public, shown.auto_stop_interval, shown.auto_archive_interval) == (
        "started",
        True,
        30,
        60,
    )
    assert made.id in listed
    assert stopped == "stopped"


def _change(api: Any, id: str) -> None:
    api.replace_labels_workspace_deprecated(id, generated.SandboxLabels(labels={"new": "yes"}))
    api.update_public_status_workspace_deprecated(id, True)
    api.set_autostop_interval_workspace_deprecated(id, 30)
    api.set_auto_archive_interval_workspace_deprecated(id, 60)
    assert api.get_port_preview_url_workspace_deprecated(id, 2280).token
