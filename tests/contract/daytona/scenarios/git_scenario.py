"""Git in a sandbox, against a repository that lies beside."""

from typing import Any

import pytest
import pytest_asyncio
from sdk import DaytonaError

AUTHOR = {"author": "Ada", "email": "ada@example.org"}


@pytest_asyncio.fixture
async def remote(sandbox: Any, folder: str) -> str:
    """A bare repository with one commit on main."""
    path = f"{folder}/remote.git"
    made = await sandbox.process.exec(
        f"git init -q -b main seed && cd seed && echo hello > readme && git add . "
        f"&& git -c user.name=a -c user.email=a@b commit -q -m first && git clone -q --bare . {path}",
        cwd=folder,
    )
    assert made.exit_code == 0, made.result
    return path


@pytest.mark.proves(
    "gitCloneRepository", "gitGetStatus", "gitListBranches", "gitAddFiles", "gitCommitChanges", "gitPushChanges",
    "cloneRepository", "getStatus", "listBranches", "addFiles", "commitChanges", "pushChanges",
)  # fmt: skip
async def test_a_change_is_committed_and_pushed(sandbox: Any, folder: str, remote: str) -> None:
    work = f"{folder}/work"
    await sandbox.git.clone(remote, work)
    await sandbox.fs.upload_file(b"changed\n", f"{work}/readme")
    await sandbox.fs.upload_file(b"new\n", f"{work}/new")
    before = await sandbox.git.status(work)

    await sandbox.git.add(work, ["."])
    made = await sandbox.git.commit(work, "second", **AUTHOR)
    after = await sandbox.git.status(work)
    await sandbox.git.push(work)

    assert before.current_branch == "main"
    assert {file.name: str(getattr(file.worktree, "value", file.worktree)) for file in before.file_status} == {
        "readme": "Modified",
        "new": "Untracked",
    }
    assert (after.file_status, after.ahead) == ([], 1)
    head = await sandbox.process.exec("git rev-parse main", cwd=remote)
    assert head.result.strip() == made.sha
    assert (await sandbox.git.branches(work)).branches == ["main"]


@pytest.mark.proves(
    "gitCreateBranch", "gitCheckoutBranch", "gitDeleteBranch", "createBranch", "checkoutBranch", "deleteBranch"
)
async def test_branches_are_made_visited_and_deleted(sandbox: Any, folder: str, remote: str) -> None:
    work = f"{folder}/work"
    await sandbox.git.clone(remote, work)

    await sandbox.git.create_branch(work, "feature")
    await sandbox.git.checkout_branch(work, "feature")
    there = (await sandbox.git.status(work)).current_branch
    await sandbox.git.checkout_branch(work, "main")
    await sandbox.git.delete_branch(work, "feature")

    assert there == "feature"
    assert (await sandbox.git.branches(work)).branches == ["main"]


@pytest.mark.proves("gitPullChanges", "pullChanges")
async def test_what_others_pushed_is_pulled(sandbox: Any, folder: str, remote: str) -> None:
    ours, theirs = f"{folder}/ours", f"{folder}/theirs"
    await sandbox.git.clone(remote, ours)
    await sandbox.git.clone(remote, theirs)
    await sandbox.fs.upload_file(b"theirs\n", f"{theirs}/file")
    await sandbox.git.add(theirs, ["file"])
    await sandbox.git.commit(theirs, "theirs", **AUTHOR)
    await sandbox.git.push(theirs)

    await sandbox.git.pull(ours)

    assert await sandbox.fs.download_file(f"{ours}/file") == b"theirs\n"


async def test_a_repository_that_is_not_there_is_told_in_gits_own_words(sandbox: Any, folder: str) -> None:
    with pytest.raises(DaytonaError, match="nowhere"):
        await sandbox.git.clone(f"{folder}/nowhere.git", f"{folder}/work")
