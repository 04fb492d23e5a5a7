"""One agent for the tests that only call it; a factory for those that start, stop and restore their own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.agent.control_plane import AGENT_TOKEN, ControlPlane, Plan
from tests.agent.running import Agent, Client

Start = Callable[..., Agent]


@pytest.fixture(scope="session")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with ControlPlane() as control:
        agent = Agent(control, tmp_path_factory.mktemp("root"))
        agent.hello()
        yield agent
        agent.stop()


@pytest.fixture
def client(agent: Agent) -> Iterator[Client]:
    client = Client(agent.port, AGENT_TOKEN)
    yield client
    client.close()


@pytest.fixture
def home(agent: Agent, request: pytest.FixtureRequest) -> Path:
    """A folder in the agent's home for this test alone."""
    folder = agent.home / f"test-{abs(hash(request.node.nodeid)):x}"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def control() -> Iterator[ControlPlane]:
    with ControlPlane(Plan()) as control:
        yield control


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts agents, and stops those that still run at the end of the test."""
    agents: list[Agent] = []

    def begin(control: ControlPlane, root: Path | None = None, **environment: str) -> Agent:
        folder = root or tmp_path / f"root-{len(agents)}"
        folder.mkdir(exist_ok=True)
        agents.append(Agent(control, folder, **environment))
        return agents[-1]

    yield begin
    for agent in reversed(agents):
        agent.stop()
