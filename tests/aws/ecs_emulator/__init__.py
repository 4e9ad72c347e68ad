"""An ECS that runs its tasks: moto's answers, real processes or containers behind them.

A process of its own (``python -m tests.aws.ecs_emulator``), spoken to over HTTP by unmodified boto3. What AWS's ECS
refuses is refused here: sizes that Fargate lacks, overrides that are too long, images that no registry has. A test may
take capacity away, interrupt a task, or kill it.
"""
