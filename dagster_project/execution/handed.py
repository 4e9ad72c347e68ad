"""What Dagster hands to a step handler, read the same way wherever the step runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster._core.executor.step_delegating import StepHandlerContext
    from dagster._grpc.types import ExecuteStepArgs


def step_key(context: StepHandlerContext) -> str:
    """Give the one step that is meant."""
    (key,) = context.execute_step_args.step_keys_to_execute or []
    return str(key)


def attempt(context: StepHandlerContext) -> int:
    """Give how often the step was tried before."""
    state = context.execute_step_args.known_state
    return state.get_retry_state().get_attempt_count(step_key(context)) if state else 0


def packed(args: ExecuteStepArgs) -> list[str]:
    """Give the arguments of ``dagster api execute_step`` without the words before them."""
    words = list(args.get_command_args())
    return words[words.index("execute_step") + 1 :]
