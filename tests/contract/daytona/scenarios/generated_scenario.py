"""The generated client below the SDK, which reads every reply strictly and names no version of itself."""

import os
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import daytona_api_client as generated
import pytest
from sdk import NEWEST


@pytest.fixture(scope="module")
def api() -> Iterator[Any]:
    """The client, with the administrator's key."""
    with _client(os.environ["DAYTONA_API_KEY"]) as client:
        yield client


def _client(key: str) -> Any:
    return generated.ApiClient(generated.Configuration(host=os.environ["DAYTONA_API_URL"], access_token=key))


@pytest.mark.proves("ConfigController_getConfig", "configControllerGetConfig")
def test_the_configuration_says_where_things_are(api: Any) -> None:
    config = generated.ConfigApi(api).config_controller_get_config()

    assert config.default_snapshot
    assert config.maintanance_mode is False
    assert not NEWEST or config.proxy_toolbox_url.endswith("/daytona/toolbox")


@pytest.mark.proves("HealthController_check", "healthControllerCheck")
def test_health_is_told(api: Any) -> None:
    assert generated.HealthApi(api).health_controller_check().status == "ok"


@pytest.mark.proves(
    "createApiKey", "listApiKeys", "getApiKey", "getCurrentApiKey", "deleteApiKey", "deleteApiKeyForUser"
)
def test_a_key_is_made_used_and_removed(api: Any) -> None:
    keys, name = generated.ApiKeysApi(api), uuid.uuid4().hex
    expiry = datetime.now(UTC) + timedelta(days=1)

    made = keys.create_api_key(generated.CreateApiKey(name=name, permissions=["write:sandboxes"], expires_at=expiry))
    with _client(made.value) as theirs:
        current = generated.ApiKeysApi(theirs).get_current_api_key()
    listed = [key.name for key in keys.list_api_keys()]
    shown = keys.get_api_key(name)
    keys.delete_api_key(name)

    assert (current.name, current.permissions) == (name, ["write:sandboxes"])
    assert name in listed
    assert shown.value.endswith(made.value[-4:])
    assert made.value not in shown.value
    with pytest.raises(generated.exceptions.NotFoundException):
        keys.delete_api_key_for_user(shown.user_id, name)


@pytest.mark.proves("getPortPreviewUrl", "getToolboxProxyUrl")
def test_the_toolbox_has_an_address(api: Any) -> None:
    sandboxes = generated.SandboxApi(api)
    made = sandboxes.create_sandbox(generated.CreateSandbox())

    preview = sandboxes.get_port_preview_url(made.id, 2280)

    assert made.id in preview.url
    assert not NEWEST or sandboxes.get_toolbox_proxy_url(made.id).url.endswith("/daytona/toolbox")
    sandboxes.delete_sandbox(made.id)
